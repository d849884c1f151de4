"""What an operator does where managers cannot lead, or not all of it: `skepd --safe-mode`, `skep store`."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from skep.cli.store_access import opened
from skep.store import codec
from skep.store.interfaces import Put, Txn

from .fixtures import swarm_fixture
from .hosts import Host, free_port, wait_until
from .managers import Managers, create, wait_running
from .skep_cli import skep

pytestmark = pytest.mark.timeout(180)

GARBAGE = b"\xc1 is nothing that msgpack has"


managers = swarm_fixture(lambda directory: Managers(directory, managers=1, workers=1), own=True)


def store(host: Host, *arguments: str) -> str:
    """Returns what `skep store` prints, once it succeeded."""
    done = skep("store", arguments[0], *arguments[1:], "--state-dir", host.state_dir)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write(host: Host, key: str, value: bytes) -> bytes:
    """Puts a value into the store of a stopped manager; returns the one of before."""

    async def run() -> bytes:
        async with opened(host.state_dir, "etcd", "", to_write=True) as found:
            before = (await found.store.load(key))[0][0].value
            await found.store.commit(Txn((Put(key, value),)))
            return before

    return asyncio.run(run())


def id_of(host: Host, name: str) -> str:
    return host.docker("service inspect --format {{.ID}}", name)


def running(host: Host, name: str) -> list[str]:
    return sorted(row["ID"] for row in host.running(name))


def since(host: Host, name: str) -> str:
    """Returns since when its tasks on the worker, whose daemon is never stopped, run: not anew."""
    ids = host.docker("service ps -q --no-trunc -f node=w0 -f desired-state=running", name)
    return host.docker("inspect --type task --format '{{.ID}} {{.Status.Timestamp}}'", *sorted(ids.split()))


def listed(host: Host) -> str:
    """Returns the services' names, or why they cannot be had."""
    done = host.run("service ls --format {{.Name}}", check=False)
    return done.stdout.strip() or done.stderr.strip()


def warnings(host: Host) -> str:
    return "\n".join(json.loads(host.docker("info --format '{{json .Warnings}}'")) or [])


def start_again(host: Host, *options: str) -> None:
    host.options = options
    host.start(wait_for=("node", "ls"))


def test_a_value_that_cannot_be_read_and_the_way_out(managers: Managers) -> None:
    manager = managers.first
    create(manager, "web", 3)
    create(manager, "broken", 2)
    wait_running(manager, "web", 3)
    wait_running(manager, "broken", 2)
    web, broken = running(manager, "web"), running(manager, "broken")
    began = since(manager, "broken")
    assert began, "some of it runs on the worker"
    key = f"services/{id_of(manager, 'broken')}"
    manager.stop()

    # A stopped manager's store is looked at, and is as it was.
    assert f"/skep/{key}" in store(manager, "ls")
    assert store(manager, "ls", "services/").count("\n") == 2
    assert json.loads(store(manager, "get", key))["spec"]["Name"] == "broken", "opened with the data key"
    assert store(manager, "ls", "--quarantined") == ""
    assert not list(manager.state_dir.glob("look-*"))

    # Broken, it costs nobody else anything.
    before = write(manager, codec.PREFIX + key, GARBAGE)
    start_again(manager)
    wait_running(manager, "web", 3)
    assert manager.docker("service ls --format {{.Name}}") == "web"
    wait_until("it is said", lambda: "1 stored values cannot be read" in warnings(manager))
    assert f"/skep/{key}" in store(manager, "ls", "--quarantined")
    taken = manager.run("service create -d --name broken image", check=False)
    assert "already exists" in taken.stderr
    time.sleep(2)  # the worker is back, and has been told what it is to run

    # Repaired, everything is as it was: no task was ended.
    manager.stop()
    write(manager, codec.PREFIX + key, before)
    start_again(manager)
    wait_running(manager, "broken", 2)
    wait_running(manager, "web", 3)
    assert (running(manager, "web"), running(manager, "broken")) == (web, broken)

    assert since(manager, "broken") == began

    # Removed, it is gone with its name and its tasks.
    manager.stop()
    write(manager, codec.PREFIX + key, GARBAGE)
    asked = skep("store rm {} --state-dir {}", key, manager.state_dir)
    assert asked.returncode != 0
    assert "WARNING! This will remove" in asked.stderr
    assert f"/skep/{key}" in store(manager, "ls"), "nobody has said yes"
    gone = store(manager, "rm", key, "--force")
    assert f"Deleted: /skep/{key}\n" in gone
    assert "Deleted: /skep/names/service/broken\n" in gone
    assert gone.count("Deleted: /skep/tasks/") >= 1
    start_again(manager)
    wait_running(manager, "web", 3)
    assert not warnings(manager)
    create(manager, "broken", 1)
    wait_running(manager, "broken", 1)


