"""From the store to a view: what a new leader does first."""

from __future__ import annotations

import asyncio

from skep.model.attachment import Attachment
from skep.model.cluster import Cluster
from skep.model.material import Material
from skep.model.network import Network
from skep.model.node import Node
from skep.model.service import RemovedService, Service
from skep.store import codec
from skep.store.port import KeyValue, Store
from skep.store.view import View

BREATH = 200  # keys decoded before the loop goes round: a bucket of 43 tasks is 0.2 ms


async def load(store: Store) -> View:
    """Returns the view of all that is stored. Errors: `Corrupt`, `Unavailable`."""
    pairs, revision = await store.load(codec.PREFIX)
    schema = [pair.value for pair in pairs if pair.key == codec.SCHEMA_KEY]
    codec.check_schema(schema[0] if schema else None)
    view = View()
    view.revision = revision
    # Networks first: services have addresses of them. Tasks last: what they take is in their services.
    for pair in pairs:
        if codec.is_network(pair.key):
            view.put_network(codec.decode_object(Network, pair.key, pair.value, pair.revision))
    buckets = []
    for pair in pairs:
        if codec.is_bucket(pair.key):
            buckets.append(pair)
        else:
            _put_object(view, pair)
    for n, pair in enumerate(buckets):
        for task in codec.decode_bucket(pair.key, pair.value, pair.revision):
            view.put_task(task)
        if n % BREATH == BREATH - 1:
            await asyncio.sleep(0)
    view.order_slots()
    return view


def _put_object(view: View, pair: KeyValue) -> None:
    if pair.key == codec.CLUSTER_KEY:
        view.put_cluster(codec.decode_object(Cluster, pair.key, pair.value, pair.revision))
    elif pair.key == codec.INCARNATION_KEY:
        view.incarnation = pair.value.decode()
    elif codec.is_node(pair.key):
        view.put_node(codec.decode_object(Node, pair.key, pair.value, pair.revision))
    elif codec.is_service(pair.key):
        view.put_service(codec.decode_object(Service, pair.key, pair.value, pair.revision))
    elif codec.is_material(pair.key):
        view.put_material(codec.decode_object(Material, pair.key, pair.value, pair.revision))
    elif codec.is_attachment(pair.key):
        view.put_attachment(codec.decode_object(Attachment, pair.key, pair.value, pair.revision))
    elif codec.is_removed(pair.key):
        removed = codec.decode_object(RemovedService, pair.key, pair.value, pair.revision)
        view.removed[removed.id] = removed
