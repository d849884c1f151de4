"""Leadership: one key that its holder writes again twice a second. Whoever sees it unchanged for too long
deletes it and takes it.

No lease: etcd starts every lease anew when its own leader changes, which is just when ours died with it,
and cannot make one shorter than two seconds. Safety does not depend on any clock: each write of a leader
is fenced by the revision that created its key, so one that was deposed, paused or cut off writes nothing.
Clocks (the event loop's, which never jump) only decide how soon a silent leader is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from skep.runtime.errors import Conflict, Denied, SkepError, Unavailable
from skep.runtime.metrics import Counter, Metric
from skep.store.interfaces import Compare, Delete, Fence, KeyValue, Put, Store, Txn

log = structlog.get_logger()

BEAT_S = 0.5  # two small writes a second; etcd needs some milliseconds for one
POLL_S = 0.25  # how often others look
SILENCE_S = 2.5  # five beats: a leader's loop or etcd's disk that stalls for a second or two is forgiven
SETTLE_S = 1.0  # after etcd was away: a leader that lives has had two beats by then
LOST_S = 6.0  # a leader that could not write for as long stops deciding; an etcd that restarts takes a second
BEAT_CALL_S = 1.5  # of a beat: a call sent while etcd elects may hang for seconds, another goes through
LOOK_CALL_S = 0.75  # of a look: shorter, for whoever waits for an answer learns late that etcd is back


class Leadership:
    """Held until `wait_lost` returns. Every write carries `fence`."""

    def __init__(self, store: Store, candidate: str, fence: Fence, taken_at: float) -> None:
        """`taken_at` is the loop's time at which the lead was asked for."""
        self.fence = fence
        self._store = store
        self._candidate = candidate
        self._lost = asyncio.Event()
        self._sure_until = taken_at + SILENCE_S
        self._keeper = asyncio.ensure_future(self._keep())

    @property
    def is_sure(self) -> bool:
        """True while nobody else can lead: others wait for `SILENCE_S` after the last beat they have seen.
        Who is not sure may still hold it, but what it knows may be old."""
        return not self._lost.is_set() and asyncio.get_running_loop().time() < self._sure_until

    async def wait_lost(self) -> None:
        """Returns when the leadership is gone: resigned, deposed, or the store out of reach for `LOST_S`."""
        await self._lost.wait()

    async def resign(self) -> None:
        """Gives it up at once, so that another need not wait; where the store does not answer, silently."""
        self._keeper.cancel()
        self._lost.set()
        with contextlib.suppress(SkepError, TimeoutError):
            async with asyncio.timeout(BEAT_CALL_S):
                await self._store.commit(Txn((Delete(self.fence.key),), fence=self.fence))

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        beat = Txn((Put(self.fence.key, self._candidate.encode()),), fence=self.fence)
        written_at = loop.time()
        try:
            while loop.time() - written_at < LOST_S:
                await asyncio.sleep(BEAT_S)
                asked_at = loop.time()
                try:
                    async with asyncio.timeout(BEAT_CALL_S):
                        await self._store.commit(beat)
                    written_at = loop.time()
                    self._sure_until = asked_at + SILENCE_S
                except Denied:
                    log.warning("leadership.deposed")
                    return
                except (Unavailable, TimeoutError):
                    continue
            log.warning("leadership.unwritten", for_s=LOST_S)
        finally:
            self._lost.set()


class Campaign:
    """One candidate's look at the leadership. `holder` is who leads as far as it knows, or an empty text;
    `has_heard`: since this object was made, somebody was seen to."""

    def __init__(self, store: Store, key: str, candidate: str) -> None:
        self._store = store
        self._key = key
        self._candidate = candidate
        self.holder = ""
        self._other = ""  # who else was last seen to lead
        self.has_heard = False  # of anybody who leads, or leads itself: not of an old key alone
        self._seen_revision = 0
        self._changed_at = 0.0  # loop time
        self._answered_since: float | None = None  # since when every look was answered
        self._last = ""  # who led last, whoever that was
        self._changes = Counter(
            "skep_leader_changes_total", "How often this manager has seen another one lead than before."
        )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (self._changes,)

    async def win(self, stands: Callable[[], bool] = lambda: True) -> Leadership:
        """Waits until this candidate leads; only looks on while it does not stand.

        A leadership the same candidate holds already is ended: it is of a life that is over.
        Errors: `Unavailable` while the store does not answer; call again.
        """
        while True:
            leadership = await self.look(stands())
            if leadership is not None:
                return leadership
            await asyncio.sleep(POLL_S)

    async def look(self, stand: bool = True) -> Leadership | None:
        """Looks once; takes the lead where it is free, unless this candidate does not `stand`.

        Errors: `Unavailable`.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(LOOK_CALL_S):
                pairs, _ = await self._store.load(self._key)
        except (Unavailable, TimeoutError) as error:
            self._answered_since = None
            self.holder = ""
            raise Unavailable(str(error) or "etcd does not answer: it may have no quorum") from error
        now = loop.time()
        if self._answered_since is None:
            self._answered_since = now
        held = next((pair for pair in pairs if pair.key == self._key), None)
        if held is not None and self._is_alive(held, now):
            self._other = held.value.decode(errors="replace")
            self._is_led_by(self._other)
            return None
        self.holder = ""
        if not stand or (held is not None and not await self._depose(held)):
            return None
        return await self._take()

    def take_other(self) -> str:
        """Returns who else was last seen to lead, once; an empty text where nobody was."""
        other, self._other = self._other, ""
        return other

    def _is_alive(self, held: KeyValue, now: float) -> bool:
        if held.revision != self._seen_revision:
            self.has_heard = self.has_heard or self._seen_revision != 0
            self._seen_revision, self._changed_at = held.revision, now
        if held.value == self._candidate.encode():
            return False
        assert self._answered_since is not None
        return now - self._changed_at < SILENCE_S or now - self._answered_since < SETTLE_S

    def _is_led_by(self, holder: str) -> None:
        self.holder = holder
        if self._last and holder != self._last:
            self._changes.add()
        self._last = holder

    async def _depose(self, held: KeyValue) -> bool:
        """Ends a leadership that was not renewed since it was seen; False where it was after all."""
        log.warning("leadership.silent", leader=held.value.decode(errors="replace"))
        silent = (Compare(held.key, held.revision),)
        return await self._write(Txn((Delete(held.key),), compares=silent)) is not None

    async def _take(self) -> Leadership | None:
        free = (Compare(self._key, 0),)
        asked_at = asyncio.get_running_loop().time()
        revision = await self._write(Txn((Put(self._key, self._candidate.encode()),), compares=free))
        if revision is None:
            return None
        self._is_led_by(self._candidate)
        self.has_heard = True
        return Leadership(self._store, self._candidate, Fence(self._key, revision), asked_at)

    async def _write(self, txn: Txn) -> int | None:
        """Returns the revision; None where somebody else was first. Errors: `Unavailable`, also where it may
        have been done: the next look tells, and a lead that nobody knows he has is soon silent."""
        try:
            async with asyncio.timeout(BEAT_CALL_S):
                return await self._store.commit(txn)
        except Conflict:
            return None
        except TimeoutError as error:
            raise Unavailable("etcd does not answer") from error
