"""Both ends of enrolment: the node that joins, and the manager's handler for connections without a
certificate. The certificate authority itself is the manager's (`manager.ca`)."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from skep.model.node import NodeDescription
from skep.rpc import enrolment_messages as wire
from skep.rpc.certificates import (
    JoinToken,
    NodeKeys,
    ca_digest,
    identity_of,
    new_key_and_request,
    nonce_of,
    parse_join_token,
    verify_issued_by,
)
from skep.rpc.interfaces import STRANGER_FRAME_MAX_BYTES, Connection, Handler, Identity
from skep.rpc.link import FrameLink, connect
from skep.rpc.tls import enrolment_context
from skep.runtime.errors import Denied, Invalid, SkepError, Unavailable, Unsupported
from skep.runtime.ids import is_id

ENROL_S = 20.0  # Docker's own time-out for joining
NONCE_BYTES = 16  # of one connection: nobody guesses it, and it need not last
# A leader that hangs is replaced after some three seconds; who was asked first knows the next one.
LEADER_S = 4.0
TOKEN_S = 10.0  # a connection without a certificate that has shown no token by then is closed
_KINDS: dict[str, type[SkepError]] = {
    "denied": Denied,
    "invalid": Invalid,
    "unsupported": Unsupported,
    "unavailable": Unavailable,
}


class Stayed:
    """The connection that a node was enrolled on, for its first session: `address` is that of the manager,
    which keeps it for some seconds."""

    def __init__(self, address: str, link: FrameLink, manager: Identity) -> None:
        self._address = address
        self._link: FrameLink | None = link
        self._manager = manager

    def take(self, address: str, handler: Handler) -> FrameLink | None:
        """Returns it, now the handler's, once: None where it is with another manager, or has ended."""
        link, self._link = self._link, None
        if link is None:
            return None
        if address != self._address:
            link.close()
            return None
        try:
            link.become(self._manager, handler)
        except Unavailable:
            return None
        return link

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


class Enrolment(Struct, frozen=True):
    """What a node has after it was taken in; `local_host` is the address it reached the manager from."""

    node_id: str
    cluster_id: str
    keys: NodeKeys
    managers: list[str]
    local_host: str = ""
    stayed: Stayed | None = None


class _Replies:
    """Collects what the manager answers."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | SkepError] = asyncio.Queue(4)

    def connected(self, connection: Connection) -> None:
        """Nothing to do: the caller speaks first."""

    def frame(self, data: bytes) -> None:
        if not self._queue.full():
            self._queue.put_nowait(data)

    def closed(self, reason: str) -> None:
        if not self._queue.full():
            self._queue.put_nowait(Unavailable(f"the manager closed the connection: {reason}"))

    async def next(self) -> wire.FromManager:
        answer = await self._queue.get()
        if isinstance(answer, SkepError):
            raise answer
        return wire.decode_from_manager(answer)


class _Applicant(Struct, frozen=True):
    """Who joins."""

    token_text: str
    token: JoinToken
    description: NodeDescription
    availability: str
    now: float
    timeout_s: float


class _Door(Struct, frozen=True):
    """A manager that has shown that it is one of the token's swarm, and its connection."""

    name: str
    link: FrameLink
    replies: _Replies
    ca: wire.Ca
    identity: Identity


