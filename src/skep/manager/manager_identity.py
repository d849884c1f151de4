"""A manager among managers: what a leader is told of where it is, and whom it can ask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from msgspec import Struct

from skep.manager.dispatcher.overlay_bounds import Bounds
from skep.manager.evictor import Seen
from skep.manager.membership import Probe
from skep.manager.resealing import HeldKeys
from skep.model.cluster import Cluster
from skep.model.host_network import HostNetwork
from skep.runtime.errors import Unavailable
from skep.store.interfaces import Members


async def says_nothing(node_id: str) -> Collection[str]:
    """For a manager that has no way to ask others. Errors: `Unavailable`."""
    raise Unavailable(f"there is no way to ask manager {node_id} which nodes came to it")


async def has_none() -> Collection[HostNetwork]:
    """For a manager on whose host no containers get networks."""
    return ()


KeepCluster = Callable[[Cluster], Awaitable[None]]  # what the daemon keeps of the cluster on its own disk


async def nothing_to_keep(cluster: Cluster) -> None:
    """For a manager without a disk of its own."""


class ManagerIdentity(Struct, frozen=True):
    """A manager among managers: who it is, who holds the store, how the others are asked. Until `grace_until`
    (loop time) at least, nodes may take to find this leader. In `safe_mode` a leader decides nothing, and no
    node has a session with it. `seen`, `doubt`, `handed_over_at`: as in `manager.evictor`. `data_keys` is
    None where nothing is sealed. `own_networks` says what this manager's own host has, before its
    agent does: the first network of a swarm is made before any node has come."""

    node_id: str
    members: Members
    probe: Probe
    data_keys: HeldKeys | None = None
    grace_until: float = 0.0
    safe_mode: bool = False
    seen: Seen = says_nothing
    doubt: Callable[[], str] = str
    handed_over_at: float | None = None
    overlay_bounds: Bounds = Bounds()
    own_networks: Callable[[], Awaitable[Collection[HostNetwork]]] = has_none
    refused_by: Collection[str] = ()  # managers (node ids) that say that this one is none of their swarm

    def __repr__(self) -> str:
        """Whatever prints it (a log, a trace) shows no key."""
        return f"ManagerIdentity(node_id={self.node_id!r})"
