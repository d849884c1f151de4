"""Where nodes wait that come to a manager which does not lead: until it leads itself, or a leader answers.

When a leader dies all its nodes come at once, while there is none to send them to. Sending each away would
cost it, and the managers, a TLS handshake for every try until somebody leads; those who wait are served at
once when this manager comes to lead, or need one more where another does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from skep.rpc.interfaces import Connection, Handler
from skep.rpc.messages import Goodbye, encode

POLL_S = 0.05
ASK_S = 0.25  # before a leader that did not answer is asked for again: each time is a connection
# A leader that died is replaced after 2.5 to 3.3 s: whoever was sent away just before would come late. A
# manager that is cut off from a leader which lives keeps a node for as long: short of a heartbeat's five
# seconds, after which the node would be given up.
PATIENCE_S = 4.0
# One whose store has a quorum knows that nobody leads, and hears of who does: a node that is sent round would
# only use up its standby connections. Short of three heartbeats, after which the node would go by itself.
LONGEST_S = 10.0
TURN = 64  # nodes served before the loop goes round: 0.3 ms each, with their tasks
# Between as many that are sent on: with no handshake to hold them up they are at the leader at once, which
# has to do other things in between. 1,150 in a third of a second.
PACE_S = 0.02
SEEN_S = 20.0  # a node without a leader comes again within: by way of one that it cannot reach, if need be
FRAMES_MAX = 8  # a node says who it is, and that it lives: nothing more before it is answered
FRAMES_MAX_BYTES = 256 << 10  # of one node: the first may have 128 kB (`link_server`), the others have some
HELD_MAX_BYTES = 32 << 20  # of all: 2,300 nodes say who they are in 5 MB; 14 kB each are a lot of devices


class WaitingRoom:
    """`serve` gives a connection the leader's handler, or None while this manager does not lead;
    `find_leader` is the address of another manager that leads and answers, or an empty text. `has_quorum`:
    who leads would be known here."""

    def __init__(
        self,
        serve: Callable[[Connection], Handler | None],
        find_leader: Callable[[], Awaitable[str]],
        managers: Callable[[], list[str]],
        has_quorum: Callable[[], bool] = lambda: False,
    ) -> None:
        self._has_quorum = has_quorum
        self._serve = serve
        self._find_leader = find_leader
        self._managers = managers
        self._waiting: dict[Waiting, None] = {}  # in order of arrival
        self._work: asyncio.Task[None] | None = None
        self._held_bytes = 0
        self._seen: dict[str, float] = {}  # node -> loop time at which it last came; of certified nodes only

    def enter(self, connection: Connection) -> Waiting:
        """Returns what receives the node's frames until, and after, it is served or sent on."""
        now = asyncio.get_running_loop().time()
        if connection.identity is not None:
            self._seen[connection.identity.node_id] = now
        made = Waiting(connection, self._leave, self._may_hold, now + PATIENCE_S)
        self._waiting[made] = None
        if self._work is None or self._work.done():
            self._work = asyncio.ensure_future(self._run())
        return made

    def seen(self) -> list[str]:
        """Returns the nodes that came here lately: they look for a leader, or did."""
        since = asyncio.get_running_loop().time() - SEEN_S
        self._seen = {node_id: at for node_id, at in self._seen.items() if at > since}
        return sorted(self._seen)

    def close(self) -> None:
        if self._work is not None:
            self._work.cancel()

    def _leave(self, waiting: Waiting) -> None:
        self._waiting.pop(waiting, None)

    def _may_hold(self, size: int) -> bool:
        """Takes so many bytes into account; negative ones are let go of. False where that is too much."""
        if self._held_bytes + size > HELD_MAX_BYTES:
            return False
        self._held_bytes += size
        return True

    async def _run(self) -> None:
        asking = asyncio.ensure_future(self._find_leader())
        ask_at = asyncio.get_running_loop().time() + ASK_S
        try:
            while self._waiting:
                await self._serve_all()
                if asking.done() and (leader := asking.result()):
                    await self._send_on(leader, float("inf"))
                now = asyncio.get_running_loop().time()
                if asking.done() and ask_at <= now:
                    asking, ask_at = asyncio.ensure_future(self._find_leader()), now + ASK_S
                await self._send_on("", now - (LONGEST_S - PATIENCE_S) * self._has_quorum())
                await asyncio.sleep(POLL_S)
        finally:
            asking.cancel()

    async def _serve_all(self) -> None:
        for n, waiting in enumerate(list(self._waiting), 1):
            handler = self._serve(waiting.connection) if waiting in self._waiting else None
            if handler is not None:
                del self._waiting[waiting]
                waiting.go_on(handler)
            if n % TURN == 0:
                await asyncio.sleep(0)

    async def _send_on(self, leader: str, came_before: float) -> None:
        """Sends those away whose patience ends before that time."""
        frame = encode(Goodbye("not-leader", "this manager does not lead", self._managers(), leader))
        for n, waiting in enumerate(list(self._waiting), 1):
            if waiting.until > came_before:
                break
            if self._waiting.pop(waiting, 0) is None:
                waiting.connection.send(frame)
                waiting.connection.close()
            if n % TURN == 0:
                await asyncio.sleep(PACE_S)


class Waiting:
    """One node's connection; fulfils `rpc.interfaces.Handler`."""

    def __init__(
        self,
        connection: Connection,
        leave: Callable[[Waiting], None],
        may_hold: Callable[[int], bool],
        until: float,
    ) -> None:
        self.connection = connection
        self.until = until  # loop time
        self._leave = leave
        self._may_hold = may_hold
        self._size = 0  # of the frames
        self._frames: list[bytes] = []
        self._next: Handler | None = None

    def go_on(self, handler: Handler) -> None:
        """From now on the handler receives what comes, with what has come already."""
        self._next = handler
        handler.connected(self.connection)
        for frame in self._let_go():
            handler.frame(frame)

    def connected(self, connection: Connection) -> None:
        """Nothing to do: the node speaks first."""

    def frame(self, data: bytes) -> None:
        if self._next is not None:
            self._next.frame(data)
        elif (
            len(self._frames) < FRAMES_MAX
            and self._size + len(data) <= FRAMES_MAX_BYTES
            and self._may_hold(len(data))
        ):
            self._size += len(data)
            self._frames.append(data)
        else:
            self.connection.close()

    def _let_go(self) -> list[bytes]:
        self._may_hold(-self._size)
        frames, self._frames, self._size = self._frames, [], 0
        return frames

    def closed(self, reason: str) -> None:
        self._let_go()
        self._leave(self)
        if self._next is not None:
            self._next.closed(reason)
