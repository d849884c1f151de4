"""A kernel as `network.diff` takes it to be."""

from __future__ import annotations

from collections.abc import Iterable

from skep.network.diff import Changes
from skep.network.objects import Bridge, Forward, Neighbour, Object, PortForward, Tunnel


def after(found: Iterable[Object], changes: Changes) -> frozenset[Object]:
    """Returns the objects that there are once the changes are carried out."""
    gone = {each.name for each in changes.drops if isinstance(each, Bridge | Tunnel)}
    have = {(type(each), each.key): each for each in found if _device(each) not in gone}
    for each in changes.drops:
        have.pop((type(each), each.key), None)
    have.update(((type(each), each.key), each) for each in changes.puts)
    return frozenset(have.values())


def _device(each: Object) -> str:
    if isinstance(each, Neighbour):
        return each.device
    return each.tunnel if isinstance(each, Forward | PortForward) else ""
