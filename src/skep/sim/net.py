"""A network in memory: streams that deliver in order, late, or not at all; fulfils `rpc.interfaces`.

A cut stops what goes from some hosts to others, one way: nothing arrives, nobody is told, and what was sent
arrives after all when the cut heals, as TCP has it. A host that crashes loses its connections.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from skep.rpc.certificates import NodeKeys, identity_of, validity_of
from skep.rpc.interfaces import Connection, Handler, Identity
from skep.rpc.link import FrameLink
from skep.runtime.errors import Unavailable
from skep.sim.loop import Place
from skep.sim.streams import Wire, link_of

LATENCY_S = (0.0002, 0.004)
LATE_RATE, LATE_S = 0.002, (0.5, 6.0)  # a lost packet's retransmissions, a full queue
CONNECT_TIMEOUT_S = 3.0

Accept = Callable[[Connection], Handler | None]


class Shown(Struct, frozen=True):
    """What a certificate says."""

    identity: Identity
    not_before: float = 0.0
    not_after: float = math.inf

    @classmethod
    def of(cls, keys: NodeKeys) -> Shown:
        return cls(identity_of(keys.certificate_pem), *validity_of(keys.certificate_pem))

    def is_in_time(self, now: float) -> bool:
        return self.not_before <= now <= self.not_after


class SimulatedPort(Struct, frozen=True):
    """Who listens: what it shows, and whom it lets in."""

    accept: Accept
    shown: Callable[[], Shown | None] = lambda: None
    lets_in: Callable[[Shown], bool] = lambda shown: True


class Cut:
    """Stops what hosts of `sources` send to hosts of `targets`; None is all other hosts."""

    def __init__(self, sources: frozenset[str] | None, targets: frozenset[str] | None) -> None:
        self._sources, self._targets = sources, targets

    def stops(self, source: str, target: str) -> bool:
        return (self._sources is None or source in self._sources) and (
            self._targets is None or target in self._targets
        )


class Network:
    """Hosts are names; an address is a host's name, or another that it has by now (`move`), and a port."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._places: dict[str, Place] = {}
        self._ports: dict[str, SimulatedPort] = {}
        self._stream_ports: dict[str, SimulatedPort] = {}
        self._at: dict[str, str] = {}  # host -> its address, where that is not its name
        self._moved: dict[str, str] = {}  # address -> the host that has it now; an empty text where none has
        self._off: set[str] = set()  # hosts whose processes are gone: what they still do reaches nobody
        self._cuts: list[Cut] = []
        self._passes: dict[tuple[str, str], bool] = {}  # what the cuts come to, as far as asked
        self._ends: dict[str, dict[_End, None]] = {}  # host -> its ends, in order of opening
        self._calm = False  # True: no more late frames

    def calm_down(self) -> None:
        """No frame is late from now on."""
        self._calm = True

    def plug_in(self, host: str, place: Place) -> None:
        """What arrives at the host is handled in its place."""
        self._places[host] = place

    def place(self, host: str) -> Place:
        return self._places[host]

    def move(self, host: str, before: str, now: str) -> None:
        """The host has another address."""
        self._moved[before], self._moved[now] = "", host
        self._at[host] = now

    def listen(self, host: str, accept: Accept) -> None:
        self.open(host, SimulatedPort(accept))

    def open(self, host: str, port: SimulatedPort) -> None:
        self._ports[host] = port

    def open_streams(self, host: str, port: SimulatedPort) -> None:
        """Who opens a stream to the host is taken in by the product's own end of it."""

        def take(connection: Connection) -> Handler:
            link = link_of(port.accept)
            link.identity = connection.identity
            return Wire(link)

        self._stream_ports[host] = replace(port, accept=take)

    def stop_listening(self, host: str) -> None:
        self._ports.pop(host, None)
        self._stream_ports.pop(host, None)

    def cut(self, *cuts: Cut) -> None:
        self._cuts += cuts
        self._passes.clear()

    def heal(self, *cuts: Cut) -> None:
        for cut in cuts:
            self._cuts.remove(cut)
        self._passes.clear()
        for ends in list(self._ends.values()):
            for end in list(ends):
                end.inbox.wake()

    def passes(self, source: str, target: str) -> bool:
        """True when frames get from one host to another now."""
        found = self._passes.get((source, target))
        if found is None:
            found = source == target or not any(cut.stops(source, target) for cut in self._cuts)
            self._passes[source, target] = found
        return found

    def linked(self, one: str, other: str) -> bool:
        """True when frames pass both ways."""
        return self.passes(one, other) and self.passes(other, one)

    def is_awaited(self, host: str) -> bool:
        """True while something is on its way to the host."""
        return any(end.inbox for end in self._ends.get(host, ()))

    def is_sending(self, host: str) -> bool:
        """True while something of the host's is on its way."""
        return any(end.peer.inbox for end in self._ends.get(host, ()))

    def has_lost(self, host: str) -> bool:
        """True while the host has a connection that is none any more, and does not know it."""
        return any(end.is_lost for end in self._ends.get(host, ()))

    def crash(self, host: str, silently: bool) -> None:
        """The host's processes are gone. `silently`: so is the kernel that would tell their peers."""
        self.stop_listening(host)
        self._off.add(host)
        for end in list(self._ends.pop(host, ())):
            end.open = False
            if not silently:
                end.peer.inbox.push(None)
                continue
            end.peer.is_lost = True
            if isinstance(end.peer.handler, Wire):
                end.peer.handler.lost()

    def switch_on(self, host: str) -> None:
        """Processes run there again."""
        self._off.discard(host)

    def reset(self, host: str) -> None:
        """All connections of a host break, and both ends hear of it."""
        for end in list(self._ends.get(host, ())):
            end.inbox.push(None)
            end.peer.inbox.push(None)

    def forget_connections(self, host: str) -> None:
        """All connections of a host are lost, and nobody hears of it: a firewall was started anew."""
        for end in list(self._ends.get(host, ())):
            end.is_lost = end.peer.is_lost = True
            for each in (end, end.peer):
                if isinstance(each.handler, Wire):
                    each.handler.lost()

    def latency_s(self) -> float:
        if not self._calm and self._rng.random() < LATE_RATE:
            return self._rng.uniform(*LATE_S)
        return self._rng.uniform(*LATENCY_S)

    async def connect(self, host: str, shown: Shown | Identity, address: str, handler: Handler) -> Connection:
        """Opens a connection from `host`, which shows that. Errors: `Unavailable`."""
        return await self._connect(host, shown, address, handler, self._ports)

    async def connect_standby(
        self, host: str, shown: Shown | Identity, address: str, handler: Handler
    ) -> Connection:
        """The same for one that waits (`rpc.standby`)."""
        return await self._connect(host, shown, address, handler, self._ports, is_standby=True)

    async def connect_stream(
        self, host: str, shown: Shown | Identity, address: str, handler: Handler
    ) -> FrameLink:
        """The same for a connection that can become a stream of bytes."""
        link = link_of(lambda connection: handler)
        found = await self._connect(host, shown, address, Wire(link), self._stream_ports)
        link.identity = found.identity
        return link

    async def _connect(
        self,
        host: str,
        shown: Shown | Identity,
        address: str,
        handler: Handler,
        ports: dict[str, SimulatedPort],
        is_standby: bool = False,
    ) -> Connection:
        ip = address.partition(":")[0]
        target = self._moved.get(ip, ip)
        await asyncio.sleep(self.latency_s())
        place = self._places.get(target)
        if place is None or place.frozen or host in self._off or not self.linked(host, target):
            await asyncio.sleep(CONNECT_TIMEOUT_S)
            raise Unavailable(f"{address}: timeout")
        port = ports.get(target)
        if port is None:
            raise Unavailable(f"{address}: connection refused")
        shown = Shown(shown) if isinstance(shown, Identity) else shown
        if not port.lets_in(shown):
            raise Unavailable(f"{address}: the certificate is not valid now")
        client, server = _End(self, host), _End(self, target)
        client.peer, server.peer = server, client
        client.is_standby = server.is_standby = is_standby
        for end in (client, server):
            end.local_host, end.remote_host = self._address_of(end.host), self._address_of(end.peer.host)
        its = port.shown()
        client.identity, server.identity = its.identity if its is not None else None, shown.identity
        taken = place.run(port.accept, server)
        if taken is None:
            raise Unavailable(f"{address}: connection refused")
        client.handler, server.handler = handler, taken
        for end in (client, server):
            self._ends.setdefault(end.host, {})[end] = None
        place.run(taken.connected, server)
        handler.connected(client)
        return client

    def _address_of(self, host: str) -> str:
        return self._at.get(host, host)

    def forget(self, end: _End) -> None:
        self._ends.get(end.host, {}).pop(end, None)


class _End:
    """One side of a connection."""

    peer: _End
    handler: Handler

    def __init__(self, network: Network, host: str) -> None:
        self.network = network
        self.host = host
        self.remote_host = self.local_host = ""
        self.identity: Identity | None = None
        self.is_standby = False
        self.inbox = _Inbox(self)
        self.open = True
        self.is_lost = False

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

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def push(self, frame: bytes | None) -> None:
        if not self._end.is_lost:
            self._waiting.append(frame)
            self.wake()

    def wake(self) -> None:
        if self._timer is None and self._waiting and self._passes():
            network = self._end.network
            context = network.place(self._end.host).context()
            self._timer = asyncio.get_running_loop().call_later(
                network.latency_s(), self._deliver, context=context
            )

    def _passes(self) -> bool:
        return self._end.network.passes(self._end.peer.host, self._end.host)

    def _deliver(self) -> None:
        self._timer = None
        if not self._passes():
            return  # `heal` wakes us
        while self._waiting:
            self._end.receive(self._waiting.popleft())
