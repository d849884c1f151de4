"""Objects that should be, less those that are: what is to be done, in an order in which it can be. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from typing import get_args

from msgspec import Struct

from skep.network.making import Key, Objects
from skep.network.objects import (
    Bridge,
    Chain,
    Counter,
    EspState,
    FastPort,
    FastTunnel,
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
    Traffic,
    Tunnel,
    VipJump,
)

ORDER: tuple[type[Object], ...] = get_args(Object)
_STAYS = Sysctl | Hairpin | Filtered | Port | Gateway  # they go with what they are of
_RANK = {kind: rank for rank, kind in enumerate(ORDER)}


class Known(Struct, frozen=True):
    """What there is: parts of what was wanted, and the `rest`."""

    parts: Mapping[Key, Objects] = {}
    rest: frozenset[Object] = frozenset()

    @property
    def objects(self) -> frozenset[Object]:
        return self.rest.union(*self.parts.values())


class Changes(Struct, frozen=True):
    """`drops` are found objects that go, `puts` wanted ones that are missing or were found otherwise. First
    the `drops`, then the `puts`. `stays` is what is not wanted, and does not go by itself."""

    drops: tuple[Object, ...] = ()
    puts: tuple[Object, ...] = ()
    stays: tuple[Object, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.drops or self.puts)


def diff(wanted: Iterable[Object], found: Iterable[Object], kept: Collection[str] = ()) -> Changes:
    """Returns what makes the found objects the wanted ones. A bridge that containers are on stays, and so do
    those that are `kept`. What goes with its device is not taken away by itself."""
    return diff_parts({(): tuple(wanted)}, Known(rest=frozenset(found)), kept)


def diff_parts(wanted: Mapping[Key, Objects], known: Known, kept: Collection[str] = ()) -> Changes:
    """Returns the same for parts, no two of which have an object with the same key, but for settings. Where
    no device comes or goes, a part that is the same object as before costs nothing."""
    there = known.parts
    came = [each for key, part in wanted.items() if there.get(key) is not part for each in part]
    went = known.rest.union(*(part for key, part in there.items() if wanted.get(key) is not part))
    new, old = [each for each in came if each not in went], went.difference(came)
    if any(isinstance(each, Bridge | Tunnel) for each in (*new, *old)):
        return _between(chain.from_iterable(wanted.values()), known.objects, kept)
    return _between(new, old, kept)


def _between(wanted: Iterable[Object], found: Iterable[Object], kept: Collection[str]) -> Changes:
    want = {(type(each), each.key): each for each in wanted}
    have = {(type(each), each.key): each for each in found}
    gone = [each for key, each in have.items() if key not in want]
    held: set[tuple[type[Object], object]] = {
        (Bridge, each.bridge) for each in have.values() if isinstance(each, Port)
    }
    held |= {(Bridge, name) for name in kept}
    drops: list[Object] = [
        each for each in gone if not isinstance(each, _STAYS) and (type(each), each.key) not in held
    ]
    going = {each.name for each in drops if isinstance(each, Bridge | Tunnel)}
    dropped = {(type(each), each.key) for each in drops}
    left = (each for each in gone if (type(each), each.key) not in dropped)
    stays = tuple(each for each in left if not going.intersection(_lost_with(each)))
    drops = [each for each in drops if not going.intersection(_devices(each)) or isinstance(each, FastPort)]
    made = {e.name for key, e in want.items() if isinstance(e, Bridge | Tunnel) and have.get(key) != e}
    puts = [
        each
        for key, each in want.items()
        if key not in have or not is_same(each, have[key]) or made.intersection(_devices(each))
    ]
    # A jump has its chain as its value, a port its mark, and a map takes no second value for a key.
    drops += [
        have[type(each), each.key]
        for each in puts
        if isinstance(each, PortJump | VipJump | FirewallMark) and (type(each), each.key) in have
    ]
    drops.sort(key=lambda each: -_RANK[type(each)])
    puts.sort(key=lambda each: _RANK[type(each)])
    return Changes(tuple(drops), tuple(puts), stays)


def _devices(each: Object) -> tuple[str, ...]:
    """Returns the devices that an object is lost with when one is made anew, or has another MAC address. What
    is said of a container's port names devices by their numbers, and stays when they go."""
    match each:
        case Neighbour():
            return (each.device,)
        case Forward() | PortForward() | FastTunnel():
            return (each.tunnel,)
        case FastPort():
            return each.tunnel, each.bridge
        case _:
            return ()


def _lost_with(each: Object) -> tuple[str, ...]:
    """Returns the devices that an object goes with, of those that do not go by themselves as well."""
    match each:
        case Filtered() | Gateway():
            return (each.bridge,)
        case Sysctl():
            return tuple(each.path.split("/"))  # ipv4/conf/skb4097/rp_filter
        case _:
            return _devices(each)


def is_same(wanted: Object, found: Object) -> bool:
    """True where the found object is as it is wanted."""
    if isinstance(wanted, Chain) and isinstance(found, Chain):
        return (wanted.hook, wanted.stamps) == (found.hook, found.stamps)
    if isinstance(wanted, Counter):
        return isinstance(found, Counter)
    if isinstance(wanted, Traffic):
        return isinstance(found, Traffic) and found.is_whole
    if isinstance(wanted, EspState):
        return isinstance(found, EspState)  # by its key: the secret of one that is found is not read
    return wanted == found
