"""`skep cluster upgrade-managers` on three managers at work: nothing restarts, nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from .fixtures import starting
from .hosts import Host, wait_until
from .managers import Managers

pytestmark = pytest.mark.timeout(300)

SKEP = Path(sys.executable).with_name("skep")
AWAY = ("not a swarm manager", "Cannot connect to the Docker daemon", "error during connect", "EOF")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managers]:
    with starting(Managers(tmp_path_factory.mktemp("u"), 3, 1)) as made:
        made.managers[0].docker("swarm update --dispatcher-heartbeat 2s")
        yield made


class Restarter(threading.Thread):
    """Restarts the skepd whose name is wished for: what an upgrade does, and this test remains its parent."""

    def __init__(self, swarm: Managers, directory: Path) -> None:
        super().__init__(daemon=True)
        self._hosts = {host.name: host for host in swarm.managers}
        self._dir = directory
        self._ended = threading.Event()
        self.restarted: list[str] = []
        self.command = (
            f"touch {directory}/{{name}}.wish && while [ -e {directory}/{{name}}.wish ]; do sleep .1; done"
        )

    def run(self) -> None:
        while not self._ended.wait(0.05):
            for wish in list(self._dir.glob("*.wish")):
                host = self._hosts[wish.stem]
                host.stop()
                host.start()
                self.restarted.append(wish.stem)
                wish.unlink()

    def end(self) -> None:
        self._ended.set()
        self.join()


class Client(threading.Thread):
    """Creates and removes services all the time, through whichever manager answers."""

    def __init__(self, swarm: Managers) -> None:
        super().__init__(daemon=True)
        self._managers = list(swarm.managers)
        self._ended = threading.Event()
        self.created: set[str] = set()  # those whose creation was acknowledged
        self.removed: set[str] = set()
        self.asked_to_remove: set[str] = set()
        self.longest_s = 0.0

    def run(self) -> None:
        number = 0
        while not self._ended.wait(0.05):
            name, old = f"s{number}", f"s{number - 3}"
            options = ("-q", "-d", "--no-resolve-image", "--constraint", "node.hostname==w0")
            if self._do("service", "create", *options, "--name", name, "image"):
                self.created.add(name)
            if old in self.created:
                self.asked_to_remove.add(old)
                if self._do("service", "rm", old):
                    self.removed.add(old)
            number += 1

    def _do(self, *arguments: str) -> bool:
        """Returns whether the order was acknowledged; one that nobody took is given to the next manager."""
        began = time.monotonic()
        for _ in range(60):
            done = self._managers[0].run(*arguments, check=False)
            if done.returncode == 0:
                self.longest_s = max(self.longest_s, time.monotonic() - began)
                return True
            if not any(text in done.stderr for text in AWAY):
                return False
            self._managers.append(self._managers.pop(0))
            time.sleep(0.1)
        raise AssertionError(f"no manager takes orders: {done.stderr}")

    def end(self) -> None:
        self._ended.set()
        self.join()


def upgrade(
    swarm: Managers, command: str, *options: str, hosts: list[Host] | None = None
) -> subprocess.CompletedProcess[str]:
    given = [part for host in hosts or swarm.managers for part in ("--host", host.url)]
    return subprocess.run(
        [SKEP, "cluster", "upgrade-managers", "--run", command, *given, *options],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


def labels(swarm: Managers) -> list[str]:
    found = swarm.leader().docker("node inspect --format '{{json .Spec.Labels}}' m0 m1 m2")
    return found.splitlines()


def tasks(host: Host, service: str) -> list[tuple[str, str, str, str]]:
    """Returns (task, container, state, since when) of each."""
    client = docker.APIClient(base_url=host.url, version="1.41")
    return sorted(
        (
            task["ID"],
            task["Status"]["ContainerStatus"]["ContainerID"],
            task["Status"]["State"],
            task["Status"]["Timestamp"],
        )
        for task in client.tasks(filters={"service": service})
    )


def test_nothing_restarts_and_nothing_is_lost(three: Managers, tmp_path: Path) -> None:
    manager = three.managers[0]
    options = ("--replicas", "50", "--constraint", "node.hostname==w0", "--no-resolve-image")
    manager.docker("service create -q -d --name big", *options, "image")
    wait_until("it runs", lambda: len(manager.running("big")) == 50)
    before = tasks(manager, "big")
    restarter, client = Restarter(three, tmp_path), Client(three)
    restarter.start()
    client.start()
    try:
        done = upgrade(three, restarter.command)
    finally:
        client.end()
        restarter.end()
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(restarter.restarted) == ["m0", "m1", "m2"]
    assert restarter.restarted[-1] == "m0", "the leader comes last"
    assert done.stdout.splitlines()[-1] == "All 3 managers are upgraded."
    three.wait_reachable(3)
    assert labels(three) == ["{}", "{}", "{}"]
    assert tasks(three.leader(), "big") == before
    listed = set(three.leader().docker("service ls --format {{.Name}}").split())
    assert len(client.removed) > 20, "the client was at work"
    assert client.created - client.asked_to_remove <= listed
    assert not client.removed & listed
    three.leader().docker("service rm", *sorted(listed))


def test_what_stopped_or_was_killed_goes_on_where_it_was(three: Managers, tmp_path: Path) -> None:
    followers = sorted(host.name for host in three.managers if host is not three.leader())
    bad = followers[1]
    restarter = Restarter(three, tmp_path)
    restarter.start()
    try:
        done = upgrade(three, f"[ {{name}} != {bad} ] && {restarter.command}")
        assert done.returncode == 1
        assert f"stopped at [2/3] {bad}: the command ended with status 1" in done.stderr
        assert "run the command again, from any machine: it goes on with" in done.stderr
        assert three.nodes()[bad] == ("Ready", "")
        plan = upgrade(three, restarter.command, "--dry-run").stdout
        assert "An upgrade that was begun before goes on:" in plan
        assert f"1. {followers[0]}" in plan
        assert three.nodes()[bad] == ("Ready", ""), "a dry run does nothing"
        refused_beside_one_that_is_killed(three)
        assert three.nodes()[bad] == ("Ready", "")
        done = upgrade(three, restarter.command)
    finally:
        restarter.end()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is still at work" in done.stdout
    assert restarter.restarted[:2] == followers
    assert len(restarter.restarted) == 3
    three.wait_reachable(3)
    assert labels(three) == ["{}", "{}", "{}"]


def refused_beside_one_that_is_killed(three: Managers) -> None:
    """A run hangs in its command, another one is refused, the first is killed."""
    hosts = [part for host in three.managers for part in ("--host", host.url)]
    command = [SKEP, "cluster", "upgrade-managers", "--run", "exec sleep 30 # {name}", *hosts]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run:
        try:
            assert run.stdout is not None
            assert any("running:" in line for line in run.stdout)
            second = upgrade(three, "true {name}")
            assert second.returncode == 1
            assert "another upgrade of this swarm's managers is at work" in second.stderr
        finally:
            run.kill()


def test_what_cannot_go_well_is_not_begun(three: Managers) -> None:
    alone = upgrade(three, "true {name}", hosts=three.managers[:1])
    assert alone.returncode == 1
    assert "give the address of another manager as well" in alone.stderr
    same = upgrade(three, "true")
    assert "must say which node it is for" in same.stderr
    away = next(host for host in three.managers if host is not three.leader())
    away.stop()
    wait_until("it is missed", lambda: three.nodes().get(away.name, ("", ""))[1] == "Unreachable")
    done = upgrade(three, "true {name}")
    assert done.returncode == 1
    assert f"nothing was done: not every manager is reachable: {away.name}." in done.stderr
    assert labels(three) == ["{}", "{}", "{}"]
    away.start()
    three.wait_reachable(3)