async def enrol(
    host: str,
    port: int,
    token_text: str,
    description: NodeDescription,
    availability: str,
    now: float,
    timeout_s: float = ENROL_S,
    stays: bool = False,
) -> Enrolment:
    """Joins the swarm of that manager. `stays`: on the connection that the node then has, where the manager
    leads; else by way of the leader. Errors: `Invalid` bad token, `Denied` wrong CA or secret,
    `Unavailable` unreachable; each in Docker's words where Docker has some."""
    who = _Applicant(token_text, parse_join_token(token_text), description, availability, now, timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            found = await _apply(await _knock(host, port, who), who, stays)
            if isinstance(found, wire.Elsewhere):
                try:
                    async with asyncio.timeout(LEADER_S):
                        door = await _knock(found.host, found.port, who)
                except (Unavailable, Denied, TimeoutError):  # not from here, or not any more
                    door = await _knock(host, port, who)
                    stays = False
                found = await _apply(door, who, stays)
            if isinstance(found, wire.Elsewhere):  # the lead has gone on meanwhile
                found = await _apply(await _knock(host, port, who), who, False)
    except TimeoutError as error:
        raise Unavailable(f"{host}:{port} did not answer within {timeout_s:g} s") from error
    if isinstance(found, wire.Elsewhere):
        raise Unavailable(f"{host}:{port} does not answer as a manager")
    return found


async def _knock(host: str, port: int, who: _Applicant) -> _Door:
    """Errors: `Unavailable`, `Denied`."""
    replies = _Replies()
    link = await connect(host, port, enrolment_context(), replies, timeout_s=who.timeout_s, expect_role=None)
    try:
        link.send(wire.encode(wire.GetCa()))
        ca = await replies.next()
        if not isinstance(ca, wire.Ca):
            raise Unavailable(f"{host}:{port} does not answer as a manager")
        if ca_digest(ca.pem) != who.token.digest:
            raise Denied(f"remote CA does not match fingerprint. Expected: {who.token.digest_hex}")
        assert link.peer_certificate is not None
        identity = verify_issued_by(ca.pem, link.peer_certificate, who.now, ca.chain_pem)
        if identity.role != "manager":
            raise Denied(f"{host}:{port} is not a manager of this swarm")
    except BaseException:
        link.close()
        raise
    return _Door(f"{host}:{port}", link, replies, ca, identity)


async def _apply(door: _Door, who: _Applicant, stays: bool) -> Enrolment | wire.Elsewhere:
    """Only now the secret is sent. Errors: as `enrol`, and `TimeoutError`."""
    has_stayed = False
    try:
        stays = stays and bool(door.ca.nonce)
        key_pem, request_pem = new_key_and_request(door.ca.nonce if stays else "")
        request = wire.encode(
            wire.Enrol(who.token_text, request_pem, who.availability, who.description, stays)
        )
        if len(request) > STRANGER_FRAME_MAX_BYTES:
            raise Invalid(_too_long(len(request)))
        door.link.send(request)
        answer = await door.replies.next()
        if isinstance(answer, wire.Refused):
            raise _KINDS.get(answer.kind, Unavailable)(answer.message)
        if isinstance(answer, wire.Elsewhere) and stays:
            return answer
        if not isinstance(answer, wire.Enrolled):
            raise Unavailable(f"{door.name} does not answer as a manager")
        _check(answer)
        keys = NodeKeys(key_pem, answer.certificate_pem, door.ca.pem)
        stayed: Stayed | None = None
        if stays and answer.stays and answer.managers:
            stayed, has_stayed = Stayed(answer.managers[0], door.link, door.identity), True
        return Enrolment(
            answer.node_id, answer.cluster_id, keys, answer.managers, door.link.local_host, stayed
        )
    finally:
        if not has_stayed:
            door.link.close()


def _check(answer: wire.Enrolled) -> None:
    """The node's id becomes a name of files, and of what is removed when it leaves: it is the certificate's,
    and nothing else. Errors: `Denied`."""
    if not is_id(answer.node_id):
        raise Denied(f"the manager gives this node an id that is none: {answer.node_id[:100]!r}")
    try:
        identity = identity_of(answer.certificate_pem)
    except Invalid as error:
        raise Denied(f"the manager gives this node no certificate: {error}") from error
    if identity.node_id != answer.node_id:
        raise Denied(f"the manager gives node {answer.node_id} the certificate of {identity.node_id[:100]!r}")


def _too_long(size: int) -> str:
    return (
        f"this node needs {size} bytes to say what it is, {STRANGER_FRAME_MAX_BYTES} may be: give its engine"
        " fewer labels or generic resources (dockerd's `labels` and `node-generic-resources`)"
    )


class Registrar(Protocol):
    """Who takes nodes in; `daemon.enrolling` does."""

    def knows(self, token: str) -> bool:
        """True for a token of this swarm; False where only the leader can say. Errors: `Invalid`, `Denied`
        for what is none."""
        ...

    async def enrol(self, request: wire.Enrol, remote_host: str) -> wire.Enrolled:
        """Takes a node in. Errors: `SkepError`, which says why not."""
        ...


class Afterwards(Struct, frozen=True):
    """What becomes of nodes that would stay on the connection that they are enrolled on: `welcome` returns
    what serves a node then, None where this manager does not lead; `elsewhere` where another does, if known.
    """

    welcome: Callable[[FrameLink], Handler | None]
    elsewhere: Callable[[], wire.Elsewhere | None]


class EnrolHandler:
    """Serves one connection without a certificate: one question, one enrolment."""

    def __init__(
        self,
        link: FrameLink,
        ca_pem: bytes,
        registrar: Registrar,
        chain_pem: bytes = b"",
        afterwards: Afterwards | None = None,
    ) -> None:
        self._link = link
        nonce = secrets.token_hex(NONCE_BYTES) if afterwards is not None else ""
        self._ca = wire.Ca(ca_pem, chain_pem, nonce)
        self._registrar = registrar
        self._afterwards = afterwards
        self._has_asked = self._is_let_in = False
        self._work: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(TOKEN_S, link.cut, "it showed no token in time")

    def connected(self, connection: Connection) -> None:
        """Nothing to do: the node speaks first."""

    def frame(self, data: bytes) -> None:
        message = wire.decode_from_node(data)
        if isinstance(message, wire.GetCa):
            if self._has_asked:
                raise Invalid("it asks for the CA more than once")
            self._has_asked = True
            self._link.send(wire.encode(self._ca))
            return
        if self._work is not None:
            raise Invalid("it enrols more than once")
        self._deadline.cancel()
        self._work = asyncio.ensure_future(self._answer(message))

    def closed(self, reason: str) -> None:
        self._deadline.cancel()
        if self._work is not None and not self._is_let_in:
            self._work.cancel()

    async def _answer(self, asked: wire.Asked) -> None:
        answer: wire.FromManager
        try:
            answer = await self._enrol(asked)
        except SkepError as error:
            kinds = [kind for kind, cls in _KINDS.items() if isinstance(error, cls)]
            answer = wire.Refused(kinds[0] if kinds else "unavailable", str(error))
        if isinstance(answer, wire.Enrolled) and asked.stays and self._afterwards is not None:
            handler = self._afterwards.welcome(self._link)
            if handler is not None:
                self._stay(answer, handler)
                return
        self._link.send(wire.encode(answer))
        self._link.close()

    async def _enrol(self, asked: wire.Asked) -> wire.FromManager:
        """Errors: `SkepError`, which says why not."""
        is_known = self._registrar.knows(asked.token)
        if is_known:
            self._is_let_in = self._link.let_in()
            if not self._is_let_in:
                raise Unavailable("too many nodes join at this moment; try again")
        if asked.stays and self._afterwards is not None:
            # Who has the key has it now, on this connection: no request of another one is any good here.
            if not secrets.compare_digest(nonce_of(asked.request_pem).encode(), self._ca.nonce.encode()):
                raise Denied("the certificate request was not made for this connection")
            elsewhere = self._afterwards.elsewhere() if is_known else None
            if elsewhere is not None:
                return elsewhere
        return await self._registrar.enrol(asked.whole(), self._link.remote_host)

    def _stay(self, answer: wire.Enrolled, handler: Handler) -> None:
        self._link.send(wire.encode(replace(answer, stays=True)))
        with contextlib.suppress(Unavailable):  # it has gone: it comes with its certificate
            self._link.become(identity_of(answer.certificate_pem), handler)
