"""A kernel as `network.diff` takes it to be."""

from __future__ import annotations

from collections.abc import Iterable

from skep.network.diff import Changes
from skep.network.objects import (
    Bridge,
    Filtered,
    Forward,
    Gateway,
    Neighbour,
    Object,
    PortForward,
    Sysctl,
    Tunnel,
)


def after(found: Iterable[Object], changes: Changes) -> frozenset[Object]:
    """Returns the objects that there are once the changes are carried out."""
    gone = {each.name for each in changes.drops if isinstance(each, Bridge | Tunnel)}
    have = {(type(each), each.key): each for each in found if not gone.intersection(_devices(each))}
    for each in changes.drops:
        have.pop((type(each), each.key), None)
    have.update(((type(each), each.key), each) for each in changes.puts)
    return frozenset(have.values())


def _devices(each: Object) -> tuple[str, ...]:
    match each:
        case Neighbour():
            return (each.device,)
        case Forward() | PortForward():
            return (each.tunnel,)
        case Filtered() | Gateway():
            return (each.bridge,)
        case Sysctl():
            return tuple(each.path.split("/"))
        case _:
            return ()
