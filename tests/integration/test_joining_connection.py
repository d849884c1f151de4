"""A node stays on the connection that it was enrolled on: real TLS, and managers and nodes of an earlier skep."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest

from skep.daemon import connection_dispatch
from skep.daemon.agent_runner import TlsLine
from skep.daemon.connection_dispatch import ConnectionDispatch
from skep.manager.ca.authority import Authority, join_token, new_root, role_of_token
from skep.model.node import NodeDescription
from skep.rpc import enrol as enrolling
from skep.rpc import enrolment_messages as wire
from skep.rpc.certificates import NodeKeys, new_key_and_request, nonce_of
from skep.rpc.enrol import Afterwards, EnrolHandler, Enrolment, enrol
from skep.rpc.interfaces import STRANGER_FRAME_MAX_BYTES, Connection, Handler
from skep.rpc.link import FrameLink
from skep.rpc.link_server import LinkServer
from skep.rpc.tls import enrolment_context, server_context
from skep.runtime.errors import Denied, Unavailable
from skep.runtime.ids import id_source
from tests.hostile import frame

from .session_ends import Echo, Node

SECRETS = "1" * 25, "2" * 25
SAID = NodeDescription(hostname="n")
new_id = id_source(random.Random(4))


class Swarm:
    """A CA, whose managers take nodes in."""

    def __init__(self) -> None:
        self.ca, key = new_root(time.time() - 1000)
        self._authority = Authority(self.ca, key)
        self.tokens = [join_token(self.ca, secret) for secret in SECRETS]
        self.managers: list[Manager] = []

    def sign(self, request: bytes, node_id: str, role: str) -> bytes:
        return self._authority.sign(request, node_id, role, "c", time.time(), 1000)

    async def manager(self, leads: bool = True, is_earlier: bool = False) -> Manager:
        made = Manager(self, leads, is_earlier)
        key, request = new_key_and_request()
        keys = NodeKeys(key, self.sign(request, new_id(), "manager"), self.ca)
        await made.server.listen("127.0.0.1", 0, server_context(keys), made.handler)
        self.managers.append(made)
        return made


class Manager:
    """Its sessions echo."""

    def __init__(self, swarm: Swarm, leads: bool, is_earlier: bool) -> None:
        self.swarm = swarm
        self.leads = leads
        self.server = LinkServer()
        self.links: list[FrameLink] = []
        self.sessions: list[Echo] = []
        self.enrolled: list[str] = []
        self.leader: tuple[str, int] | None = None
        self._afterwards = None if is_earlier else Afterwards(self._welcome, self._elsewhere)

    @property
    def port(self) -> int:
        return self.server.port

    def handler(self, link: FrameLink) -> Handler:
        self.links.append(link)
        if link.identity is None:
            return EnrolHandler(link, self.swarm.ca, self, afterwards=self._afterwards)
        return ConnectionDispatch(link, self._session, None, lambda link, brought: None)

    def _welcome(self, link: FrameLink) -> Handler | None:
        if not self.leads:
            return None
        return ConnectionDispatch(link, self._session, None, lambda link, brought: None)

    def _elsewhere(self) -> wire.Elsewhere | None:
        return wire.Elsewhere(*self.leader) if self.leader is not None else None

    def _session(self, connection: Connection) -> Handler:
        self.sessions.append(Echo(connection))
        return self.sessions[-1]

    # Registrar

    def knows(self, token: str) -> bool:
        return bool(role_of_token(token, self.swarm.ca, *SECRETS))

    async def enrol(self, request: wire.Enrol, remote_host: str) -> wire.Enrolled:
        role = role_of_token(request.token, self.swarm.ca, *SECRETS)
        self.enrolled.append(new_id())
        certificate = self.swarm.sign(request.request_pem, self.enrolled[-1], role)
        return wire.Enrolled(self.enrolled[-1], certificate, "c", [f"127.0.0.1:{self.port}"])

    async def join(self, stays: bool = True, role: int = 0) -> Enrolment:
        token = self.swarm.tokens[role]
        return await enrol("127.0.0.1", self.port, token, SAID, "active", time.time(), stays=stays)


@pytest.fixture
async def swarm() -> AsyncIterator[Swarm]:
    made = Swarm()
    yield made
    for manager in made.managers:
        await manager.server.close()


async def begin(enrolment: Enrolment, says: bytes = b"register") -> tuple[TlsLine, Connection]:
    """Returns a node's line and its first session, which has had its echo."""
    line, node = TlsLine(enrolment.keys, enrolment.stayed), Node(says)
    connection = await line.connect(enrolment.managers[0], node)
    assert await asyncio.wait_for(node.frames.get(), 5) == says
    return line, connection


@pytest.mark.parametrize("role", [0, 1])
async def test_one_connection_is_enough(swarm: Swarm, role: int) -> None:
    manager = await swarm.manager()
    enrolment = await manager.join(role=role)
    # What a node says of itself may be longer than what a stranger may say.
    line, connection = await begin(enrolment, b"x" * (STRANGER_FRAME_MAX_BYTES + 1))
    assert len(manager.links) == 1
    identity = manager.links[0].identity
    assert identity is not None
    assert (identity.node_id, identity.role) == (enrolment.node_id, ("worker", "manager")[role])
    assert manager.server._let_in == set()  # it is no stranger any more
    assert manager.server._of_node.keys() == {enrolment.node_id}
    again = Node()
    other = await line.connect(enrolment.managers[0], again)  # it is used once
    assert await asyncio.wait_for(again.frames.get(), 5) == b"register"
    assert len(manager.links) == 2
    connection.close()
    other.close()
    await asyncio.sleep(0.1)
    assert not manager.server._of_node


