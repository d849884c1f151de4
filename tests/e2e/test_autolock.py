"""Autolock as Docker's: a restarted manager is locked, says so, and serves nothing until it is unlocked."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from skep.manager.control.autolock import parse_unlock_key
from skep.runtime.errors import Corrupt
from skep.store.seal import Sealer

from .hosts import Host, free_port, wait_until

pytestmark = pytest.mark.timeout(120)

LOCKED = (
    "Swarm is encrypted and needs to be unlocked before it can be used."
    ' Please use "docker swarm unlock" to unlock it.'
)
KEY = re.compile(r"SWMKEY-1-[A-Za-z0-9+/]{43}")


@pytest.fixture
def host(short_dir: Path) -> Iterator[Host]:
    made = Host(short_dir, "m", "simulated").start()
    try:
        yield made
    finally:
        if made.process is not None:
            made.run("swarm leave --force", check=False)
        made.stop()


def init(host: Host, *options: str) -> str:
    """Makes a swarm and returns what the client prints."""
    address = f"127.0.0.1:{free_port()}"
    return host.docker("swarm init --advertise-addr {} --listen-addr {}", address, address, *options)


def key_of(host: Host) -> str:
    return host.docker("swarm unlock-key -q")


def state_of(host: Host) -> str:
    return host.docker("info --format {{.Swarm.LocalNodeState}}")


def unlock(host: Host, key: str) -> subprocess.CompletedProcess[str]:
    return host.run("swarm unlock", check=False, data=f"{key}\n".encode())


def restart(host: Host) -> None:
    host.stop()
    host.start(wait_for=("info",))


def http(host: Host, method: str, path: str, body: str = "") -> tuple[int, str]:
    """Returns status and body, with the headers before it."""
    command = ["curl", "-si", "-X", method, "--unix-socket", str(host.socket), f"http://d{path}"]
    if body:
        command += ["-H", "Content-Type: application/json", "-d", body]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    return int(answer.split()[1]), answer


def test_a_restarted_manager_is_locked_until_it_is_unlocked(host: Host) -> None:
    said = init(host, "--autolock")
    (key,) = KEY.findall(said)
    assert key_of(host) == key
    host.docker("service create -q -d --no-resolve-image --name s image")
    node_id = host.docker("info --format {{.Swarm.NodeID}}")
    restart(host)

    assert state_of(host) == host.pinged() == "locked"
    for command in (
        ("node", "ls"),
        ("service", "ls"),
        ("swarm", "join-token", "worker"),
        ("swarm", "unlock-key"),
        ("swarm", "update", "--autolock=false"),
        ("secret", "ls"),
    ):
        done = host.run(*command, check=False)
        assert (done.returncode, LOCKED in done.stderr) == (1, True), (command, done.stderr)
    assert http(host, "GET", "/swarm")[0] == 503
    assert "Swarm: locked" in http(host, "GET", "/_ping")[1]
    assert not (host.state_dir / "etcd" / "pid").exists(), "no etcd runs"
    for command in (("swarm", "init"), ("swarm", "join", "--token", "SWMTKN-1-x", "127.0.0.1:1")):
        assert "already part of a swarm" in host.run(*command, check=False).stderr

    wrong = key[:9] + key[9:][::-1]
    assert "swarm could not be unlocked: invalid key provided" in unlock(host, wrong).stderr
    assert "invalid key string" in unlock(host, "SWMKEY-1-nonsense").stderr
    assert http(host, "POST", "/swarm/unlock", f'{{"UnlockKey":"{wrong}"}}')[0] == 401
    assert http(host, "POST", "/swarm/unlock", '{"UnlockKey":"nonsense"}')[0] == 400
    assert state_of(host) == "locked"

    done = unlock(host, key)
    assert done.returncode == 0, done.stderr
    assert state_of(host) == "active"
    assert host.docker("node ls --format {{.ID}}") == node_id
    wait_until("its agent is back", lambda: len(host.running("s")) == 1)
    assert "swarm is not locked" in unlock(host, key).stderr
    assert http(host, "POST", "/swarm/unlock", f'{{"UnlockKey":"{key}"}}')[0] == 409


def test_turning_it_on_rotating_and_turning_it_off(host: Host) -> None:
    init(host)
    assert "no unlock key is set" in host.run("swarm unlock-key", check=False).stderr
    assert "autolock is not turned on" in host.run("swarm unlock-key --rotate", check=False).stderr
    restart(host)
    assert state_of(host) == "active", "off: nothing is locked"

    (first,) = KEY.findall(host.docker("swarm update --autolock=true"))
    host.kill()
    host.start(wait_for=("info",))
    assert state_of(host) == "locked"
    assert unlock(host, first).returncode == 0

    (second,) = KEY.findall(host.docker("swarm unlock-key --rotate"))
    assert second != first
    assert key_of(host) == second
    host.kill()
    host.start(wait_for=("info",))
    assert "invalid key provided" in unlock(host, first).stderr
    assert unlock(host, second).returncode == 0

    host.docker("swarm update --autolock=false")
    assert "no unlock key is set" in host.run("swarm unlock-key", check=False).stderr
    host.kill()
    host.start()
    assert state_of(host) == "active"
    (third,) = KEY.findall(host.docker("swarm update --autolock=true"))
    assert third not in (first, second)


def test_a_manager_that_missed_a_rotation_opens_with_the_old_key_and_takes_the_new(host: Host) -> None:
    """The cluster was written, and the power failed before the file was: the user has only the old key."""
    (first,) = KEY.findall(init(host, "--autolock"))
    file = host.state_dir / "keys" / "data-key"
    before = file.read_bytes()
    host.docker("swarm unlock-key --rotate")
    host.kill()
    file.write_bytes(before)
    host.start(wait_for=("info",))
    assert unlock(host, first).returncode == 0
    second = key_of(host)
    assert second != first
    restart(host)
    assert "invalid key provided" in unlock(host, first).stderr
    assert unlock(host, second).returncode == 0


def test_a_locked_manager_leaves_only_by_force(host: Host) -> None:
    init(host, "--autolock")
    restart(host)
    done = host.run("swarm leave", check=False)
    assert "Swarm is encrypted and locked. Please unlock it first or use `--force`" in done.stderr
    host.docker("swarm leave --force")
    assert state_of(host) == "inactive"
    init(host)
    restart(host)
    assert state_of(host) == "active"


def test_a_lost_data_key_is_named(host: Host) -> None:
    init(host)
    host.stop()
    file = host.state_dir / "keys" / "data-key"
    whole = file.read_bytes()
    file.unlink()
    with pytest.raises(AssertionError, match=r"keys/data-key.*copy it from another manager"):
        host.start()
    file.write_bytes(whole)
    host.start()
    assert host.docker("node ls -q")


def test_unlocking_needs_a_locked_manager(host: Host) -> None:
    key = "SWMKEY-1-" + "A" * 43
    status, answer = http(host, "POST", "/swarm/unlock", f'{{"UnlockKey":"{key}"}}')
    assert status == 503
    assert "This node is not a swarm manager" in answer


@pytest.fixture
def three(short_dir: Path) -> Iterator[list[Host]]:
    """Three managers that lock themselves."""
    hosts = [Host(short_dir, f"m{n}", "simulated").start() for n in range(3)]
    try:
        address = f"127.0.0.1:{free_port()}"
        hosts[0].docker("swarm init --autolock --advertise-addr {} --listen-addr {}", address, address)
        token = hosts[0].docker("swarm join-token -q manager")
        for host in hosts[1:]:
            own = f"127.0.0.1:{free_port()}"
            host.docker(
                "swarm join --advertise-addr {} --listen-addr {} --token {} {}", own, own, token, address
            )
        yield hosts
    finally:
        for host in hosts:
            if host.process is not None:
                host.process.kill()
                host.process.wait(10)


def sealed_with(host: Host, key: str) -> bool:
    """True where this manager's files are what the key opens."""
    try:
        opened = data_key_of(host, key)
    except Corrupt:
        return False
    return opened is not None and b"SEALED" in (host.state_dir / "certificates/swarm-node.key").read_bytes()


