"""Who may begin TLS at a manager's port, and when. Pure: times are arguments, connections are numbers.

    accepted --> silent --> waiting --> placed --> known
                 sends      for one     TLS, then  a node's certificate, or a token of this swarm
                 nothing    of the      who is it?
                            places

Until it is known who came, a connection takes one of a few *places*. A place is free again as soon as its
connection is known. One whose connection ended otherwise stays taken until it is `GRACE_S` old; from one that
does not say who it is the place is taken after as long, if others wait. So strangers, however many and
whatever they do, have so many handshakes a second and no more, while nodes that come all at once are held up
by nothing but the work.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict

from msgspec import Struct

# A handshake is 1 to 2.5 ms of a manager's time: strangers get a tenth to a third of one core at most.
PLACES_MAX = 128
# No address has all places: who comes from elsewhere finds one. 2,300 nodes behind one address need no more:
# who joins has a place for three times to and fro. With 100 ms each that is 320 a second; a core does 290.
ADDRESS_PLACES_MAX = 96
# These are for addresses that have next to none: a node is served at once while others hold all the rest.
KEPT_PLACES, NEXT_TO_NONE = 16, 2
# What a slow node needs for its part, three times to and fro and its own work; only with others waiting does
# it get no longer.
GRACE_S = 1.0
# Connections of one worker in as long a time: its session, and log streams where several users begin to read.
NODE_BURST = 8
BEYOND_S = 5.0  # how long those beyond keep their places: a certificate is no way around what strangers may
GRACE_MAX_S = 5.0  # where the manager itself is slow: `grace_s`
# Connections that have no place: a file and half a kB each. All nodes of a large swarm may come at once.
ARRIVED_MAX = 4096
SILENT_S = 5.0  # a client speaks first in TLS, at once: even one whose machine is busy has by then
WAITING_S = 15.0  # a node's own patience with a handshake (`link.HANDSHAKE_S`): it has gone by then
CAME_MAX = 4096  # nodes whose connections are counted: as many as may come at once


class Admitted(Struct, frozen=True):
    """This connection has a place now. `is_after`: the place had been taken for its whole time; `evicted` is
    the connection that has lost it, if it is there still."""

    ticket: int
    is_after: bool = False
    evicted: int | None = None


class _Arrived(Struct):
    host: str
    since: float
    is_waiting: bool = False


class _Place(Struct):
    host: str
    since: float
    is_over: bool = False  # its connection is known, or gone


class Admission:
    """`arrived_max`: connections without a place at a time."""

    def __init__(self, arrived_max: int = ARRIVED_MAX) -> None:
        self._arrived_max = arrived_max
        self._last = 0
        self._arrived: dict[int, _Arrived] = {}  # the oldest first
        self._waiting: OrderedDict[str, dict[int, None]] = OrderedDict()  # by host; hosts take turns
        self._places: dict[int, _Place] = {}  # in the order in which they were given
        self._by_host: Counter[str] = Counter()  # places
        self._came: OrderedDict[str, tuple[float, int]] = OrderedDict()  # of a node: since when, how many

    @property
    def is_waited_for(self) -> bool:
        """True while connections wait for a place."""
        return bool(self._waiting)

    def arrive(self, host: str, now: float) -> tuple[int, int | None]:
        """A connection was accepted. Returns its number, and that of one to close for it: the oldest."""
        self._last += 1
        self._arrived[self._last] = _Arrived(host_key(host), now)
        dropped = None
        if len(self._arrived) > self._arrived_max:
            dropped = next(iter(self._arrived))
            self.leave(dropped)
        return self._last, dropped

    def speak(self, ticket: int) -> None:
        """It has sent something: it waits for a place from now on."""
        found = self._arrived.get(ticket)
        if found is not None:
            found.is_waiting = True
            self._waiting.setdefault(found.host, {})[ticket] = None

    def leave(self, ticket: int) -> None:
        """It is closed before it had a place."""
        found = self._arrived.pop(ticket, None)
        if found is not None and found.is_waiting:
            waiting = self._waiting[found.host]
            del waiting[ticket]
            if not waiting:
                del self._waiting[found.host]

    def next(self, now: float, grace_s: float = GRACE_S) -> Admitted | None:
        """Returns who begins TLS now; None where nobody can, or nobody waits.

        Of one address it is the latest: where many wait, it is most likely that the others came to wait.
        """
        for host in self._waiting:
            has, left = self._by_host[host], PLACES_MAX - len(self._places)
            if has >= ADDRESS_PLACES_MAX:
                oldest = self._oldest(now - grace_s, host)
            elif left <= (KEPT_PLACES if has >= NEXT_TO_NONE else 0):
                oldest = self._oldest(now - grace_s)
                if oldest is None and left <= 0:
                    return None
            else:
                return Admitted(self._give(host, now))
            if oldest is not None:
                is_over = self._places[oldest].is_over
                self._free(oldest)
                return Admitted(self._give(host, now), True, None if is_over else oldest)
        return None

    def known(self, ticket: int, name: str, now: float) -> None:
        """It is known who came: the place is free, but for a worker that comes again and again (`name`; an
        empty text: whoever is not to be held back)."""
        if not name or self._count(name, now) <= NODE_BURST:
            self._free(ticket)
            return
        place = self._places.get(ticket)
        if place is not None:
            place.since, place.is_over = now + BEYOND_S - GRACE_S, True

    def ended(self, ticket: int, now: float) -> None:
        """Its connection is gone; a place that is younger than `GRACE_S` stays taken until then."""
        place = self._places.get(ticket)
        if place is None:
            return
        place.is_over = True
        if now - place.since >= GRACE_S:
            self._free(ticket)

    def expired(self, now: float) -> list[int]:
        """Returns which connections without a place are to be closed: they are forgotten."""
        found = []
        for ticket, arrived in self._arrived.items():
            age_s = now - arrived.since
            if age_s < SILENT_S:
                break
            if not arrived.is_waiting or age_s >= WAITING_S:
                found.append(ticket)
        for ticket in found:
            self.leave(ticket)
        return found

    # Inside

    def _give(self, host: str, now: float) -> int:
        ticket = next(reversed(self._waiting[host]))
        self.leave(ticket)
        if host in self._waiting:
            self._waiting.move_to_end(host)
        self._places[ticket] = _Place(host, now)
        self._by_host[host] += 1
        return ticket

    def _oldest(self, before: float, host: str = "") -> int | None:
        """Returns the oldest place (of an address) if it was given before that time."""
        for ticket, place in self._places.items():
            if place.since <= before and (not host or place.host == host):
                return ticket
        return None

    def _count(self, name: str, now: float) -> int:
        """Returns how many connections of a node have come lately, this one among them."""
        since, count = self._came.pop(name, (now, 0))
        if now - since >= GRACE_S:
            since, count = now, 0
        self._came[name] = (since, count + 1)
        if len(self._came) > CAME_MAX:
            self._came.popitem(last=False)
        return count + 1

    def _free(self, ticket: int) -> None:
        place = self._places.pop(ticket, None)
        if place is not None:
            self._by_host[place.host] -= 1
            if not self._by_host[place.host]:
                del self._by_host[place.host]


def grace_s(lag_s: float) -> float:
    """Returns for how long a place is nobody else's where the loop takes `lag_s` to go round: a handshake
    goes round some four times, and no node must lose its place for the manager's own slowness."""
    return min(max(GRACE_S, 8 * lag_s), GRACE_MAX_S)


def host_key(host: str) -> str:
    """Returns what counts as one address: of IPv6 its network of 64 bits, which one machine may own."""
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))
