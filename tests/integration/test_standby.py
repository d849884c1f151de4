"""Standby connections over real TLS: who has one, what it costs, and managers and agents of an earlier skep."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from skep.agent import standbys as agent_side
from skep.agent.standbys import Standbys
from skep.daemon import connection_dispatch
from skep.daemon.agent_runner import TlsLine
from skep.daemon.connection_dispatch import ConnectionDispatch
from skep.daemon.standby_connections import StandbyConnections
from skep.manager.ca.authority import Authority, new_root
from skep.rpc.certificates import NodeKeys, new_key_and_request
from skep.rpc.interfaces import Connection, Handler
from skep.rpc.link import KEEPALIVE_S, FrameLink, connect
from skep.rpc.link_server import LinkServer
from skep.rpc.messages import StandbyWish
from skep.rpc.standby import KEEPALIVE_S as RESTING_S
from skep.rpc.tls import client_context, server_context
from skep.runtime.errors import Unsupported
from skep.runtime.ids import id_source

from .session_ends import Echo, Node

new_id = id_source(random.Random(3))
WISH = StandbyWish(1.0, 0.05)


class Swarm:
    """A CA, and managers' ports as `ManagerRunner` has them, whose sessions echo."""

    def __init__(self) -> None:
        self.ca, key = new_root(time.time() - 1000)
        self._authority = Authority(self.ca, key)
        self.managers: list[Manager] = []

    def keys(self, role: str = "worker", life_s: float = 1000.0) -> NodeKeys:
        key, request = new_key_and_request()
        certificate = self._authority.sign(request, new_id(), role, "c", time.time(), life_s)
        return NodeKeys(key, certificate, self.ca)

    async def manager(self, is_earlier: bool = False, most: int = 100) -> Manager:
        context = server_context(self.keys("manager"))
        if is_earlier:
            context = server_context(self.keys("manager"))
            context.set_alpn_protocols([])
        made = Manager(most)
        await made.server.listen("127.0.0.1", 0, context, made.handler)
        self.managers.append(made)
        return made


class Manager:
    def __init__(self, most: int) -> None:
        self.server = LinkServer()
        self.standbys = StandbyConnections(time.time, most)
        self.links: list[FrameLink] = []
        self.sessions: list[Echo] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def handler(self, link: FrameLink) -> Handler:
        self.links.append(link)
        standbys = self.standbys if link.is_standby else None
        return ConnectionDispatch(link, self._session, None, lambda link, brought: None, standbys)

    def _session(self, connection: Connection) -> Handler:
        self.sessions.append(Echo(connection))
        return self.sessions[-1]

    def handshakes(self) -> float:
        return float(self.server.metrics[0].value(("known",)))  # type: ignore[attr-defined]


@pytest.fixture
async def swarm() -> AsyncIterator[Swarm]:
    made = Swarm()
    yield made
    for manager in made.managers:
        await manager.server.close()


def standbys_of(keys: NodeKeys) -> tuple[TlsLine, Standbys]:
    line = TlsLine(keys)
    return line, Standbys(line, time.time, random.Random(1))


async def until(test: Any) -> None:
    async with asyncio.timeout(5):
        while not test():
            await asyncio.sleep(0.01)


def idle_s(link: FrameLink) -> int:
    assert link._transport is not None
    plain = link._transport.get_extra_info("socket")
    return int(plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))


async def test_a_session_begins_without_a_handshake(swarm: Swarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_dispatch, "FIRST_FRAME_S", 0.1)  # what others must keep to
    leads, other = await swarm.manager(), await swarm.manager()
    _, standbys = standbys_of(swarm.keys())
    standbys.told(WISH, [leads.address, other.address], leads.address)
    await until(lambda: len(other.standbys) == 1 and standbys.has(other.address))
    await asyncio.sleep(0.3)
    assert len(other.standbys) == 1  # a stranger would have been cut off by now
    assert (idle_s(other.links[0]), other.sessions) == (RESTING_S, [])

    node = Node()
    connection = await standbys.connect(other.address, node)
    assert isinstance(connection, FrameLink)
    assert await asyncio.wait_for(node.frames.get(), 5) == b"register"
    assert (len(other.links), len(other.sessions), len(other.standbys)) == (1, 1, 0)
    assert (idle_s(other.links[0]), idle_s(connection)) == (KEEPALIVE_S, KEEPALIVE_S)
    connection.close()
    await standbys.close()