def test_safe_mode_decides_nothing_and_takes_orders(managers: Managers) -> None:
    manager = managers.first
    create(manager, "web", 2)
    create(manager, "other", 1)
    wait_running(manager, "web", 2)
    before = running(manager, "web")
    manager.docker("swarm update --dispatcher-heartbeat 1s")
    manager.stop()
    start_again(manager, "--safe-mode")
    assert "safe mode" in warnings(manager)
    assert "leader.safe_mode" in (managers.directory / f"{manager.name}.log").read_text()

    manager.docker("service update -q -d --replicas 5 web")
    create(manager, "new", 1)
    manager.docker("service rm other")
    time.sleep(8)  # longer than a node may be away before it counts as down, and its tasks move
    assert len(manager.docker("service ps -q web").split()) == 2
    assert not manager.docker("service ps -q new")
    assert sorted(manager.docker("service ls --format {{.Name}}").split()) == ["new", "web"]
    refused = skep("store rm cluster --force --state-dir", manager.state_dir)
    assert "without it there is no swarm" in refused.stderr
    key = f"services/{id_of(manager, 'new')}"
    assert f"Deleted: /skep/{key}\n" in store(manager, "rm", "-f", key), "online, too"
    wait_until("it is not in anybody's memory", lambda: listed(manager) == "web")

    manager.stop()
    start_again(manager)
    wait_running(manager, "web", 5)
    assert set(before) <= set(running(manager, "web"))
    assert listed(manager) == "web"
    wait_until("it is no longer said", lambda: "safe mode" not in warnings(manager))

    # One that decides does not write anew what it had in its memory.
    assert "/skep/tasks/" in store(manager, "rm", "-f", f"services/{id_of(manager, 'web')}")
    wait_until("it knows nothing of it", lambda: not listed(manager))
    create(manager, "web", 1)
    wait_running(manager, "web", 1)
    assert store(manager, "ls", "services/").count("\n") == 1


def test_a_store_of_a_swarm_that_locks_takes_its_key(short_dir: Path) -> None:
    host = Host(short_dir, "m", "simulated").start()
    try:
        address = f"127.0.0.1:{free_port()}"
        host.docker("swarm init --autolock --advertise-addr {} --listen-addr {}", address, address)
        key = host.docker("swarm unlock-key -q")
        host.stop()
        command = ("store", "get", "cluster", "--state-dir", host.state_dir)
        assert key in skep(*command, environment={"SKEP_UNLOCK_KEY": key}).stdout, "opened with the data key"
        other = skep(*command, environment={"SKEP_UNLOCK_KEY": key[:-4] + "AAAA"})
        assert other.returncode != 0
        assert "invalid key provided" in other.stderr
        assert skep(*command).returncode != 0, "it is asked for, and nobody answers"
    finally:
        host.stop()


def test_one_of_several_managers_does_not_remove_alone(short_dir: Path) -> None:
    made = Managers(short_dir, managers=3, workers=0)
    try:
        made.start()
        create(made.first, "web", 1)
        key = f"services/{id_of(made.first, 'web')}"
        for host in made.managers:
            host.stop()
        assert f"/skep/{key}" in store(made.first, "ls"), "it is looked at alone"
        refused = skep("store rm -f {} --state-dir {}", key, made.first.state_dir)
        assert refused.returncode != 0
        assert "skepd --safe-mode" in refused.stderr
        for host in made.managers:
            host.options = ("--safe-mode",)
            host.start(wait_for=("info",))
        wait_until("somebody leads", lambda: "web" in made.first.run("service ls", check=False).stdout)
        wait_until("any manager says so", lambda: "safe mode" in warnings(made.managers[1]))
        assert f"Deleted: /skep/{key}\n" in store(made.managers[1], "rm", "-f", key)
        wait_until("whoever leads knows nothing of it", lambda: not listed(made.first))
    finally:
        made.stop()
