"""Objects that should be, less those that are: what is to be done, in an order in which it can be. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import get_args

from msgspec import Struct

from skep.network.objects import (
    Bridge,
    Chain,
    Counter,
    EspState,
    Filtered,
    FirewallMark,
    Forward,
    Gateway,
    Hairpin,
    Neighbour,
    Object,
    Port,
    PortForward,
    PortJump,
    Sysctl,
    Tunnel,
    VipJump,
)

ORDER: tuple[type[Object], ...] = get_args(Object)
_STAYS = Sysctl | Hairpin | Filtered | Port | Gateway  # they go with what they are of
_RANK = {kind: rank for rank, kind in enumerate(ORDER)}


class Changes(Struct, frozen=True):
    """`drops` are found objects that go, `puts` wanted ones that are missing or were found otherwise,
    `replaced` what was found in their place. First the `drops`, then the `puts`."""

    drops: tuple[Object, ...] = ()
    puts: tuple[Object, ...] = ()
    replaced: tuple[Object, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.drops or self.puts)


def diff(wanted: Iterable[Object], found: Iterable[Object], kept: Collection[str] = ()) -> Changes:
    """Returns what makes the found objects the wanted ones. A bridge that containers are on stays, and so do
    those that are `kept`. What goes with its device is not taken away by itself. Where no device comes or
    goes, what is as it was costs next to nothing."""
    have = found if isinstance(found, frozenset) else frozenset(found)
    want = list(wanted)
    new, old = [each for each in want if each not in have], have.difference(want)
    if any(isinstance(each, Bridge | Tunnel) for each in (*new, *old)):
        return _between(want, have, kept)
    return _between(new, old, kept)


def _between(wanted: Iterable[Object], found: Iterable[Object], kept: Collection[str]) -> Changes:
    want = {(type(each), each.key): each for each in wanted}
    have = {(type(each), each.key): each for each in found}
    gone = [each for key, each in have.items() if key not in want]
    held = {(Bridge, each.bridge) for each in have.values() if isinstance(each, Port)}
    held |= {(Bridge, name) for name in kept}
    drops: list[Object] = [
        each for each in gone if not isinstance(each, _STAYS) and (type(each), each.key) not in held
    ]
    going = _names(drops)
    drops = [each for each in drops if _device(each) not in going]
    made = {e.name for key, e in want.items() if isinstance(e, Bridge | Tunnel) and have.get(key) != e}
    puts = [
        each
        for key, each in want.items()
        if key not in have or not is_same(each, have[key]) or _device(each) in made
    ]
    # A jump has its chain as its value, a port its mark, and a map takes no second value for a key.
    drops += [
        have[type(each), each.key]
        for each in puts
        if isinstance(each, PortJump | VipJump | FirewallMark) and (type(each), each.key) in have
    ]
    drops.sort(key=lambda each: -_RANK[type(each)])
    puts.sort(key=lambda each: _RANK[type(each)])
    replaced = (have[key] for each in puts if (key := (type(each), each.key)) in have)
    return Changes(tuple(drops), tuple(puts), tuple(replaced))


def _names(objects: Iterable[Object]) -> frozenset[str]:
    """Returns the names of the devices among them."""
    return frozenset(each.name for each in objects if isinstance(each, Bridge | Tunnel))


def _device(each: Object) -> str:
    """Returns the device that an object is lost with when it is made anew, or has another MAC address."""
    if isinstance(each, Neighbour):
        return each.device
    return each.tunnel if isinstance(each, Forward | PortForward) else ""


def is_same(wanted: Object, found: Object) -> bool:
    """True where the found object is as it is wanted."""
    if isinstance(wanted, Chain) and isinstance(found, Chain):
        return (wanted.hook, wanted.stamps) == (found.hook, found.stamps)
    if isinstance(wanted, Counter):
        return isinstance(found, Counter)
    if isinstance(wanted, EspState):
        return isinstance(found, EspState)  # by its key: the secret of one that is found is not read
    return wanted == found


def after(found: Iterable[Object], changes: Changes) -> frozenset[Object]:
    """Returns the objects that there are once the changes are carried out."""
    gone = _names(changes.drops)
    if not gone and isinstance(found, frozenset):
        return found.difference(changes.drops, changes.replaced).union(changes.puts)
    have = {(type(each), each.key): each for each in found if _device(each) not in gone}
    for each in changes.drops:
        have.pop((type(each), each.key), None)
    have.update(((type(each), each.key), each) for each in changes.puts)
    return frozenset(have.values())


def settled(found: Iterable[Object], wanted: Iterable[Object]) -> frozenset[Object]:
    """Returns the found objects, those that are as they are wanted just as they are wanted: what is wanted
    next is mostly the same, and need not be compared part by part."""
    want = {(type(each), each.key): each for each in wanted}
    return frozenset(_as(want.get((type(each), each.key)), each) for each in found)


def _as(wanted: Object | None, found: Object) -> Object:
    return wanted if wanted is not None and is_same(wanted, found) else found
