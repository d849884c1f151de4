"""The one rule for a decider that fails: the service or node it fails on is set aside, the rest goes on.

What is set aside stands in the view (`View.asides`), where deciders, API and explanations find it. It is
tried again when it has changed, and by itself after a while that doubles. Only the loss of the lead ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from skep.model.aside import SERVICE, Aside, AsideKey, reason_of
from skep.runtime.clock import Clock
from skep.runtime.errors import Denied
from skep.store.view import View

log = structlog.get_logger()

# What fails by chance (a race, a full memory) is over at the next look; what does not must cost little: each
# try looks at all tasks of a service.
AGAIN_MIN_S, AGAIN_MAX_S = 1.0, 300.0
PART_AGAIN_MAX_S = 5.0  # of a part of the leader: without one nobody joins, or no node is given up
PART_WELL_S = 30.0  # one that worked for as long has got over what it failed of


def costs_lead(error: BaseException) -> bool:
    """True where the error says that another manager leads now: the one failure that ends a lead."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(Denied) is not None
    return isinstance(error, Denied)


class Asides:
    """What one leader has set aside."""

    def __init__(self, view: View, clock: Clock) -> None:
        self._view = view
        self._clock = clock
        self._wake: Callable[[], None] = lambda: None
        self._trying: dict[AsideKey, Aside] = {}  # tried again just now: what was known of them

    def wakes(self, wake: Callable[[], None]) -> None:
        """Has `wake` be called where something new was set aside."""
        self._wake = wake

    def put(self, kind: str, object_id: str, error: BaseException) -> None:
        """A decider failed on it. Errors: the error itself where it costs the lead."""
        if costs_lead(error):
            raise error
        key, now = (kind, object_id), self._clock.now()
        known = self._view.asides.get(key)
        if known is not None:
            return  # it failed twice in one pass, or what is stored of it cannot be read
        before, version = self._trying.pop(key, None), self._version(kind, object_id)
        tries = before.tries + 1 if before is not None and before.version == version else 1
        again_s = min(AGAIN_MIN_S * 2.0 ** min(tries - 1, 16), AGAIN_MAX_S)
        since = before.since if before is not None else now
        reason = reason_of(error)
        self._view.asides[key] = Aside(kind, object_id, reason, since, now + again_s, tries, version)
        trace = error if before is None else None  # once: it would be the same
        log.error(f"{kind}.set_aside", id=object_id, error=reason, again_in_s=again_s, exc_info=trace)
        self._wake()

    def try_again(self, kind: str, object_id: str) -> bool:
        """Lets a changed object be decided about. Returns False where it is not set aside, not changed, or
        cannot be read."""
        aside = self._view.asides.get((kind, object_id))
        if aside is None or aside.is_unreadable or aside.version == self._version(kind, object_id):
            return False
        self._take_out(aside)
        return True

    def take_due(self) -> list[AsideKey]:
        """Takes out those whose time has come. They are tried now; `settle` ends that."""
        if not self._view.asides:
            return []
        now = self._clock.now()
        due = [a for a in self._view.asides.values() if not a.is_unreadable and a.again_at <= now]
        for aside in due:
            self._take_out(aside)
        return [(aside.kind, aside.id) for aside in due]

    def settle(self) -> None:
        """Everything that was to be tried has been: who did not fail is like all others."""
        for kind, object_id in self._trying:
            log.info(f"{kind}.no_longer_aside", id=object_id)
        self._trying.clear()

    def next_s(self) -> float | None:
        """Returns how long it is until something is tried again; None where nothing is."""
        times = [a.again_at for a in self._view.asides.values() if not a.is_unreadable]
        return max(0.0, min(times) - self._clock.now()) if times else None

    def forget(self, kind: str, object_id: str) -> None:
        """It is no more."""
        self._view.asides.pop((kind, object_id), None)
        self._trying.pop((kind, object_id), None)

    def _take_out(self, aside: Aside) -> None:
        key = (aside.kind, aside.id)
        del self._view.asides[key]
        self._trying[key] = aside

    def _version(self, kind: str, object_id: str) -> int:
        found = self._view.services.get(object_id) if kind == SERVICE else self._view.nodes.get(object_id)
        return found.version if found is not None else 0


async def kept_up(name: str, part: Callable[[], Awaitable[None]]) -> None:
    """Does a part of a leader's work until it ends; where it fails of anything but the lost lead, again after
    a moment: all else waits for it. Errors: what costs the lead."""
    again_s = AGAIN_MIN_S
    while True:
        began_at = asyncio.get_running_loop().time()
        try:
            return await part()
        except Exception as error:
            if costs_lead(error):
                raise
            if asyncio.get_running_loop().time() - began_at > PART_WELL_S:
                again_s = AGAIN_MIN_S
            log.exception("leader.part_failed", part=name, again_in_s=again_s)
        await asyncio.sleep(again_s)
        again_s = min(again_s * 2, PART_AGAIN_MAX_S)
