"""The data key is changed while a swarm runs: what a copy of it from before opens is nothing that is there after."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from skep.daemon.keys import sealer_of
from skep.runtime.errors import Corrupt, Unavailable
from skep.store import codec
from skep.store.interfaces import KeyValue

from .fixtures import swarm_fixture
from .hosts import Host, wait_until
from .managers import Managers
from .skep_cli import skep_ok
from .test_autolock import KEY, key_of, unlock
from .test_backup import restore
from .test_secrecy import etcd_of

pytestmark = pytest.mark.timeout(180)

CHANGE_S = 30.0  # three seconds of rest, a majority's disks, a new lead


three = swarm_fixture(lambda directory: Managers(directory, managers=3, workers=0), own=True)


def key_file(host: Host) -> bytes:
    return (host.state_dir / "keys" / "data-key").read_bytes()


async def _pairs(host: Host) -> list[KeyValue]:
    store = etcd_of(host.state_dir)
    try:
        async with asyncio.timeout(CHANGE_S):
            while True:
                try:
                    return (await store.load(codec.PREFIX))[0]
                except Unavailable:  # etcd elects
                    await asyncio.sleep(0.1)
    finally:
        await store.close()


def opened(host: Host, file: bytes, key: str = "") -> tuple[int, int]:
    """Returns how many values of the store a key file opens, and how many it does not."""
    sealer, yes, no = sealer_of(file, key), 0, 0
    for pair in asyncio.run(_pairs(host)):
        if codec.is_sealed_key(pair.key):
            try:
                sealer.open(pair.value, pair.key)
                yes += 1
            except Corrupt:
                no += 1
    return yes, no


def secret(by: Host, name: str, size: int = 10) -> None:
    by.docker("secret create {} -", name, data=f"{name} ".encode() * (size // len(name)))


def names(by: Host) -> set[str]:
    return set(by.docker("secret ls --format {{.Name}}").split())


def wait_changed(hosts: list[Host], before: bytes, key: str = "") -> None:
    """Waits until the key file of before opens nothing, and all managers have one other key."""

    def changed() -> bool:
        files = [key_file(host) for host in hosts]
        found = [json.loads(file) for file in files]
        return (
            opened(hosts[0], before)[0] == 0
            and not any(file["older"] for file in found)
            and all(opened(host, file, key)[1] == 0 for host, file in zip(hosts, files, strict=True))
        )

    wait_until("the data key is changed everywhere", changed, CHANGE_S)


def test_what_is_made_after_locking_does_not_open_with_the_file_of_before(three: Managers) -> None:
    by = three.first
    secret(by, "before")
    plain = key_file(by)
    assert opened(by, plain)[1] == 0
    (key,) = KEY.findall(by.docker("swarm update --autolock=true"))
    assert key_of(by) == key
    wait_changed(three.managers, plain, key)
    secret(by, "after")
    assert opened(by, plain)[0] == 0
    assert names(by) == {"before", "after"}

    locked = key_file(by)
    second = KEY.findall(by.docker("swarm unlock-key --rotate"))[0]
    wait_until("it is changed again", lambda: opened_by_copy(by, locked, key) == 0, CHANGE_S)
    for host in three.managers:
        host.kill()
    for host in three.managers:
        host.start(wait_for=("info",))
    for host in three.managers:
        assert unlock(host, second).returncode == 0
    assert names(by) == {"before", "after"}, "whenever all are started again"


def opened_by_copy(host: Host, file: bytes, key: str) -> int:
    return opened(host, file, key)[0]


def test_the_file_of_a_manager_that_was_removed_opens_nothing_of_later(
    three: Managers, tmp_path: Path
) -> None:
    first, _, gone = three.managers
    secret(first, "before")
    stolen = key_file(gone)
    skep_ok("backup create", tmp_path / "before", on=first)
    first.docker("node demote", gone.name)
    wait_changed(three.managers[:2], stolen)
    secret(first, "after")
    assert opened(first, stolen)[0] == 0
    assert names(first) == {"before", "after"}
    skep_ok("backup create", tmp_path / "after", on=first)
    gone.docker("swarm leave")
    for backup, kept in (("before", {"before"}), ("after", {"before", "after"})):
        restore(gone, tmp_path / backup)
        assert names(gone) == kept
        gone.docker("swarm leave --force")


def test_a_manager_that_was_away_gets_the_key_and_can_lead(three: Managers) -> None:
    first, second, away = three.managers
    three.leader()
    stolen = key_file(away)
    away.kill()
    assert "the data key is changed" in skep_ok("cluster rotate-data-key", on=first)
    wait_changed([first, second], stolen)
    secret(first, "meanwhile")
    away.start()
    wait_changed(three.managers, stolen)
    for host in (first, second):
        if three.leader(away) is not away:
            # Not before etcd counts who was away again: the quorum would be lost.
            demote = ("node", "demote", host.name)
            wait_until("it may", lambda demote=demote: away.run(*demote, check=False).returncode == 0)
            wait_until("it is a worker", lambda host=host: not (host.state_dir / "keys").exists(), 30)
    assert three.leader(away) is away
    assert names(away) == {"meanwhile"}


def test_a_leader_that_is_killed_while_it_seals_anew_loses_nothing(three: Managers) -> None:
    by = three.first
    for n in range(30):
        secret(by, f"secret{n}", 400_000)
    leader, stolen = three.leader(), key_file(by)
    log = Path(three.directory / f"{leader.name}.log")
    skep_ok("cluster rotate-data-key --detach", on=by)
    deadline = time.monotonic() + CHANGE_S
    while "data_key.changed" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.005)
    leader.kill()
    assert "data_key.changed" in log.read_text(), "or it was killed before"
    others = [host for host in three.managers if host is not leader]
    wait_until("the next one finishes", lambda: opened(others[0], stolen)[0] == 0, CHANGE_S)
    assert names(others[0]) == {f"secret{n}" for n in range(30)}
    leader.start()
    wait_changed(three.managers, stolen)
    for host in three.managers:
        host.kill()
    for host in three.managers:
        host.start()
    assert len(names(by)) == 30
