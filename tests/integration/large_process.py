"""One node on a large network, in a process of its own: the product's session, networking, names and data plane, and
a manager at the other end of the line who knows a whole network. Commands as JSON on stdin, one per line, each
answered with what the manager was asked since and what the node says it cannot do."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import structlog

from skep.agent.naming import Naming
from skep.agent.networking import Networking
from skep.agent.session import Session
from skep.model.node import NodeDescription
from skep.model.overlay import Overlay, OverlayEndpoint, OverlayService, packed
from skep.network.dns_server import DnsServer
from skep.network.names import Names
from skep.network.plane import DataPlane
from skep.rpc import messages
from skep.rpc.interfaces import Handler, Identity


class Manager:
    """A connection, and who is at its other end. It knows all of `world`, and who asked for what."""

    identity: Identity | None = None
    remote_host = local_host = "192.0.2.1"

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self.world: Overlay | None = None
        self.handler: Handler | None = None
        self.asked: list[messages.OverlayAsk] = []
        self.failures: list[str] = []
        self.is_silent = False
        self._services: set[str] = set()
        self._addresses: set[str] = set()

    async def connect(self, address: str, handler: Handler) -> Manager:
        self.handler = handler
        self._services, self._addresses = set(), set()
        asyncio.get_running_loop().call_soon(handler.connected, self)
        return self

    def say(self, *said: messages.FromManager) -> None:
        for each in said:
            assert self.handler is not None
            self.handler.frame(messages.encode(each))

    def close(self) -> None:
        if self.handler is not None:
            handler, self.handler = self.handler, None
            asyncio.get_running_loop().call_soon(handler.closed, "it was closed")

    def send(self, frame: bytes) -> None:
        asyncio.get_running_loop().call_soon(self._take, messages.decode_from_agent(frame))

    def _take(self, said: messages.FromAgent) -> None:
        if isinstance(said, messages.Register):
            assert messages.RESOLVE in said.features
            self.say(messages.Registered(5.0, [], features=list(messages.FEATURES)))
            self.begin()
        elif isinstance(said, messages.Heartbeat):
            self.say(messages.HeartbeatAck(5.0, []))
        elif isinstance(said, messages.MeshApplied):
            self.failures = said.failures
        elif isinstance(said, messages.OverlayAsk):
            self.asked.append(said)
            if not self.is_silent:
                self._answer(said)

    def begin(self) -> None:
        """Tells the node its own, as at the begin of a session."""
        if self.world is not None:
            self._services, self._addresses = set(), set()
            own = [each for each in self.world.everyone() if each.node_id == self._node_id]
            self.say(self._told([], own, is_complete=True))
            self.say(messages.OverlaysHeld([self.world.network.id]))
        self.say(messages.MeshTold(True))

    def changed(self, world: Overlay) -> None:
        """Tells the node what it should hear of that."""
        before, self.world = self.world, world
        if before is None:
            self.begin()
            return
        now, was = ({e.address: e for e in each.everyone()} for each in (world, before))
        mine = {a for a, e in (was | now).items() if e.node_id == self._node_id} | self._addresses
        services = [
            s for i, s in world.services.items() if i in self._services and before.services.get(i) != s
        ]
        endpoints = [now[a] for a in mine if a in now and now[a] != was.get(a)]
        gone_services = sorted(self._services - world.services.keys())
        gone = [a for a in mine if a in was and a not in now]
        told = self._told(services, endpoints)
        self.say(msgspec.structs.replace(told, gone_services=gone_services, gone_endpoints=gone))

    def _answer(self, asked: messages.OverlayAsk) -> None:
        assert self.world is not None
        services = list(self.world.services.values())
        there = {each.address: each for each in self.world.everyone()}
        found: dict[str, OverlayService] = {}
        endpoints: list[OverlayEndpoint] = []
        unknown: list[list[str]] = [[], [], []]
        for name in asked.names:
            by_name = [s for s in services if name in (s.name, *s.aliases)]
            containers = [e for e in there.values() if e.name == name]
            found.update((s.id, s) for s in by_name)
            endpoints += containers
            unknown[0] += [] if by_name or containers else [name]
        for address in asked.addresses:
            by_vip = [s for s in services if s.vip == address]
            found.update((s.id, s) for s in by_vip)
            endpoints += [there[address]] if address in there else []
            unknown[1] += [] if by_vip or address in there else [address]
        for id in asked.services:
            found.update((s.id, s) for s in services if s.id == id)
            unknown[2] += [] if id in found else [id]
        self._services |= found.keys()
        self._addresses |= {each.address for each in endpoints}
        self.say(self._told(found.values(), endpoints), messages.OverlayAnswered(asked.number, *unknown))

    def _told(
        self, services: Iterable[OverlayService], endpoints: list[OverlayEndpoint], is_complete: bool = False
    ) -> messages.OverlayTold:
        """With where the tunnels end of those of which it tells, and of no other."""
        assert self.world is not None
        services = list(services)
        nodes = {each.node_id for each in (*endpoints, *(e for s in services for e in s.endpoints))}
        ends = sorted((n, a) for n, a in self.world.nodes.items() if n in nodes)
        senders = packed(self.world.nodes.values()) if is_complete else b""
        return messages.OverlayTold(
            self.world.network, is_complete, ends, services=services, endpoints=endpoints, senders=senders
        )


async def main(node_id: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    manager = Manager(node_id)
    session = Session(connect=manager.connect, managers=["m:1"], rng=random.Random(1))
    names = Names()
    naming = Naming(DnsServer(names, Path(os.devnull)), names)
    networking = Networking(session, DataPlane(node_id, "swarm1", Path(os.devnull)), naming)
    naming.resolve_with(networking.resolve)
    networking.start()
    naming.start()

    async def describe() -> NodeDescription:
        return NodeDescription(hostname=node_id)

    running = asyncio.ensure_future(session.run(describe))
    reader = asyncio.StreamReader(limit=1 << 20)
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    await session.ready.wait()
    while line := await reader.readline():
        command: list[Any] = msgspec.json.decode(line)
        match command:
            case ["world", world]:
                manager.changed(msgspec.convert(world, Overlay))
                await networking._settled()
            case ["serve", network_id, gateway]:
                naming.serve(network_id, gateway, True)
            case ["leads anew", world]:
                manager.world = msgspec.convert(world, Overlay)
                manager.close()
                while not manager.asked:
                    await asyncio.sleep(0.05)
                await networking._settled()
            case ["silent", is_silent]:
                manager.is_silent = is_silent
        answer = {
            "asked": [t for a in manager.asked for t in (*a.names, *a.addresses, *a.services)],
            "failures": manager.failures,
            "known": sorted(e.address for o in networking._overlays.all.values() for e in o.everyone()),
        }
        manager.asked.clear()
        print(msgspec.json.encode(answer).decode(), flush=True)
    running.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
