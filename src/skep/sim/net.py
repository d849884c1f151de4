"""A network in memory: streams that deliver in order, late, or not at all; fulfils `rpc.port`.

A host that is cut off is like one whose cable is pulled: nothing arrives, nobody is told, and what was
sent arrives after all when the cable is back, as TCP has it. A host that crashes loses its connections.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable

from skep.rpc.port import Connection, Handler, Identity
from skep.runtime.errors import Unavailable

LATENCY_S = (0.0002, 0.004)
LATE_RATE, LATE_S = 0.002, (0.5, 6.0)  # a lost packet's retransmissions, a full queue
CONNECT_TIMEOUT_S = 3.0

Accept = Callable[[Connection], Handler | None]


class Network:
    """Hosts are names; a listener's address is its host's name."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._listeners: dict[str, Accept] = {}
        self._cut: set[str] = set()
        self._ends: dict[str, dict[_End, None]] = {}  # host -> its ends, in order of opening
        self.calm = False  # True: no more late frames

    def listen(self, host: str, accept: Accept) -> None:
        self._listeners[host] = accept

    def cut(self, host: str) -> None:
        self._cut.add(host)

    def heal(self, host: str) -> None:
        self._cut.discard(host)
        for ends in list(self._ends.values()):
            for end in list(ends):
                end.inbox.wake()

    def crash(self, host: str, silently: bool) -> None:
        """The host's processes are gone. `silently`: so is the kernel that would tell their peers."""
        self._listeners.pop(host, None)
        for end in list(self._ends.pop(host, ())):
            end.open = False
            if not silently:
                end.peer.inbox.push(None)

    def is_up(self, host: str) -> bool:
        """True when the host listens and is not cut off."""
        return host in self._listeners and host not in self._cut

    def is_cut(self, end: _End) -> bool:
        return end.host in self._cut or end.peer.host in self._cut

    def latency_s(self) -> float:
        if not self.calm and self._rng.random() < LATE_RATE:
            return self._rng.uniform(*LATE_S)
        return self._rng.uniform(*LATENCY_S)

    async def connect(self, host: str, identity: Identity, address: str, handler: Handler) -> Connection:
        """Opens a connection from `host`, whose certificate says `identity`. Errors: `Unavailable`."""
        await asyncio.sleep(self.latency_s())
        if host in self._cut or address in self._cut:
            await asyncio.sleep(CONNECT_TIMEOUT_S)
            raise Unavailable(f"{address}: timeout")
        accept = self._listeners.get(address)
        if accept is None:
            raise Unavailable(f"{address}: connection refused")
        client, server = _End(self, host), _End(self, address)
        client.peer, server.peer = server, client
        server.identity = identity
        taken = accept(server)
        if taken is None:
            raise Unavailable(f"{address}: connection refused")
        client.handler, server.handler = handler, taken
        for end in (client, server):
            self._ends.setdefault(end.host, {})[end] = None
        taken.connected(server)
        handler.connected(client)
        return client

    def forget(self, end: _End) -> None:
        self._ends.get(end.host, {}).pop(end, None)


class _End:
    """One side of a connection."""

    peer: _End
    handler: Handler

    def __init__(self, network: Network, host: str) -> None:
        self.network = network
        self.host = host
        self.remote_host = "127.0.0.1"
        self.identity: Identity | None = None
        self.inbox = _Inbox(self)
        self.open = True

    def send(self, frame: bytes) -> None:
        if self.open:
            self.peer.inbox.push(frame)

    def close(self) -> None:
        if self.open:
            self.peer.inbox.push(None)
            asyncio.get_running_loop().call_soon(self.end, "closed")

    def end(self, reason: str) -> None:
        if self.open:
            self.open = False
            self.network.forget(self)
            self.handler.closed(reason)

    def receive(self, frame: bytes | None) -> None:
        if frame is None:
            self.end("the peer closed the connection")
        elif self.open:
            self.handler.frame(frame)


class _Inbox:
    """What is on its way to one end, in order; None is the peer's close."""

    def __init__(self, end: _End) -> None:
        self._end = end
        self._waiting: deque[bytes | None] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def push(self, frame: bytes | None) -> None:
        self._waiting.append(frame)
        self.wake()

    def wake(self) -> None:
        if self._timer is None and self._waiting and not self._end.network.is_cut(self._end):
            delay_s = self._end.network.latency_s()
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        if self._end.network.is_cut(self._end):
            return  # `heal` wakes us
        while self._waiting:
            self._end.receive(self._waiting.popleft())
