"""From the store to a view: what a new leader does first.

One value that cannot be read costs nobody the lead: it is left in the store as it is, listed, and nothing is
decided about its object (`manager.quarantine`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from skep.manager import quarantine
from skep.model.attachment import Attachment
from skep.model.cluster import Cluster
from skep.model.material import Material
from skep.model.network import Network
from skep.model.node import Node
from skep.model.service import RemovedService, Service
from skep.runtime.errors import Corrupt
from skep.store import codec
from skep.store.interfaces import KeyValue, Store
from skep.store.view import View

Kind = TypeVar("Kind", Network, Node, Service, Material, Attachment, RemovedService)

BREATH = 200  # keys decoded before the loop goes round: a bucket of 43 tasks is 0.2 ms


async def load(store: Store) -> View:
    """Returns the view of all that is stored. Errors: `Corrupt` where the cluster's own record or the schema
    cannot be read, `Unavailable`."""
    pairs, revision = await store.load(codec.PREFIX)
    view = await view_of(pairs)
    view.saw_revision(revision)
    quarantine.log_all(view)
    return view


async def view_of(pairs: Sequence[KeyValue]) -> View:
    """Returns the view of these keys. Errors: as `load`."""
    schema = [pair.value for pair in pairs if pair.key == codec.SCHEMA_KEY]
    codec.check_schema(schema[0] if schema else None)
    view = View()
    # Networks first: services have addresses of them. Tasks last: what they take is in their services.
    for pair in pairs:
        if codec.is_network(pair.key):
            _read(view, pair)
    buckets = []
    for pair in pairs:
        if codec.is_bucket(pair.key):
            buckets.append(pair)
        elif not codec.is_network(pair.key):
            _read(view, pair)
    for n, pair in enumerate(buckets):
        _read(view, pair)
        if n % BREATH == BREATH - 1:
            await asyncio.sleep(0)
    view.order_slots()
    quarantine.set_users_aside(view)
    return view


def _read(view: View, pair: KeyValue) -> None:
    """Puts one key into the view, or into quarantine. Errors: `Corrupt` for the cluster's own record."""
    try:
        if pair.trouble:
            raise Corrupt(pair.trouble)
        if codec.is_bucket(pair.key):
            for task in codec.decode_bucket(pair.key, pair.value, pair.revision):
                view.put_task(task)
        else:
            _put_object(view, pair)
    except Exception as error:  # of any kind: a value that can be read may make no sense to the view
        if pair.key == codec.CLUSTER_KEY:
            raise Corrupt(
                f"the swarm's own record cannot be read, so that nobody can lead it: {error}. `skep store get"
                f" {codec.CLUSTER_KEY}` shows what there is; make the swarm again from a backup (skep backup"
                " restore)"
            ) from error
        quarantine.put(view, pair.key, error, pair.revision)


def _put_object(view: View, pair: KeyValue) -> None:
    key, value, revision = pair.key, pair.value, pair.revision
    if key == codec.CLUSTER_KEY:
        view.put_cluster(codec.decode_object(Cluster, key, value, revision))
    elif key == codec.INCARNATION_KEY:
        view.put_incarnation(value.decode(errors="replace") or "?")  # nothing to keep anybody from the lead
    elif codec.is_network(key):
        view.put_network(_own(pair, codec.decode_object(Network, key, value, revision)))
    elif codec.is_node(key):
        view.put_node(_own(pair, codec.decode_object(Node, key, value, revision)))
    elif codec.is_service(key):
        service = _own(pair, codec.decode_object(Service, key, value, revision))
        if not service.templates:
            raise Corrupt(f"the store's key {key} holds a service without anything to run")
        view.put_service(service)
    elif codec.is_material(key):
        view.put_material(_own(pair, codec.decode_object(Material, key, value, revision)))
    elif codec.is_attachment(key):
        view.put_attachment(_own(pair, codec.decode_object(Attachment, key, value, revision)))
    elif codec.is_removed(key):
        removed = _own(pair, codec.decode_object(RemovedService, key, value, revision))
        view.removed[removed.id] = removed


def _own(pair: KeyValue, found: Kind) -> Kind:
    """Returns the object where it is its key's. Errors: `Corrupt`."""
    if found.id != codec.id_of(pair.key):
        raise Corrupt(f"the store's key {pair.key} holds the record of another object")
    return found
