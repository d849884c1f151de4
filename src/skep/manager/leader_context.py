"""What a manager leads with, the same in each of its terms."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from skep.manager.certificates import Sign
from skep.manager.events import EventHub
from skep.manager.manager_identity import KeepCluster, ManagerIdentity, nothing_to_keep
from skep.runtime.clock import Clock
from skep.runtime.ids import NewId


class LeaderContext(Struct, frozen=True):
    """`hub` tells users of changes; `managers` are the addresses (host:port) that agents are told at first;
    `sign` makes certificates; `keep` stores what the daemon has to know of the cluster without a store."""

    clock: Clock
    new_id: NewId
    new_secret: Callable[[], str]
    hub: EventHub
    managers: list[str]
    sign: Sign
    identity: ManagerIdentity
    keep: KeepCluster = nothing_to_keep
