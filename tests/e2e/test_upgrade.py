"""A state directory of the skep before sealing: the new skepd opens it, seals it, and goes on."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from skep.api.interfaces import InitRequest
from skep.daemon.founding import found_swarm
from skep.daemon.state import StateDir
from skep.model.cluster import Cluster
from skep.rpc.certificates import save_keys
from skep.runtime.ids import id_source
from skep.store import codec
from skep.store.etcd.client import EtcdStore
from skep.store.etcd.supervisor import EtcdProcess
from skep.store.interfaces import Put, Txn
from skep.store.seal import is_sealed

from .hosts import Host, free_port, wait_until
from .test_autolock import KEY, restart, unlock

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def old(short_dir: Path) -> Iterator[Host]:
    """A manager of schema 1, stopped: its cluster lies unsealed in etcd, and it has no data key."""
    host = Host(short_dir, "m", "simulated")
    asyncio.run(write_old(host.state_dir))
    try:
        yield host
    finally:
        if host.process is not None:
            host.run("swarm leave --force", check=False)
        host.stop()


async def write_old(path: Path) -> None:
    """Writes what that skep wrote: no sealing, no unlock key, schema 1."""
    address = ("127.0.0.1", free_port())
    new_id = id_source(random.Random(1))
    membership, keys, first = found_swarm(InitRequest(), "m", address, address, time.time(), new_id)
    state = StateDir(path)
    save_keys(state.certificates, keys)
    etcd = EtcdProcess(path)
    await etcd.start()
    store = EtcdStore(etcd.target)
    await store.commit(Txn(tuple(as_before(put) for put in first)))
    await store.close()
    await etcd.stop()
    state.save(membership)
    state.close()
    (path / "etcd" / "log").chmod(0o644)  # as that skep left it


def as_before(put: Put) -> Put:
    if put.key == codec.SCHEMA_KEY:
        return Put(put.key, b"1")
    if put.key == codec.CLUSTER_KEY:
        fields = msgspec.msgpack.decode(put.value)
        del fields["unlock_key"]
        return Put(put.key, msgspec.msgpack.encode(fields))
    return put


async def values_of(path: Path) -> dict[str, bytes]:
    """Returns what lies in the running manager's etcd, as it lies there."""
    store = EtcdStore(f"unix:{path}/etcd/run/c:0")
    pairs, _ = await store.load(codec.PREFIX)
    await store.close()
    return {pair.key: pair.value for pair in pairs}


async def set_schema(path: Path, number: int) -> None:
    etcd = EtcdProcess(path)
    await etcd.start()
    store = EtcdStore(etcd.target)
    await store.commit(Txn((Put(codec.SCHEMA_KEY, str(number).encode()),)))
    await store.close()
    await etcd.stop()


def test_an_old_state_directory_is_sealed_and_works(old: Host) -> None:
    old.start()
    assert old.docker("node ls --format '{{.Hostname}} {{.ManagerStatus}}'") == "m Leader"
    kept = asyncio.run(values_of(old.state_dir))
    assert kept[codec.SCHEMA_KEY] == b"2"
    assert is_sealed(kept[codec.CLUSTER_KEY])
    assert (old.state_dir / "etcd" / "log").stat().st_mode & 0o077 == 0
    token = old.docker("swarm join-token -q worker")
    restart(old)
    assert old.docker("swarm join-token -q worker") == token
    (key,) = KEY.findall(old.docker("swarm update --autolock=true"))
    restart(old)
    assert unlock(old, key).returncode == 0


def test_a_kill_at_any_moment_of_the_upgrade(old: Host) -> None:
    for after_s in (0.4, 0.8, 1.0, 1.2, 1.6):
        start = time.monotonic()
        old.start(wait_for=("--version",))  # does not wait for the daemon
        time.sleep(max(0.0, start + after_s - time.monotonic()))
        old.kill()
    old.start()
    kept = asyncio.run(values_of(old.state_dir))
    assert kept[codec.SCHEMA_KEY] == b"2"
    assert msgspec.msgpack.decode(kept[next(k for k in kept if codec.is_node(k))])["id"]
    assert is_sealed(kept[codec.CLUSTER_KEY])
    assert old.docker("swarm join-token -q worker").startswith("SWMTKN-1-")


def test_a_newer_store_is_refused_and_says_so(old: Host) -> None:
    old.start()
    old.stop()
    asyncio.run(set_schema(old.state_dir, codec.SCHEMA_VERSION + 1))
    old.start(wait_for=("info",))
    wait_until("its log says why", lambda: "this skepd knows versions up to 2" in old.log())
    kept = asyncio.run(values_of(old.state_dir))
    assert kept[codec.SCHEMA_KEY] == b"3"


def test_the_old_cluster_is_what_was_written() -> None:
    """The builder above strips the new field: an old skepd's cluster has to decode."""
    _, _, first = found_swarm(
        InitRequest(), "m", ("1.2.3.4", 1), ("1.2.3.4", 1), 1.0, id_source(random.Random(1))
    )
    (put,) = [as_before(put) for put in first if put.key == codec.CLUSTER_KEY]
    assert b"unlock_key" not in put.value
    assert not is_sealed(put.value)
    assert codec.decode_object(Cluster, put.key, put.value, 1).unlock_key == ""