def data_key_of(host: Host, key: str) -> bytes | None:
    """Returns the data key in a manager's sealed file; None where it is not sealed. Errors: `Corrupt`."""
    kept = json.loads((host.state_dir / "keys" / "data-key").read_bytes())
    if not kept["is_sealed"]:
        return None
    return Sealer(parse_unlock_key(key)).open(base64.b64decode(kept["key"]), "keys/data-key")


def test_every_manager_locks_with_the_swarms_key(three: list[Host]) -> None:
    first = key_of(three[1])
    assert all(sealed_with(host, first) for host in three), "from the moment they are managers"
    assert len({data_key_of(host, first) for host in three}) == 1
    second = KEY.findall(three[2].docker("swarm unlock-key --rotate"))[0]
    wait_until("all follow", lambda: all(sealed_with(host, second) for host in three), 10)

    restart(three[1])
    assert state_of(three[1]) == "locked"
    assert LOCKED in three[1].run("node ls", check=False).stderr
    third = KEY.findall(three[0].docker("swarm unlock-key --rotate"))[0]
    assert "invalid key provided" in unlock(three[1], third).stderr, "it was away"
    assert unlock(three[1], second).returncode == 0
    assert three[1].docker("node ls -q").count("\n") == 2
    wait_until("it takes the new key", lambda: sealed_with(three[1], third), 10)

    three[0].docker("swarm update --autolock=false")
    wait_until("all are plain", lambda: all(data_key_of(host, third) is None for host in three), 10)
    restart(three[2])
    assert state_of(three[2]) == "active"


def test_a_demoted_manager_keeps_no_key_of_the_swarm(three: list[Host]) -> None:
    wait_until("all vote", lambda: three[0].docker("node ls").count("Reachable") == 2)
    three[0].docker("node demote m2")
    wait_until("it is a worker", lambda: not (three[2].state_dir / "keys").exists(), 30)
    wait_until("it is active", lambda: state_of(three[2]) == "active")
    restart(three[2])
    wait_until(
        "workers are never locked", lambda: state_of(three[2]) == "active", 10
    )  # it is pending until it is heard
    three[0].docker("node promote m2")
    wait_until("it is sealed again", lambda: sealed_with_if_there(three[2], key_of(three[0])), 30)


def sealed_with_if_there(host: Host, key: str) -> bool:
    return (host.state_dir / "keys" / "data-key").exists() and sealed_with(host, key)