async def test_who_does_not_register_in_time_is_cut_off(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_dispatch, "FIRST_FRAME_S", 0.2)
    manager = await swarm.manager()
    enrolment = await manager.join()
    await asyncio.sleep(0.5)
    assert not manager.links[0].is_made
    _, connection = await begin(enrolment)  # on a new one
    assert len(manager.links) == 2
    connection.close()


async def test_a_request_that_was_not_made_for_the_connection_is_refused(swarm: Swarm) -> None:
    """Whoever has seen a request that somebody else has signed has no session as that one."""
    manager = await swarm.manager()
    _, seen = new_key_and_request("0" * 32)
    for request in (seen, new_key_and_request()[1], b"nonsense"):
        context = enrolment_context()
        reader, writer = await asyncio.open_connection("127.0.0.1", manager.port, ssl=context)
        writer.write(frame(wire.encode(wire.Enrol(swarm.tokens[0], request, "active", SAID, stays=True))))
        answer = wire.decode_from_manager((await asyncio.wait_for(reader.read(), 5))[4:])
        assert answer == wire.Refused("denied", "the certificate request was not made for this connection")
        writer.close()
    assert manager.enrolled == []
    assert [nonce_of(request) for request in (seen, b"nonsense")] == ["0" * 32, ""]


async def test_nonces_are_of_one_connection(swarm: Swarm) -> None:
    manager, nonces = await swarm.manager(), set()
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", manager.port, ssl=enrolment_context())
        writer.write(frame(wire.encode(wire.GetCa())))
        size = int.from_bytes(await asyncio.wait_for(reader.readexactly(4), 5))
        answer = wire.decode_from_manager(await reader.readexactly(size))
        assert isinstance(answer, wire.Ca)
        nonces.add(answer.nonce)
        writer.close()
    assert len(nonces) == 3
    assert {len(nonce) for nonce in nonces} == {32}


async def test_managers_and_nodes_of_an_earlier_skep_part_as_ever(swarm: Swarm) -> None:
    earlier, manager = await swarm.manager(is_earlier=True), await swarm.manager()
    for joined in (await earlier.join(), await manager.join(stays=False)):
        assert joined.stayed is None
    await asyncio.sleep(0.1)
    assert not any(link.is_made for link in (*earlier.links, *manager.links))
    _, connection = await begin(await earlier.join())
    connection.close()


async def test_who_comes_to_a_manager_that_does_not_lead_is_sent_to_the_leader(swarm: Swarm) -> None:
    leader, other = await swarm.manager(), await swarm.manager(leads=False)
    other.leader = ("127.0.0.1", leader.port)
    enrolment = await other.join()
    assert (len(leader.enrolled), other.enrolled) == (1, [])
    _, connection = await begin(enrolment)
    assert (len(leader.links), len(other.links)) == (1, 1)
    connection.close()
    assert (await other.join(stays=False)).node_id == other.enrolled[0]  # an earlier node: through this one


async def test_where_the_leader_is_not_reached_another_one_takes_the_node_in(swarm: Swarm) -> None:
    other = await swarm.manager(leads=False)
    other.leader = ("127.0.0.1", 1)
    enrolment = await other.join()
    assert other.enrolled == [enrolment.node_id]
    assert enrolment.stayed is None


async def test_who_is_sent_about_is_taken_in_all_the_same(swarm: Swarm) -> None:
    one, two = await swarm.manager(leads=False), await swarm.manager(leads=False)
    one.leader, two.leader = ("127.0.0.1", two.port), ("127.0.0.1", one.port)
    enrolment = await one.join()
    assert (one.enrolled, two.enrolled) == ([enrolment.node_id], [])


async def test_a_leader_of_another_swarm_is_not_believed(swarm: Swarm) -> None:
    other, foreign = await swarm.manager(leads=False), await Swarm().manager()
    other.leader = ("127.0.0.1", foreign.port)
    enrolment = await other.join()
    assert (other.enrolled, foreign.enrolled) == ([enrolment.node_id], [])
    await foreign.server.close()


async def test_a_lead_that_is_lost_meanwhile_leaves_the_node_its_certificate(swarm: Swarm) -> None:
    manager = await swarm.manager()
    manager.leads = False  # it knows of no other either
    enrolment = await manager.join()
    assert (manager.enrolled, enrolment.stayed) == ([enrolment.node_id], None)


async def test_a_bad_token_is_refused_before_all_else(swarm: Swarm) -> None:
    manager = await swarm.manager()
    token = swarm.tokens[0][:-1] + ("3" if swarm.tokens[0][-1] != "3" else "4")
    with pytest.raises(Denied):
        await enrol("127.0.0.1", manager.port, token, SAID, "active", time.time(), stays=True)


async def test_a_certificate_that_is_renewed_first_leaves_the_connection(swarm: Swarm) -> None:
    manager = await swarm.manager()
    enrolment = await manager.join()
    line = TlsLine(enrolment.keys, enrolment.stayed)
    line.use(enrolment.keys)
    await asyncio.sleep(0.1)
    assert not manager.links[0].is_made
    node = Node()
    connection = await line.connect(enrolment.managers[0], node)
    assert await asyncio.wait_for(node.frames.get(), 5) == b"register"
    connection.close()
    with pytest.raises(Unavailable):
        manager.links[0].become(manager.links[1].identity, Node())  # type: ignore[arg-type]


async def test_a_leader_that_hangs_holds_nobody_up(swarm: Swarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrolling, "LEADER_S", 0.3)
    other, held = await swarm.manager(leads=False), list[asyncio.StreamWriter]()
    silent = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    other.leader = ("127.0.0.1", silent.sockets[0].getsockname()[1])
    enrolment = await other.join()
    assert other.enrolled == [enrolment.node_id]
    silent.close()
    for writer in held:
        writer.close()
