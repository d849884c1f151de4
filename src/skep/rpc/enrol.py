"""Both ends of enrolment: the node that joins, and the manager's handler for connections without a
certificate. The certificate authority itself is the manager's (`manager.ca`)."""

from __future__ import annotations

import asyncio
from typing import Protocol

from msgspec import Struct

from skep.model.node import NodeDescription
from skep.rpc import enrolment_messages as wire
from skep.rpc.certificates import (
    NodeKeys,
    ca_digest,
    identity_of,
    new_key_and_request,
    parse_join_token,
    verify_issued_by,
)
from skep.rpc.interfaces import STRANGER_FRAME_MAX_BYTES, Connection
from skep.rpc.link import FrameLink, connect
from skep.rpc.tls import enrolment_context
from skep.runtime.errors import Denied, Invalid, SkepError, Unavailable, Unsupported
from skep.runtime.ids import is_id

ENROL_S = 20.0  # Docker's own time-out for joining
TOKEN_S = 10.0  # a connection without a certificate that has shown no token by then is closed
_KINDS: dict[str, type[SkepError]] = {
    "denied": Denied,
    "invalid": Invalid,
    "unsupported": Unsupported,
    "unavailable": Unavailable,
}


class Enrolment(Struct, frozen=True):
    """What a node has after it was taken in; `local_host` is the address it reached the manager from."""

    node_id: str
    cluster_id: str
    keys: NodeKeys
    managers: list[str]
    local_host: str = ""


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

    async def next(self) -> wire.Ca | wire.Enrolled | wire.Refused:
        answer = await self._queue.get()
        if isinstance(answer, SkepError):
            raise answer
        return wire.decode_from_manager(answer)


async def enrol(
    host: str,
    port: int,
    token_text: str,
    description: NodeDescription,
    availability: str,
    now: float,
    timeout_s: float = ENROL_S,
) -> Enrolment:
    """Joins the swarm of that manager. Errors: `Invalid` bad token, `Denied` wrong CA or secret,
    `Unavailable` unreachable; each in Docker's words where Docker has some."""
    token = parse_join_token(token_text)
    replies = _Replies()
    link = await connect(host, port, enrolment_context(), replies, timeout_s=timeout_s, expect_role=None)
    try:
        async with asyncio.timeout(timeout_s):
            link.send(wire.encode(wire.GetCa()))
            ca = await replies.next()
            if not isinstance(ca, wire.Ca):
                raise Unavailable(f"{host}:{port} does not answer as a manager")
            if ca_digest(ca.pem) != token.digest:
                raise Denied(f"remote CA does not match fingerprint. Expected: {token.digest_hex}")
            assert link.peer_certificate is not None
            peer = verify_issued_by(ca.pem, link.peer_certificate, now, ca.chain_pem)
            if peer.role != "manager":
                raise Denied(f"{host}:{port} is not a manager of this swarm")
            key_pem, request_pem = new_key_and_request()
            request = wire.encode(wire.Enrol(token_text, request_pem, availability, description))
            if len(request) > STRANGER_FRAME_MAX_BYTES:
                raise Invalid(_too_long(len(request)))
            link.send(request)
            answer = await replies.next()
    except TimeoutError as error:
        raise Unavailable(f"{host}:{port} did not answer within {timeout_s:g} s") from error
    finally:
        link.close()
    if isinstance(answer, wire.Refused):
        raise _KINDS.get(answer.kind, Unavailable)(answer.message)
    if not isinstance(answer, wire.Enrolled):
        raise Unavailable(f"{host}:{port} does not answer as a manager")
    _check(answer)
    keys = NodeKeys(key_pem, answer.certificate_pem, ca.pem)
    return Enrolment(answer.node_id, answer.cluster_id, keys, answer.managers, link.local_host)


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


class EnrolHandler:
    """Serves one connection without a certificate: one question, one enrolment."""

    def __init__(self, link: FrameLink, ca_pem: bytes, registrar: Registrar, chain_pem: bytes = b"") -> None:
        self._link = link
        self._ca = wire.Ca(ca_pem, chain_pem)
        self._registrar = registrar
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
        answer: wire.Enrolled | wire.Refused
        try:
            if self._registrar.knows(asked.token):
                self._is_let_in = self._link.let_in()
                if not self._is_let_in:
                    raise Unavailable("too many nodes join at this moment; try again")
            answer = await self._registrar.enrol(asked.whole(), self._link.remote_host)
        except SkepError as error:
            kinds = [kind for kind, cls in _KINDS.items() if isinstance(error, cls)]
            answer = wire.Refused(kinds[0] if kinds else "unavailable", str(error))
        self._link.send(wire.encode(answer))
        self._link.close()
