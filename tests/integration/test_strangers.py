"""The managers' port and those who mean it ill: real TLS on loopback, hostile peers in a process of their own."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import ssl
import struct
import time
from collections.abc import AsyncIterator

import msgspec
import pytest

from skep.daemon import connection_dispatch
from skep.daemon.connection_dispatch import ConnectionDispatch
from skep.manager.ca.authority import Authority, join_token, new_root, role_of_token
from skep.model.node import NodeDescription
from skep.rpc import admission, enrol, half_received, link_server
from skep.rpc import enrolment_messages as wire
from skep.rpc.certificates import NodeKeys, new_key_and_request
from skep.rpc.enrol import EnrolHandler
from skep.rpc.interfaces import Connection, Handler
from skep.rpc.link import FrameLink, connect
from skep.rpc.link_server import LinkServer
from skep.rpc.tls import client_context, enrolment_context, server_context
from skep.runtime.errors import Invalid
from skep.runtime.ids import id_source
from tests.hostile import frame

from .session_ends import Echo, Node

SECRET = "1" * 25
NO_DESCRIPTION = msgspec.msgpack.encode([{}] * 50_000)
new_id = id_source(random.Random(2))


class Manager:
    """A port as a manager has it, with a registrar that signs at once and sessions that echo."""

    def __init__(self) -> None:
        self.ca, key = new_root(time.time() - 1000)
        self._authority = Authority(self.ca, key)
        self.token = join_token(self.ca, SECRET)
        self.server = LinkServer()
        self.sessions: list[Echo] = []
        self.enrolled = 0

    def keys(self, role: str = "worker", node_id: str = "") -> NodeKeys:
        key, request = new_key_and_request()
        return NodeKeys(key, self._sign(request, node_id or new_id(), role), self.ca)

    def _sign(self, request: bytes, node_id: str, role: str) -> bytes:
        return self._authority.sign(request, node_id, role, "c", time.time(), 1000)

    async def listen(self) -> None:
        await self.server.listen("127.0.0.1", 0, server_context(self.keys("manager")), self._handler)

    def _handler(self, link: FrameLink) -> Handler:
        if link.identity is None:
            return EnrolHandler(link, self.ca, self)
        return ConnectionDispatch(link, self._session, None, lambda link, brought: None)

    def _session(self, connection: Connection) -> Handler:
        self.sessions.append(Echo(connection))
        return self.sessions[-1]

    # Registrar

    def knows(self, token: str) -> bool:
        return role_of_token(token, self.ca, SECRET, "2" * 25) == "worker"

    async def enrol(self, request: wire.Enrol, remote_host: str) -> wire.Enrolled:
        self.enrolled += 1
        node_id = new_id()
        return wire.Enrolled(node_id, self._sign(request.request_pem, node_id, "worker"), "c", [])

    # A well-behaved node

    async def join(self) -> enrol.Enrolment:
        said = NodeDescription(hostname="n")
        return await enrol.enrol("127.0.0.1", self.server.port, self.token, said, "active", time.time())

    async def serves(self, keys: NodeKeys) -> bool:
        node = Node(b"")
        link = await connect("127.0.0.1", self.server.port, client_context(keys), node)
        link.send(b"hello")
        got = await asyncio.wait_for(node.frames.get(), 5)
        link.close()
        return got == b"hello"

    async def open(self, keys: NodeKeys | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = client_context(keys) if keys is not None else enrolment_context()
        return await asyncio.open_connection("127.0.0.1", self.server.port, ssl=context)


@pytest.fixture
async def manager() -> AsyncIterator[Manager]:
    made = Manager()
    await made.listen()
    yield made
    await made.server.close()


# What one connection may do


async def test_who_joins_and_who_comes_back_are_served(manager: Manager) -> None:
    joined = await manager.join()
    assert await manager.serves(joined.keys)


@pytest.mark.parametrize("size", [(64 << 10) + 1, 16 << 20])
async def test_a_stranger_may_say_no_more_than_64_kb(manager: Manager, size: int) -> None:
    reader, writer = await manager.open(None)
    writer.write(struct.pack(">I", size))
    assert await ends(reader) == b""
    writer.close()


async def test_a_node_says_first_who_it_is_and_no_more(manager: Manager) -> None:
    reader, writer = await manager.open(manager.keys())
    writer.write(struct.pack(">I", 1 << 20))
    assert await ends(reader) == b""
    writer.close()
    assert manager.sessions == []


async def test_the_token_is_looked_at_before_the_rest(manager: Manager) -> None:
    """A wrong one is refused as such, whatever comes with it; nothing of that is decoded."""
    reader, writer = await manager.open(None)
    writer.write(frame(enrol_frame(manager.token[:-25] + "9" * 25, NO_DESCRIPTION)))
    answer = wire.decode_from_manager((await ends(reader))[4:])
    assert isinstance(answer, wire.Refused)
    assert answer.kind == "denied"
    assert "A valid join token is necessary" in answer.message
    writer.close()


async def test_what_is_no_description_is_refused(manager: Manager) -> None:
    reader, writer = await manager.open(None)
    writer.write(frame(enrol_frame(manager.token, NO_DESCRIPTION)))
    answer = wire.decode_from_manager((await ends(reader))[4:])
    assert isinstance(answer, wire.Refused)
    assert answer.kind == "invalid"
    assert manager.enrolled == 0
    writer.close()


async def test_one_question_and_one_enrolment_are_all(manager: Manager) -> None:
    question = frame(wire.encode(wire.GetCa()))
    reader, writer = await manager.open(None)
    writer.write(question * 1000)
    answers = await ends(reader)
    assert answers.count(b"BEGIN CERTIFICATE") <= 1
    writer.close()

    request = new_key_and_request()[1]
    asked = frame(wire.encode(wire.Enrol(manager.token, request, "active", NodeDescription())))
    reader, writer = await manager.open(None)
    writer.write(asked)
    assert b"enrolled" in await ends(reader)  # and the connection has ended with it
    writer.close()
    reader, writer = await manager.open(None)
    writer.write(asked * 100)
    await ends(reader)
    writer.close()
    assert manager.enrolled <= 2


async def test_who_needs_more_to_say_what_it_is_learns_why_it_cannot_join(manager: Manager) -> None:
    said = NodeDescription(hostname="n" * 70_000)
    with pytest.raises(Invalid, match=r"this node needs \d+ bytes to say what it is, 65536 may be"):
        await enrol.enrol("127.0.0.1", manager.server.port, manager.token, said, "active", time.time())


# Silence


async def test_a_connection_on_which_nothing_comes_is_closed(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "SILENT_S", 0.3)
    monkeypatch.setattr(enrol, "TOKEN_S", 0.3)
    monkeypatch.setattr(connection_dispatch, "FIRST_FRAME_S", 0.3)
    plain, writer = await asyncio.open_connection("127.0.0.1", manager.server.port)
    assert await ends(plain) == b""
    writer.close()
    for keys in (None, manager.keys()):
        reader, writer = await manager.open(keys)
        assert await ends(reader) == b""
        writer.close()


async def test_the_rest_of_a_frame_must_come(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_received, "FRAME_S", 0.3)
    reader, writer = await manager.open(manager.keys())
    writer.write(frame(b"hello") + struct.pack(">I", 1000) + b"x")
    assert await ends(reader) == frame(b"hello")
    writer.close()


# Many


async def test_one_certificate_has_so_many_connections_and_the_latest_are_kept(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_server, "NODE_LINKS_MAX", 4)
    keys = manager.keys()
    made: list[tuple[FrameLink, Node]] = []
    for n in range(7):
        node = Node(b"")
        link = await connect("127.0.0.1", manager.server.port, client_context(keys), node)
        if n != 5:  # this one says nothing
            link.send(b"hello")
            assert await asyncio.wait_for(node.frames.get(), 5) == b"hello"
        made.append((link, node))
    await asyncio.sleep(0.2)
    assert [node.ended.is_set() for _, node in made] == [True, True, False, False, False, True, False]
    assert await manager.serves(manager.keys())
    for link, _ in made:
        link.close()


async def test_what_is_held_of_half_frames_is_bounded_and_who_holds_most_is_cut_off(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = manager.server
    server._halves[True]._max_bytes = 3 << 20
    small, greedy = manager.keys(), manager.keys()
    reader, writer = await manager.open(small)
    writer.write(frame(b"hello") + struct.pack(">I", 1 << 20) + bytes(1 << 19))
    await asyncio.wait_for(reader.readexactly(9), 5)
    others = []
    for _ in range(8):
        opened = await manager.open(greedy)
        opened[1].write(frame(b"hello") + struct.pack(">I", 1 << 20) + bytes(1 << 19))
        await asyncio.wait_for(opened[0].readexactly(9), 5)
        others.append(opened)
    await asyncio.sleep(0.3)
    assert server._halves[True]._size <= 3 << 20
    assert sum(opened[0].at_eof() or opened[0].exception() is not None for opened in others) >= 3
    writer.write(bytes(1 << 19))
    assert len(await asyncio.wait_for(reader.readexactly(4 + (1 << 20)), 5)) == 4 + (1 << 20)
    for _, each in [(reader, writer), *others]:
        each.close()


async def test_files_are_kept_for_others_than_the_port(capsys: pytest.CaptureFixture[str]) -> None:
    """Connections wait while too many files are open; then they are served."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    manager = Manager()
    held: list[int] = []
    try:
        await manager.listen()
        keys = manager.keys()
        assert await manager.serves(keys)
        served = True
        for _ in range(5):  # it may be waiting for one already, and what ended before may close only now
            hold(held, 200)
            try:
                served = await asyncio.wait_for(manager.serves(keys), 1)
            except TimeoutError:
                served = False
                break
        assert not served
        assert "too many files are open" in capsys.readouterr().out
        for each in held:
            os.close(each)
        held.clear()
        assert await manager.serves(keys)
    finally:
        for each in held:
            os.close(each)
        await manager.server.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_swarm_that_comes_at_once_from_one_address_is_served(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many more than there are places, at the same moment; nobody is turned away."""
    monkeypatch.setattr(admission, "ADDRESS_PLACES_MAX", 6)
    monkeypatch.setattr(admission, "GRACE_MAX_S", 60.0)  # this process is the manager and all its nodes
    monkeypatch.setattr(admission, "GRACE_S", 60.0)
    joined = await asyncio.gather(*(manager.join() for _ in range(60)))
    assert len({each.node_id for each in joined}) == 60
    assert all(await asyncio.gather(*(manager.serves(each.keys) for each in joined)))


def hold(held: list[int], most: int) -> None:
    """Opens files until the next one has that number."""
    while (opened := os.open(os.devnull, os.O_RDONLY)) < most:
        held.append(opened)
    os.close(opened)


def enrol_frame(token: str, description: bytes) -> bytes:
    """A request whose description is these bytes."""
    whole = wire.encode(wire.Enrol(token, b"x", "active", NodeDescription()))
    own = b"description" + wire.encode(NodeDescription())
    assert whole.count(own) == 1
    return whole.replace(own, b"description" + description)


async def ends(reader: asyncio.StreamReader) -> bytes:
    """Returns all that comes until the manager ends the connection, in time."""
    found = b""
    try:
        async with asyncio.timeout(5):
            while data := await reader.read(1 << 16):
                found += data
    except (ConnectionError, ssl.SSLError):
        pass
    return found
