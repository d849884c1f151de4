"""Byte streams between managers, on the managers' port: etcd's own traffic, and calls for the leader.

manager                            manager
OpenStream ---------------------->      kind: raft or api; only who is a manager may ask
           <----------------------- StreamOpened | StreamRefused
bytes      <----------------------> bytes

One port, one trust and one list of who is a manager serve all that managers say to each other; etcd itself
knows only unix sockets. A stream ends when either end does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container
from typing import cast

import msgspec
from msgspec import Struct

from skep.rpc.interfaces import Connection, Handler
from skep.rpc.link import FrameLink
from skep.rpc.messages import UNREADABLE
from skep.runtime.errors import Denied, NotAFellow, SkepError, Unavailable

RAFT, API = "raft", "api"
OPEN_S = 5.0  # until the other manager has answered; it only opens a local socket
BUFFER_BYTES = 1 << 20  # what one end may be behind before the other is not read any more


class OpenStream(Struct, frozen=True, tag="stream"):
    """`address` is where the asking manager is reached: its peers learn it when it has moved."""

    kind: str
    address: str


class StreamOpened(Struct, frozen=True, tag="stream-opened"):
    """Bytes follow."""


class StreamRefused(Struct, frozen=True, tag="stream-refused"):
    """`is_no_manager`: whoever asks is no manager of this one's swarm."""

    reason: str
    is_no_manager: bool = False


_encode = msgspec.msgpack.Encoder().encode
_question = msgspec.msgpack.Decoder(OpenStream)
_answer: msgspec.msgpack.Decoder[StreamOpened | StreamRefused] = msgspec.msgpack.Decoder(
    StreamOpened | StreamRefused
)


def stream_asked_for(frame: bytes) -> OpenStream | None:
    """Returns what a connection's first frame asks for; None where it is no stream."""
    try:
        return _question.decode(frame)
    except UNREADABLE:
        return None


class Pipe(asyncio.Protocol):
    """One end of a stream. `ended` hears once that it is over."""

    def __init__(self, ended: Callable[[Pipe], None] = lambda _: None) -> None:
        self._ended = ended
        self._transport: asyncio.Transport | None = None
        self._other: Pipe | None = None
        self._early: list[bytes] = []

    def join(self, other: Pipe) -> None:
        """From now on, what one end receives the other sends."""
        self._other, other._other = other, self
        for end in (self, other):
            if end._transport is None:
                other.close()
                self.close()
                return
        for end, to in ((self, other), (other, self)):
            for data in end._early:
                to._write(data)
            end._early = []
            if end._transport is not None:
                end._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(BUFFER_BYTES)
        if self._other is None:
            self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            self._early.append(data)  # what was read before reading was paused
        else:
            self._other._write(data)

    def pause_writing(self) -> None:
        if self._other is not None and self._other._transport is not None:
            self._other._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._other is not None and self._other._transport is not None:
            self._other._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._other is not None:
            self._other.close()
        self._ended(self)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


class StreamAnswer:
    """Waits for the manager's word; the stream's bytes go on to `successor`."""

    def __init__(self, successor: asyncio.Protocol) -> None:
        self._successor = successor
        self._link: FrameLink | None = None
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def comes_over(self, link: FrameLink) -> None:
        """The stream is asked for over this connection, which is handed over with its first answer."""
        self._link = link

    def connected(self, connection: Connection) -> None:
        """Nothing to do: the caller speaks first."""

    def frame(self, data: bytes) -> None:
        if self.opened.done() or self._link is None:
            return
        try:
            answer = _answer.decode(data)
            if isinstance(answer, StreamRefused):
                raise (NotAFellow if answer.is_no_manager else Denied)(answer.reason)
            self._link.hand_over(self._successor)
        except UNREADABLE:
            self.opened.set_exception(Unavailable("the other end does not answer as a manager"))
        except SkepError as error:
            self.opened.set_exception(error)
        else:
            self.opened.set_result(None)

    def closed(self, reason: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(Unavailable(reason))


Dial = Callable[[Handler], Awaitable[FrameLink]]


async def open_stream(dial: Dial, address: str, node_id: str, asked: OpenStream, pipe: Pipe) -> None:
    """Makes `pipe` the near end of a stream to that manager, which `dial` reaches.

    Errors: `Unavailable`; `Denied` where another node answers at the address, or the manager refuses;
    `NotAFellow` where that is because this node is no manager of its swarm.
    """
    answer = StreamAnswer(pipe)
    link = await dial(answer)
    try:
        if link.identity is None or link.identity.node_id != node_id:
            found = link.identity.node_id if link.identity is not None else "nobody"
            raise Denied(f"at {address} is node {found}, not {node_id}")
        answer.comes_over(link)
        link.send(_encode(asked))
        await asyncio.wait_for(answer.opened, OPEN_S)
    except TimeoutError as error:
        answer.opened.cancel()
        link.close()
        raise Unavailable(f"{address} did not answer within {OPEN_S:g} s") from error
    except BaseException:
        answer.opened.cancel()  # nobody waits for it any more
        link.close()
        raise


class StreamServer:
    """The far end: passes streams of each kind on to a unix socket of this host."""

    def __init__(self, sockets: dict[str, str]) -> None:
        self._sockets = sockets
        self._pipes: dict[Pipe, str] = {}  # -> the manager's node id
        self._opening: set[asyncio.Task[None]] = set()

    def serve(self, link: FrameLink, asked: OpenStream) -> None:
        """Takes a connection over whose first frame asked for a stream."""
        work = asyncio.ensure_future(self._serve(link, asked))
        self._opening.add(work)
        work.add_done_callback(self._opening.discard)

    def refuse(self, link: FrameLink, reason: str, is_no_manager: bool = False) -> None:
        link.send(_encode(StreamRefused(reason, is_no_manager)))
        link.close()

    def close(self) -> None:
        for work in list(self._opening):
            work.cancel()
        for pipe in list(self._pipes):
            pipe.close()

    async def open_near(self, kind: str, near: Pipe) -> None:
        """Connects the end that is on this host. Errors: `KeyError`, `OSError`."""
        path = self._sockets[kind]
        await asyncio.get_running_loop().create_unix_connection(lambda: near, path)

    async def _serve(self, link: FrameLink, asked: OpenStream) -> None:
        near = Pipe(self._forget)
        try:
            await self.open_near(asked.kind, near)
        except (KeyError, OSError) as error:
            self.refuse(link, f"this manager serves no stream '{asked.kind}' now: {error}")
            return
        far = Pipe(self._forget)
        try:
            link.send(_encode(StreamOpened()))
            link.hand_over(far)
        except Unavailable:
            near.close()
            return
        node_id = link.identity.node_id if link.identity is not None else ""
        self._pipes.update({near: node_id, far: node_id})
        near.join(far)

    def _forget(self, pipe: Pipe) -> None:
        self._pipes.pop(pipe, None)

    def close_others(self, node_ids: Container[str]) -> None:
        """Ends the streams of all managers but these: who is none any more keeps no way in."""
        for pipe, node_id in list(self._pipes.items()):
            if node_id not in node_ids:
                pipe.close()
