"""A leader's term: what all that decides and writes in it is made with, and how one object is written.

Commit, take the revision as the object's version, put it into the view: in this order, and without a pause
between the last two, so that the view never says what the store has not, and nobody reads an object without
its version.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from msgspec.structs import replace

from skep.manager.confirmed_commit import Stored, commit_changed, commit_confirmed, commit_new, commit_removed
from skep.manager.events import EventHub
from skep.model.cluster import Cluster
from skep.model.material import Material
from skep.model.network import Network
from skep.model.node import Node
from skep.model.service import Service
from skep.rpc.router import Router
from skep.runtime.clock import Clock
from skep.runtime.ids import NewId
from skep.store import codec
from skep.store.interfaces import Compare, Delete, Fence, Put, Store, Txn
from skep.store.view import View

Named = TypeVar("Named", Service, Network, Material)
Object = TypeVar("Object", Service, Network, Material, Node, Cluster)
Removed = TypeVar("Removed", bound=Stored)


class _Kind(NamedTuple):
    key: Callable[[Any], str]
    put: Callable[[View, Any], None]


_KINDS: dict[type, _Kind] = {
    Service: _Kind(lambda each: codec.service_key(each.id), View.put_service),
    Network: _Kind(lambda each: codec.network_key(each.id), View.put_network),
    Material: _Kind(lambda each: codec.material_key(each.kind, each.id), View.put_material),
    Node: _Kind(lambda each: codec.node_key(each.id), View.put_node),
    Cluster: _Kind(lambda each: codec.CLUSTER_KEY, View.put_cluster),
}


class Term:
    """The leader is the only writer of its keys, by `fence`; `view` is the latest. `hub` tells users of
    changes, `signals` the leader's own parts. Errors of all that is written: as `commit_confirmed`."""

    __slots__ = ("clock", "fence", "hub", "new_id", "signals", "store", "tell", "view")

    def __init__(
        self, store: Store, fence: Fence, view: View, clock: Clock, new_id: NewId, hub: EventHub
    ) -> None:
        self.store = store
        self.fence = fence
        self.view = view
        self.clock = clock
        self.new_id = new_id
        self.hub = hub
        self.signals = Router[()]()
        self.tell = self.signals.route  # what has changed, one of `signals`

    async def commit(self, ops: Sequence[Put | Delete], compares: Sequence[Compare]) -> int:
        """Returns the revision. Errors: `Conflict`."""
        return await commit_confirmed(self.store, Txn(tuple(ops), compares=tuple(compares), fence=self.fence))

    async def create(self, new: Named, name_key: str) -> Named:
        """Returns the object as stored. Errors: `Conflict` where somebody has its name."""
        revision = await commit_new(self.store, self.fence, put_of(new), name_key, new.id)
        return self._took(new, revision)

    async def update(self, before: Object, after: Object, *also: tuple[Put, int]) -> Object:
        """Writes an object again, and others with it, all or none. Returns it as stored. Errors:
        `StaleVersion` where `before` is not the latest."""
        revision = await commit_changed(self.store, self.fence, put_of(after), before.version, *also)
        return self._took(after, revision)

    async def remove(
        self, key: str, current: Callable[[], Removed], ops: Callable[[Removed], tuple[Put | Delete, ...]]
    ) -> tuple[Removed, int]:
        """As `confirmed_commit.commit_removed`; the view is the caller's to change."""
        return await commit_removed(self.store, self.fence, key, current, ops)

    def _took(self, written: Object, revision: int) -> Object:
        stored = replace(written, version=revision)
        _KINDS[type(stored)].put(self.view, stored)
        return stored


def put_of(stored: Object) -> Put:
    """Returns what writes the object under its key."""
    return Put(_KINDS[type(stored)].key(stored), codec.encode_object(stored))