async def test_a_manager_of_an_earlier_skep_keeps_none(swarm: Swarm) -> None:
    earlier, newer = await swarm.manager(is_earlier=True), await swarm.manager()
    line, standbys = standbys_of(swarm.keys())
    with pytest.raises(Unsupported, match=f"{earlier.address} is of an earlier skep"):
        await line.connect_standby(earlier.address, Node())
    standbys.told(StandbyWish(2.0, 0.05), [earlier.address, newer.address, "127.0.0.1:1"], "127.0.0.1:1")
    await until(lambda: standbys.has(newer.address))
    await asyncio.sleep(0.3)
    assert not standbys.has(earlier.address)
    assert earlier.sessions == []  # it was told nothing that it does not know
    node = Node()
    connection = await standbys.connect(earlier.address, node)
    assert await asyncio.wait_for(node.frames.get(), 5) == b"register"
    connection.close()
    await standbys.close()


async def test_an_agent_of_an_earlier_skep_is_served_as_ever(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_dispatch, "FIRST_FRAME_S", 0.2)
    manager = await swarm.manager()
    keys, node, silent = swarm.keys(), Node(), Node()
    host, port = "127.0.0.1", manager.server.port
    link = await connect(host, port, client_context(keys), node)
    assert await asyncio.wait_for(node.frames.get(), 5) == b"register"  # no other word before it
    assert len(manager.standbys) == 0
    reader, writer = await asyncio.open_connection(host, port, ssl=client_context(swarm.keys()))
    assert await asyncio.wait_for(reader.read(), 5) == b""  # who says nothing is cut off
    writer.close()
    assert not silent.ended.is_set()
    link.close()


async def test_another_protocol_is_no_standby(swarm: Swarm) -> None:
    manager = await swarm.manager()
    context = client_context(swarm.keys())
    context.set_alpn_protocols(["h2"])
    node = Node()
    link = await connect("127.0.0.1", manager.server.port, context, node)
    assert await asyncio.wait_for(node.frames.get(), 5) == b"register"
    assert len(manager.standbys) == 0
    link.close()


async def test_a_node_has_one_and_of_too_many_the_newest_is_refused(swarm: Swarm) -> None:
    manager = await swarm.manager(most=3)
    keys, own = swarm.keys(), [Node(b"") for _ in range(4)]
    for waiting in own:  # one certificate, four connections
        await TlsLine(keys).connect_standby(manager.address, waiting)
    for waiting in own[:3]:
        await asyncio.wait_for(waiting.ended.wait(), 5)
    others = [Node(b"") for _ in range(3)]
    for waiting in others:
        await TlsLine(swarm.keys()).connect_standby(manager.address, waiting)
    await asyncio.wait_for(others[2].ended.wait(), 5)
    assert [waiting.ended.is_set() for waiting in (own[3], others[0], others[1])] == [False] * 3
    assert len(manager.standbys) == 3


async def test_without_a_certificate_nobody_waits(swarm: Swarm) -> None:
    manager = await swarm.manager()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["skep-standby/1"])
    _, writer = await asyncio.open_connection("127.0.0.1", manager.server.port, ssl=context)
    await until(lambda: bool(manager.links))
    assert not manager.links[0].is_standby
    assert len(manager.standbys) == 0
    writer.close()


async def test_a_certificate_that_expires_meanwhile_begins_no_session(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = await swarm.manager()
    _, standbys = standbys_of(swarm.keys(life_s=1000.0))
    standbys.told(WISH, [manager.address], "")
    await until(lambda: standbys.has(manager.address))
    manager.standbys._now = lambda: time.time() + 2000
    node = Node()
    await standbys.connect(manager.address, node)
    await asyncio.wait_for(node.ended.wait(), 5)
    assert manager.sessions == []
    assert node.frames.empty()
    await standbys.close()


async def test_a_host_that_is_gone_is_noticed_at_use(swarm: Swarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody tells: the manager's end reads nothing any more."""
    monkeypatch.setattr(agent_side, "SIGN_S", 0.3)
    manager = await swarm.manager()
    _, standbys = standbys_of(swarm.keys())
    standbys.told(WISH, [manager.address], "")
    await until(
        lambda: standbys.has(manager.address) and bool(manager.links)
    )  # its end stands a little later
    transport = manager.links[0]._transport
    assert transport is not None
    transport.pause_reading()
    node = Node()
    await standbys.connect(manager.address, node)
    await asyncio.wait_for(node.ended.wait(), 5)
    again = Node()
    connection = await standbys.connect(manager.address, again)  # a new connection
    assert await asyncio.wait_for(again.frames.get(), 5) == b"register"
    connection.close()
    transport.abort()
    await standbys.close()
