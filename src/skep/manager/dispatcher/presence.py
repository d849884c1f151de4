"""Which nodes are there, as far as their silence says: how long each is waited for, and when it is given up.

Times are the event loop's: wall clocks jump.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import structlog

from skep.manager.evictor import Evictor, Muster

log = structlog.get_logger()

MISSED_BEATS = 3  # a silent node is down after as many periods (Docker's own rule)
BROKEN_BEATS = 1  # a node whose connection broke has this many periods to come back
FIRST_BEATS = 5  # a new leader waits longer: agents have to find it, past managers that do not answer
# … and longer yet while they still come: thousands of handshakes take their time, and to place the tasks of
# nodes that wait at the door would run them twice. At most as long, for those that never come.
LATE_BEATS = 12
QUIET_BEATS = 1.5  # a node that has missed a beat: where many have at once, they are lost together
PAUSE_S = 1.0  # a sweep that is later: the loop was busy, or the whole process was stopped
SWEEP_S = 0.5  # how often silence is looked for: small against a heartbeat, 1 ms of work per 2,300 nodes


class Presence:
    """`heartbeat_s` gives the period of now. `silent` hears of a node whose session says nothing any more,
    `gone` of a node that is given up, `held` of one that `evictor` does not let go. `has_tasks` says whether
    tasks would be run elsewhere without the node."""

    def __init__(
        self,
        heartbeat_s: Callable[[], float],
        silent: Callable[[str], None],
        gone: Callable[[str], None],
        evictor: Evictor | None = None,
        held: Callable[[str], None] = lambda node_id: None,
        has_tasks: Callable[[str], bool] = lambda node_id: True,
    ) -> None:
        self._heartbeat_s = heartbeat_s
        self._silent = silent
        self._gone = gone
        self._evictor = evictor
        self._hold = held
        self._has_tasks = has_tasks
        self._held: set[str] = set()
        self._unseen: set[str] = set()  # nodes that had no session since the start
        self._heard: dict[str, float] = {}  # node with a session -> when it was last heard of
        self._absent: dict[str, float] = {}  # node -> loop time at which it is given up
        self._first: set[str] = set()  # nodes not heard of since the start
        self._came_at = 0.0  # loop time at which the last of those came
        self._late_until = 0.0  # loop time: no extension of their grace goes beyond
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_due = 0.0
        self.failures = 0  # of those that were to hear of a node

    def start(self, node_ids: Collection[str], grace_until: float) -> None:
        """From now on each of these has its grace to come before it is down: `grace_until` at least."""
        now = asyncio.get_running_loop().time()
        deadline = max(now + FIRST_BEATS * self._heartbeat_s(), grace_until)
        self._late_until = max(now + LATE_BEATS * self._heartbeat_s(), grace_until)
        self._first = set(node_ids)
        self._unseen = set(node_ids)
        for node_id in node_ids:
            self._absent[node_id] = deadline
        self._sweep_later()

    def stop(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._evictor is not None:
            self._evictor.stop()

    def came(self, node_id: str) -> None:
        """The node has a session."""
        now = self._heard[node_id] = asyncio.get_running_loop().time()
        self._absent.pop(node_id, None)
        self._unseen.discard(node_id)
        self._held.discard(node_id)
        if node_id in self._first:
            self._first.discard(node_id)
            self._came_at = now

    def heard(self, node_id: str) -> None:
        """A node with a session has said something."""
        self._heard[node_id] = asyncio.get_running_loop().time()

    def heard_all(self) -> None:
        """Every node with a session begins a new period."""
        now = asyncio.get_running_loop().time()
        for node_id in self._heard:
            self._heard[node_id] = now

    def ended(self, node_id: str) -> None:
        """Its session was ended on purpose, if it had one."""
        self._heard.pop(node_id, None)

    def broke(self, node_id: str) -> None:
        """Its connection broke: it has a short grace to come back."""
        self._absent[node_id] = asyncio.get_running_loop().time() + BROKEN_BEATS * self._heartbeat_s()

    def expect(self, node_id: str) -> None:
        """A node without a session is to come; one that is expected already keeps its grace."""
        deadline = asyncio.get_running_loop().time() + MISSED_BEATS * self._heartbeat_s()
        if node_id not in self._absent:
            self._absent[node_id] = deadline
            self._unseen.add(node_id)

    def forget(self, node_id: str) -> None:
        """The node is expected no more."""
        self._absent.pop(node_id, None)
        self._first.discard(node_id)
        self._unseen.discard(node_id)
        self._held.discard(node_id)

    # Inside

    def _sweep_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweep_due = loop.time() + SWEEP_S
        self._sweeper = loop.call_later(SWEEP_S, self._sweep)

    def _forgive(self, now: float, paused_s: float) -> None:
        """This process stood still for as long: what nodes said meanwhile has yet to be read."""
        log.warning("dispatcher.paused", for_s=round(paused_s, 1))
        for node_id, heard_at in self._heard.items():
            self._heard[node_id] = min(now, heard_at + paused_s)
        for node_id in self._absent:
            self._absent[node_id] += paused_s

    def _sweep(self) -> None:
        try:
            self._look(asyncio.get_running_loop().time())
        finally:
            self._sweep_later()

    def _look(self, now: float) -> None:
        if now - self._sweep_due > PAUSE_S:
            self._forgive(now, now - self._sweep_due)
        silent_s = MISSED_BEATS * self._heartbeat_s()
        for node_id, heard_at in list(self._heard.items()):
            if now - heard_at > silent_s:
                del self._heard[node_id]
                self._absent[node_id] = now
                self._tell(self._silent, node_id)
        late = self._still_come(now)
        due = [n for n, at in self._absent.items() if at <= now and not (late and n in self._first)]
        for node_id in self._judged(due, now):
            del self._absent[node_id]
            self._first.discard(node_id)
            self._held.discard(node_id)
            if not self._tell(self._gone, node_id):
                self._absent[node_id] = now + BROKEN_BEATS * self._heartbeat_s()

    def _judged(self, due: list[str], now: float) -> list[str]:
        """Returns those that may be given up. Nodes that were not here and run nothing always may: those that
        were switched off long ago must not look like a catastrophe to each new leader."""
        evictor = self._evictor
        if evictor is None:
            return due
        counted = [node_id for node_id in due if self._counts(node_id)]
        if not counted and not evictor.holds:
            return due
        quiet_since = now - QUIET_BEATS * self._heartbeat_s()
        muster = Muster(
            self._heard.keys(),
            quiet=sum(heard_at < quiet_since for heard_at in self._heard.values()),
            absent=frozenset(filter(self._counts, self._absent)),
            heartbeat_s=self._heartbeat_s(),
        )
        held = evictor.holds
        allowed = evictor.allowed(counted, muster)
        if held and not evictor.holds:
            # Most are back, and the others are on their way: they have their time again, as with Kubernetes.
            allowed = []
            for node_id in counted:
                self._absent[node_id] = now + MISSED_BEATS * self._heartbeat_s()
        kept = set(counted).difference(allowed)
        for node_id in sorted(kept - self._held):
            self._held.add(node_id)
            self._tell(self._hold, node_id)
        return [node_id for node_id in due if node_id not in kept]

    def _counts(self, node_id: str) -> bool:
        return node_id not in self._unseen or self._has_tasks(node_id)

    def _tell(self, hear: Callable[[str], None], node_id: str) -> bool:
        """False where it could not be told: the node is set aside for a while, the others are looked at."""
        try:
            hear(node_id)
        except Exception:
            self.failures += 1
            log.exception("presence.failed", node_id=node_id)
            return False
        return True

    def _still_come(self, now: float) -> bool:
        """True while nodes come to a new leader one after the other."""
        return now < min(self._came_at + self._heartbeat_s(), self._late_until)
