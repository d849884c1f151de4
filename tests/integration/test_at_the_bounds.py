"""A swarm that holds as much as it may: a new leader reads it, and a backup is taken of it.

All kinds that have their own value are at their share: 543 MB in all.
"""

from __future__ import annotations

import itertools
import random
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skep.manager.backup import take
from skep.manager.loading import load
from skep.model.bounds import (
    BUCKET_MAX_BYTES,
    CONFIG_DATA_MAX_BYTES,
    KIB,
    LABELS_MAX_BYTES,
    MIB,
    NETWORK_MAX_BYTES,
    NODE_MAX_BYTES,
    SERVICE_MAX_BYTES,
    SERVICE_SPEC_MAX_BYTES,
    SHARES,
)
from skep.model.material import ConfigSpec, Material
from skep.model.network import Network, NetworkSpec
from skep.model.node import Node, NodeDescription, NodeSpec
from skep.model.service import Service, first_template
from skep.model.spec import ServiceSpec
from skep.model.states import FAILED, SHUTDOWN
from skep.model.task import Task, TaskStatus
from skep.runtime.errors import TooLarge
from skep.runtime.ids import id_source
from skep.store import codec
from skep.store.backup import check
from skep.store.bounded import BoundedStore
from skep.store.buckets import fitted
from skep.store.etcd.client import EtcdStore
from skep.store.etcd.pages import MESSAGE_MAX_BYTES, Pages
from skep.store.etcd.supervisor import EtcdProcess
from skep.store.interfaces import Put, Txn
from skep.store.seal import Sealer
from skep.store.sealed import SealedStore
from tests.clusters import new_cluster

new_id = id_source(random.Random(3))
LOAD_S = 60.0  # on a busy machine; alone it is 6
MEMORY_MAX_BYTES = 1400 * MIB


@pytest.mark.timeout(240)
async def test_a_new_leader_reads_and_a_backup_holds_as_much_as_a_swarm_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 280 configs of 1 MB no manager could lead again, and no backup be taken."""
    pages: list[int] = []
    before = memory_bytes()
    came = Pages.came
    monkeypatch.setattr(Pages, "came", lambda p, n, size: (pages.append(size), came(p, n, size))[1])
    etcd = EtcdProcess(tmp_path)
    await etcd.start()
    store = EtcdStore(etcd.target)
    try:
        sealed = SealedStore(store, Sealer(b"k" * 32))
        bounded = BoundedStore(sealed)
        await bounded.load(codec.PREFIX)
        await bounded.commit(Txn((Put(codec.SCHEMA_KEY, b"2"), Put(codec.CLUSTER_KEY, cluster()))))
        written = {kind: await fill(bounded, make) for kind, make in MAKERS.items()}
        for share in SHARES:
            if share.kind in written:
                assert bounded.totals[share.kind] > 0.97 * share.total_max_bytes
        began = time.monotonic()
        view = await load(SealedStore(store, Sealer(b"k" * 32)))
        assert time.monotonic() - began < LOAD_S
        assert len(view.materials) == written["secrets and configs"]
        assert len(view.services) == written["services"]
        assert len(view.nodes) == written["nodes"]
        assert len(view.tasks) > 40_000
        del view
        assert max(pages) < MESSAGE_MAX_BYTES
        with (tmp_path / "backup").open("wb") as output:
            for piece in await take(store, "c", 1.0, bytes, False):
                output.write(piece)
        with (tmp_path / "backup").open("rb") as stream:
            header = check(stream)
        assert header.services == written["services"]
        assert header.bytes > 0.97 * sum(bounded.totals.values())
        assert memory_bytes() - before < MEMORY_MAX_BYTES
    finally:
        await store.close()
        await etcd.stop()


def memory_bytes() -> int:
    """Returns how much this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


async def fill(store: BoundedStore, make: Callable[[], Put]) -> int:
    """Writes as many as the store takes. Returns how many."""
    for count in itertools.count():
        try:
            await store.commit(Txn((make(),)))
        except TooLarge:
            return count
    raise AssertionError("a count has no end")


def cluster() -> bytes:
    return codec.encode_object(new_cluster())


def config() -> Put:
    object_id = new_id()
    labels = {"l": "x" * (LABELS_MAX_BYTES - KIB)}
    spec = ConfigSpec(name=object_id, labels=labels, data=bytes(CONFIG_DATA_MAX_BYTES - 1))
    material = Material(kind="config", id=object_id, spec=spec, created_at=0, updated_at=0)
    return Put(codec.material_key("config", object_id), codec.encode_object(material))


def service() -> Put:
    object_id = new_id()
    spec = ServiceSpec(name=object_id, labels={"l": "x" * (SERVICE_SPEC_MAX_BYTES - KIB)})
    padding = ServiceSpec(
        name=object_id, labels={"l": "x" * (SERVICE_MAX_BYTES - SERVICE_SPEC_MAX_BYTES - KIB)}
    )
    made = Service(
        id=object_id,
        spec=spec,
        previous_spec=padding,
        templates=[first_template(spec)],
        created_at=0,
        updated_at=0,
    )
    return Put(codec.service_key(object_id), codec.encode_object(made))


def network() -> Put:
    object_id = new_id()
    spec = NetworkSpec(name=object_id, driver="bridge", labels={"l": "x" * (NETWORK_MAX_BYTES - KIB)})
    made = Network(id=object_id, spec=spec, created_at=0, updated_at=0)
    return Put(codec.network_key(object_id), codec.encode_object(made))


def node() -> Put:
    object_id = new_id()
    spec = NodeSpec(labels={"l": "x" * (NODE_MAX_BYTES - KIB)})
    made = Node(id=object_id, spec=spec, description=NodeDescription(), created_at=0, updated_at=0)
    return Put(codec.node_key(object_id), codec.encode_object(made))


def bucket() -> Put:
    """The tasks of a service on a node, which have ended with so much to say that not all of it is kept."""
    node_id, service_id = new_id(), new_id()
    return Put(codec.bucket_key(node_id, service_id), fitted(tasks(node_id, service_id), BUCKET_MAX_BYTES))


def tasks(node_id: str, service_id: str) -> Iterator[Task]:
    for n in range(900):
        result = TaskStatus(FAILED, float(n), "started", "E" * 2400, "c" * 64)
        yield Task(new_id(), service_id, node_id, n + 1, 1, SHUTDOWN, float(n), float(n), 0.0, result)


MAKERS: dict[str, Callable[[], Put]] = {
    "secrets and configs": config,
    "services": service,
    "networks": network,
    "nodes": node,
    "tasks": bucket,
}
