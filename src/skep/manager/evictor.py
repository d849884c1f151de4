"""Gives up nodes that are not heard of as far as `manager.eviction` lets it: asks the other managers whom
they see, hands the lead over, and says why nodes are held."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

import structlog
from msgspec import MsgspecError, Struct
from msgspec.structs import replace

from skep.manager.eviction import EvictionAct, Hold, Sight, decide, is_cut_off
from skep.runtime.errors import SkepError

log = structlog.get_logger()

ASK_S = 2.0  # how often the others are asked while nodes are held: a node knocks every few seconds
ANSWER_S = 3.0  # until another manager has not answered

# A manager's node id -> the nodes that came to it lately. Errors: `SkepError` where it does not say.
Seen = Callable[[str], Awaitable[Collection[str]]]


class Muster(Struct, frozen=True):
    """Who is there: `heard` nodes have a session, `quiet` of them (a number) have missed a beat; `absent`
    have none and are waited for."""

    heard: Collection[str]
    quiet: int
    absent: Collection[str]
    heartbeat_s: float


class Evictor:
    """`others` gives the managers that answer, `doubt` why this one's word is not to be trusted (or an empty
    text), `hand_over` has another one lead. `handed_over_at`: when that was last done (loop time)."""

    def __init__(
        self,
        seen: Seen,
        others: Callable[[], Collection[str]],
        doubt: Callable[[], str],
        hand_over: Callable[[], None],
        handed_over_at: float | None = None,
    ) -> None:
        self._seen = seen
        self._others = others
        self._doubt = doubt
        self._hand_over = hand_over
        self._hold = Hold(handed_over_at=handed_over_at)
        self._elsewhere: dict[str, Collection[str]] = {}  # manager that answered -> nodes that it has seen
        self._given_up: set[str] = set()  # since nodes are held
        self._asking: asyncio.Future[None] | None = None
        self.has_handed_over = False
        self.why = ""  # nodes are held; empty where none are

    @property
    def holds(self) -> bool:
        """True while it is to be asked at every sweep, whether a node is due or not."""
        return self._hold.since is not None

    def stop(self) -> None:
        if self._asking is not None:
            self._asking.cancel()

    def allowed(self, due: list[str], muster: Muster) -> list[str]:
        """Returns those of the nodes `due`, which are absent, that may be given up now. Where it is some of
        them, those that are due last go first: one more that dies does not queue behind those held."""
        if self.has_handed_over:
            return []
        now = asyncio.get_running_loop().time()
        self._given_up.difference_update(muster.heard)
        sight = self._sight(muster)
        if not muster.absent or not is_cut_off(sight):
            self._go_on()
            return due
        if self._hold.since is None:
            self._hold = replace(self._hold, since=now)
            self._asking = asyncio.ensure_future(self._ask())
        verdict = decide(sight, self._hold, now)
        self._say(verdict.why)
        if verdict.act is EvictionAct.HAND_OVER:
            self.has_handed_over = True
            log.warning("eviction.hands_over", reason=verdict.why)
            self._hand_over()
        seen = {node_id for nodes in self._elsewhere.values() for node_id in nodes}
        gone = [node_id for node_id in due if node_id not in seen]
        if verdict.act is EvictionAct.EVICT_SOME:
            gone = gone[-verdict.some :]
        elif verdict.act is not EvictionAct.EVICT:
            return []
        if gone:
            self._hold = replace(self._hold, evicted_at=now, steps=self._hold.steps + 1)
            self._given_up.update(gone)
        return gone

    # Inside

    def _sight(self, muster: Muster) -> Sight:
        gone = self._given_up.union(muster.absent)
        return Sight(
            here=len(muster.heard) - muster.quiet,
            missing=muster.quiet + len(gone),
            elsewhere=max((len(gone.intersection(seen)) for seen in self._elsewhere.values()), default=0),
            others=len(self._others()),
            answered=len(self._elsewhere),
            heartbeat_s=muster.heartbeat_s,
            doubt=self._doubt(),
        )

    def _say(self, why: str) -> None:
        if why and not self.why:
            log.warning("eviction.held", reason=why, advice="look at this manager's network and clock")
        self.why = why

    def _go_on(self) -> None:
        """Nodes are there again, or those that are left are few."""
        if not self.holds:
            return
        log.info("eviction.goes_on")
        self.stop()
        self.why = ""
        self._elsewhere = {}
        self._given_up = set()
        self._hold = replace(self._hold, since=None, evicted_at=None, steps=0)

    async def _ask(self) -> None:
        """Asks for as long as nodes are held."""
        while True:
            others = sorted(self._others())
            answers = await asyncio.gather(*(self._seen_by(node_id) for node_id in others))
            said = zip(others, answers, strict=True)
            self._elsewhere = {node_id: seen for node_id, seen in said if seen is not None}
            await asyncio.sleep(ASK_S)

    async def _seen_by(self, node_id: str) -> Collection[str] | None:
        """Returns None where the manager does not say: that is no word for anything."""
        try:
            async with asyncio.timeout(ANSWER_S):
                return frozenset(await self._seen(node_id))
        except (SkepError, TimeoutError, MsgspecError):
            return None
