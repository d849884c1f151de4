"""The other managers: where they are, and a door to each (a local unix socket that leads to it).

etcd and our own HTTP client know the doors only. A manager that moved says its new address with every
stream it opens, so that one of two need to know where the other is now.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Protocol

import structlog

from skep.rpc.certificates import NodeKeys
from skep.rpc.streams import API, RAFT, Dial, OpenStream, Pipe, open_stream
from skep.runtime.errors import NotAFellow, Unavailable

log = structlog.get_logger()


Moved = Callable[[dict[str, str]], None]


class Door(Protocol):
    """The near end of streams of one kind to one manager."""

    async def open(self) -> None:
        """Errors: `Invalid`."""

    def interrupt(self) -> None:
        """Ends what goes through; what comes next goes through anew."""

    def close(self) -> None: ...


class Way(Protocol):
    """How managers reach each other from this machine."""

    def use(self, keys: NodeKeys) -> None:
        """The node's certificate was renewed: streams opened from now on show it."""

    def dial(self, address: str) -> Dial: ...

    def door(self, links: ManagerLinks, node_id: str, kind: str) -> Door: ...

    def api_socket(self, node_id: str) -> str:
        """Returns the near end of that manager's API."""
        ...


class ManagerLinks:
    """`moved` hears of every address that was learned, to keep it."""

    def __init__(self, node_id: str, address: str, addresses: dict[str, str], way: Way, moved: Moved) -> None:
        self._node_id = node_id
        self._address = address
        self._way = way
        self.addresses = dict(addresses)
        self._moved = moved
        self.refused_by: set[str] = set()  # managers that say that this node is none of their swarm
        self._doors: dict[str, list[Door]] = {}

    def use(self, keys: NodeKeys) -> None:
        """The node's certificate was renewed: streams opened from now on show it."""
        self._way.use(keys)

    def learn(self, node_id: str, address: str) -> None:
        if address and node_id != self._node_id and self.addresses.get(node_id) != address:
            log.info("peers.address", node_id=node_id, address=address)
            self.addresses[node_id] = address
            self._moved(self.addresses)

    def move(self, address: str) -> None:
        """This manager is reached elsewhere: streams are opened anew, and say so."""
        self._address = self.addresses[self._node_id] = address
        for doors in self._doors.values():
            for door in doors:
                door.interrupt()

    def keep(self, node_ids: Container[str]) -> None:
        """Forgets where nodes are that are no managers any more."""
        gone = [n for n in self.addresses if n not in node_ids and n != self._node_id]
        if gone:
            for node_id in gone:
                del self.addresses[node_id]
            self._moved(self.addresses)

    async def open_doors(self, node_ids: Iterable[str]) -> None:
        """Has a door to each of these managers, and to no other. Errors: `Invalid`."""
        wanted = set(node_ids) - {self._node_id}
        for node_id in sorted(set(self._doors) - wanted):
            for door in self._doors.pop(node_id):
                door.close()
            self.refused_by.discard(node_id)
        for node_id in sorted(wanted - set(self._doors)):
            doors = [self._way.door(self, node_id, kind) for kind in (RAFT, API)]
            try:
                for door in doors:
                    await door.open()
            except BaseException:
                for door in doors:
                    door.close()
                raise
            self._doors[node_id] = doors

    def api_socket(self, node_id: str) -> str | None:
        """Returns the socket of that manager's API; None where there is no door to it."""
        return self._way.api_socket(node_id) if node_id in self._doors else None

    async def stream(self, node_id: str, kind: str, pipe: Pipe) -> None:
        """Errors: `Unavailable`, `Denied`."""
        address = self.addresses.get(node_id, "")
        if not address:
            raise Unavailable(f"it is not known where manager {node_id} is reached")
        dial, asked = self._way.dial(address), OpenStream(kind, self._address)
        try:
            await open_stream(dial, address, node_id, asked, pipe)
        except NotAFellow:
            self.refused_by.add(node_id)
            raise
        self.refused_by.discard(node_id)

    def close(self) -> None:
        for doors in self._doors.values():
            for door in doors:
                door.close()
        self._doors = {}
