"""The managers' port: who gets in, and what happens to those who misbehave. Real TLS on loopback."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator

import pytest

from skep.manager.ca.authority import Authority, new_root
from skep.rpc.certificates import NodeKeys, new_key_and_request
from skep.rpc.interfaces import FRAME_MAX_BYTES, Connection, Handler
from skep.rpc.link import connect
from skep.rpc.link_server import LinkServer
from skep.rpc.tls import ContextPool, client_context, enrolment_context, server_context
from skep.runtime.errors import Denied, Unavailable
from skep.runtime.ids import id_source

DAY_S = 24 * 3600
new_id = id_source(random.Random(1))


class Swarm:
    """A CA and the keys it gives."""

    def __init__(self) -> None:
        self.ca, key = new_root(time.time() - 100 * DAY_S)
        self._authority = Authority(self.ca, key)

    def keys(self, role: str, at: float | None = None) -> NodeKeys:
        key, request = new_key_and_request()
        now = time.time() if at is None else at
        certificate = self._authority.sign(request, new_id(), role, "c", now, DAY_S)
        return NodeKeys(key, certificate, self.ca)


class Recorder:
    """Keeps what a connection brings; `echo` sends every frame back."""

    def __init__(self, echo: bool = False) -> None:
        self.echo = echo
        self.connection: Connection | None = None
        self.frames: asyncio.Queue[bytes] = asyncio.Queue()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def connected(self, connection: Connection) -> None:
        self.connection = connection

    def frame(self, data: bytes) -> None:
        self.frames.put_nowait(data)
        if self.echo and self.connection is not None:
            self.connection.send(data)

    def closed(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)


class Port:
    """A listening manager that echoes."""

    def __init__(self, swarm: Swarm, role: str = "manager") -> None:
        self.swarm = swarm
        self.server = LinkServer()
        self.accepted: list[Recorder] = []
        self.context = server_context(swarm.keys(role))

    async def listen(self) -> None:
        await self.server.listen("127.0.0.1", 0, self.context, self._accept)

    def _accept(self, connection: Connection) -> Handler:
        made = Recorder(echo=True)
        self.accepted.append(made)
        made.connected(connection)
        return made

    async def echoes(self) -> bool:
        """True where a well-behaved node is served."""
        recorder = Recorder()
        context = client_context(self.swarm.keys("worker"))
        link = await connect("127.0.0.1", self.server.port, context, recorder)
        link.send(b"hello")
        got = await asyncio.wait_for(recorder.frames.get(), 5)
        link.close()
        return got == b"hello"


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    made = Port(Swarm())
    await made.listen()
    yield made
    await made.server.close()


async def test_frames_pass_both_ways_and_the_certificate_says_who_it_is(port: Port) -> None:
    assert await port.echoes()
    (accepted,) = port.accepted
    assert accepted.connection is not None
    identity = accepted.connection.identity
    assert identity is not None
    assert identity.role == "worker"


async def test_large_frames_pass_whole(port: Port) -> None:
    recorder = Recorder()
    context = client_context(port.swarm.keys("worker"))
    link = await connect("127.0.0.1", port.server.port, context, recorder)
    link.send(b"hello")  # the first frame may not be long: it says who speaks
    assert await asyncio.wait_for(recorder.frames.get(), 5) == b"hello"
    data = random.Random(1).randbytes(5_000_000)
    link.send(data)
    assert await asyncio.wait_for(recorder.frames.get(), 20) == data
    link.close()


async def test_without_a_certificate_one_is_nobody(port: Port) -> None:
    link = await connect("127.0.0.1", port.server.port, enrolment_context(), Recorder(), expect_role=None)
    link.send(b"x")
    await asyncio.wait_for(_accepted(port), 5)
    assert port.accepted[0].connection is not None
    assert port.accepted[0].connection.identity is None
    link.close()


async def test_an_expired_certificate_is_refused(port: Port) -> None:
    recorder = Recorder()
    keys = port.swarm.keys("worker", at=time.time() - 30 * DAY_S)
    await _refused(port, keys, recorder)
    assert await port.echoes()


async def test_a_certificate_of_another_swarm_is_refused(port: Port) -> None:
    other = Swarm().keys("worker")
    keys = NodeKeys(other.key_pem, other.certificate_pem, port.swarm.ca)
    await _refused(port, keys, Recorder())
    assert await port.echoes()


async def test_a_manager_of_another_swarm_is_not_believed(port: Port) -> None:
    with pytest.raises(Denied, match="not of this swarm"):
        await connect("127.0.0.1", port.server.port, client_context(Swarm().keys("worker")), Recorder())


async def test_a_worker_cannot_pose_as_a_manager() -> None:
    swarm = Swarm()
    worker = Port(swarm, role="worker")
    await worker.listen()
    with pytest.raises(Denied, match="is not a manager of this swarm"):
        await connect("127.0.0.1", worker.server.port, client_context(swarm.keys("worker")), Recorder())
    await worker.server.close()


async def test_a_frame_that_is_too_large_ends_its_connection_only(port: Port) -> None:
    context = client_context(port.swarm.keys("worker"))
    reader, writer = await asyncio.open_connection("127.0.0.1", port.server.port, ssl=context)
    writer.write(struct.pack(">I", FRAME_MAX_BYTES + 1) + b"x" * 100)
    assert await asyncio.wait_for(_read_to_end(reader), 5) == b""
    assert "was announced" in await asyncio.wait_for(port.accepted[0].ended, 5)
    writer.close()
    assert await port.echoes()


async def test_garbage_instead_of_tls_disturbs_nobody(port: Port) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port.server.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await asyncio.wait_for(_read_to_end(reader), 5)
    writer.close()
    assert port.accepted == []
    assert await port.echoes()


async def test_a_peer_that_does_not_answer_is_named() -> None:
    held: list[
        asyncio.StreamWriter
    ] = []  # since Python 3.13 a writer that nobody holds closes its connection
    silent = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    context = client_context(Swarm().keys("worker"))
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port} did not answer within 0.5 s"):
        await connect("127.0.0.1", port, context, Recorder(), timeout_s=0.5)
    silent.close()
    for writer in held:
        writer.close()


async def test_contexts_in_turn_keep_nodes_apart(port: Port) -> None:
    """Simulated nodes share contexts: each connection must still show its own certificate."""
    pool = ContextPool()
    ids = []
    for _ in range(3):
        keys = port.swarm.keys("worker")
        with pool.lend(keys) as context:
            link = await connect("127.0.0.1", port.server.port, context, Recorder())
        link.send(b"x")
        link.close()
    await asyncio.sleep(0.1)
    for accepted in port.accepted:
        assert accepted.connection is not None
        assert accepted.connection.identity is not None
        ids.append(accepted.connection.identity.node_id)
    assert len(set(ids)) == 3


async def test_trust_changes_under_connections_that_stand(port: Port) -> None:
    """A rotation of the CA, as the port sees it: nodes come all the time, and none is refused."""
    old, other = port.swarm, Swarm()
    standing = Recorder()
    link = await connect("127.0.0.1", port.server.port, client_context(old.keys("worker")), standing)
    is_over = False

    async def come_and_go(node: NodeKeys) -> int:
        count = 0
        while not is_over:
            recorder = Recorder()
            made = await connect("127.0.0.1", port.server.port, client_context(node), recorder)
            made.send(b"hello")
            assert await asyncio.wait_for(recorder.frames.get(), 5) == b"hello"
            made.close()
            count += 1
        return count

    comers = [asyncio.ensure_future(come_and_go(old.keys("worker"))) for _ in range(4)]
    for _ in range(20):
        await asyncio.sleep(0.03)
        await port.server.reopen(server_context(old.keys("manager")))
    is_over = True
    assert sum(await asyncio.gather(*comers)) > 20
    await port.server.reopen(server_context(other.keys("manager")))
    await _refused(port, old.keys("worker"), Recorder(), known=len(port.accepted))
    port.swarm = other
    assert await port.echoes()
    link.send(b"still here")
    assert await asyncio.wait_for(standing.frames.get(), 5) == b"still here"
    link.close()


@pytest.mark.parametrize("host", ["a..b", "a" * 64, "a" * 64 + ".example", "xn--\xe9"])
async def test_what_is_no_name_is_no_such_host(host: str) -> None:
    with pytest.raises(Unavailable) as failed:
        await connect(host, 2377, enrolment_context(), Recorder(), expect_role=None)
    assert str(failed.value) == (
        'rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing'
        f' dial tcp: lookup {host}: no such host"'
    )


async def test_a_name_that_cannot_be_looked_up_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    with pytest.raises(Unavailable, match=r"lookup mg\.example: temporary failure in name resolution"):
        await connect("mg.example", 2377, enrolment_context(), Recorder(), expect_role=None)


async def _refused(port: Port, keys: NodeKeys, recorder: Recorder, known: int = 0) -> None:
    """With TLS 1.3 a client learns only after its own handshake that it was refused."""
    try:
        link = await connect("127.0.0.1", port.server.port, client_context(keys), recorder)
    except (Unavailable, Denied, ssl.SSLError):
        return
    link.send(b"let me in")
    await asyncio.wait_for(recorder.ended, 5)
    assert recorder.frames.empty()
    assert len(port.accepted) == known


async def _accepted(port: Port) -> None:
    while not port.accepted:
        await asyncio.sleep(0.01)


async def _read_to_end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except (ConnectionError, ssl.SSLError):
        return b""


async def test_what_became_of_handshakes_is_counted(port: Port) -> None:
    def counted() -> dict[str, float]:
        handshakes, *_ = port.server.metrics
        return {each.labels["result"]: each.value for each in handshakes.samples()}

    assert counted() == {"known": 0, "unknown": 0, "evicted": 0}
    assert await port.echoes()
    reader, writer = await asyncio.open_connection("127.0.0.1", port.server.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(5):
        await reader.read()
        while counted()["unknown"] < 1:
            await asyncio.sleep(0.02)
    writer.close()
    assert counted() == {"known": 1, "unknown": 1, "evicted": 0}
