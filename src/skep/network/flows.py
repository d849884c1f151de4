"""Connections that must not go on as they began: to tasks that are gone, and to services' own addresses where
there was no rule for them. Blocking.

Who is not known any more of a large network may be well there, and have connections: a service is told in
parts, and a manager makes room. Whether he is shows when the next of their packets misses him.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable

from skep.model.ipv4 import is_in
from skep.model.mesh import UDP, Mesh
from skep.network.conntrack import forget_tasks, forget_udp, forget_untranslated
from skep.network.desired import ports_of
from skep.network.diff import Changes
from skep.network.host import HostFacts
from skep.network.objects import Chain, VipJump
from skep.network.segment import subnet_of

UNSURE_MAX = 4096  # twice as many as a manager keeps of what a node asked for of a network


class Flows:
    """Of one node. Errors: `Unavailable`. `forget_lost` may be done in a thread beside the others."""

    def __init__(self) -> None:
        self._tasks: set[str] = set()  # addresses of those that there were
        self._lost: set[str] = set()  # of those, what nobody has any more, until it is forgotten
        self._forgetting: set[str] = set()  # of what was lost, while that is done
        self._turn = threading.Lock()  # of these two
        self._unsure: dict[str, None] = {}

    @property
    def unsure(self) -> frozenset[str]:
        """Returns addresses of large networks whose tasks are not known any more, and may be there still."""
        return frozenset(self._unsure)

    @property
    def has_lost(self) -> bool:
        """True where connections to tasks that are gone are to be forgotten."""
        return bool(self._lost)

    def forget_lost(self) -> None:
        """Forgets connections to tasks that are gone; of who is back meanwhile no more. The kernel goes
        through all its connections for that, empty places too: 10 ms and more, and 20 us for each that is
        found. Who changes rules does not wait for it. Not to be done twice at a time."""
        with self._turn:
            self._forgetting, self._lost = self._lost, set()
        if self._forgetting:
            try:
                forget_tasks(self._forgetting)
            except Exception:
                with self._turn:
                    self._lost |= self._forgetting - self._tasks
                raise

    def forget(self, host: HostFacts, mesh: Mesh, changes: Changes, gone: Collection[str]) -> None:
        """Forgets those of UDP's ports whose tasks are others now, and those to services that there was no
        rule for before these changes. `gone` are addresses of large networks that nobody has."""
        for port, addresses in _changed_ports(mesh, changes).items():
            forget_udp(port, host.addresses, addresses)
        now = {each.address for service in mesh.services.values() for each in service.endpoints}
        now |= {each.address for overlay in mesh.overlays.values() for each in overlay.everyone()}
        before, self._tasks = self._tasks, now
        lost = self._nobodys(before - now, mesh, gone)
        with self._turn:
            self._lost |= lost
            self._lost -= now
            self._forgetting -= now
        # On a small network who asks for a service is answered only while there is a rule.
        if vips := _of_large(mesh, (each.address for each in changes.puts if isinstance(each, VipJump))):
            forget_untranslated(vips)

    def _nobodys(self, left: set[str], mesh: Mesh, gone: Collection[str]) -> set[str]:
        """Returns which addresses are nobody's now."""
        unsure = _of_large(mesh, left)
        lost = (left - unsure) | (self._unsure.keys() & gone)
        self._unsure.update(dict.fromkeys(unsure))
        for each in lost | (self._unsure.keys() & self._tasks):
            self._unsure.pop(each, None)
        while len(self._unsure) > UNSURE_MAX:
            del self._unsure[next(iter(self._unsure))]
        return lost


def _changed_ports(mesh: Mesh, changes: Changes) -> dict[int, set[str]]:
    """Returns UDP's published ports whose tasks are others, each with those that take new connections."""
    names = {each.name for each in (*changes.puts, *changes.drops) if isinstance(each, Chain)}
    tasks: dict[int, set[str]] = {
        int(name.removeprefix("udp-")): set() for name in names if name.startswith("udp-")
    }
    for (protocol, port), service in ports_of(mesh).items() if tasks else ():
        if protocol == UDP and port in tasks:
            tasks[port] = {each.address for each in service.endpoints if each.takes_new}
    return tasks


def _of_large(mesh: Mesh, addresses: Iterable[str]) -> set[str]:
    """Returns those that are of large networks."""
    large = [subnet_of(each.network) for each in mesh.overlays.values() if each.network.is_large]
    return {each for each in addresses if any(is_in(each, subnet) for subnet in large)}
