"""The routing mesh and overlay networks on this node: what the manager tells goes to the kernel, what cannot
be done back to it.

One thread at a time works at the kernel; what is told meanwhile waits, and is done together. Nothing is
touched before a manager has told all: what stood before this daemon stands until then, and without it. The
mesh is what is told last.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

import structlog
from msgspec.structs import replace

from skep.agent.session import Session
from skep.model.mesh import Mesh
from skep.model.overlay import Overlay
from skep.network.applied import Applied
from skep.rpc import messages
from skep.rpc.checking import FAILURE_MAX_BYTES, FAILURES_MAX
from skep.runtime.errors import SkepError
from skep.runtime.works import in_thread, lasting

log = structlog.get_logger()

LOOK_S = 10.0  # how soon it is seen that somebody flushed rules or removed a device; a look takes some 10 ms
# Before what failed is tried again, and said: it may have been a moment's clash with the engine. Twice as
# long each time after that, until it is a look as any other.
AGAIN_S = 1.0
# From when a task's node hears that it is to end until it is told: all nodes hear of it in the same moment,
# and have it out of their rules in a twentieth of a second; hosts that have much to do, in half of one.
LEAVE_S = 1.0
_MESH = ""  # no network's id


class Plane(Protocol):
    """`network.plane.DataPlane`, or a test's."""

    def apply(self, mesh: Mesh, look: bool = True) -> Applied: ...
    def clear(self) -> tuple[str, ...]: ...
    def close(self) -> None: ...


class Naming(Protocol):
    """Who answers names as they are told here; `agent.naming`'s, or a test's."""

    @property
    def failures(self) -> list[str]: ...
    def told(self, overlays: dict[str, Overlay], vips: frozenset[str]) -> None: ...


class Networking:
    """A subject of the session. `plane` is blocking, and this object's alone."""

    def __init__(self, session: Session, plane: Plane, naming: Naming | None = None) -> None:
        self._session = session
        self._plane = plane
        self._naming = naming
        self._mesh = Mesh()
        self._is_told = False  # a manager has said all
        self._unfinished: set[str] = set()  # networks of which there is more to come, or the mesh
        self._lingers = False
        self._vips: frozenset[str] = frozenset()  # services' own addresses that the kernel knows
        self._says_held = False  # the manager of this session says which overlay networks there are
        self._news = asyncio.Event()
        self._failures: list[str] = []  # as they were said last in this session
        self._logged: list[str] = []
        self._failed_count = 0  # in a row
        self._work: asyncio.Task[None] | None = None
        session.on(messages.Registered, lambda said: self._session_began())
        session.on(messages.MeshTold, self._told, messages.MESH)
        session.on(messages.OverlayTold, self._overlay_told, messages.OVERLAY)
        session.on(messages.OverlaysHeld, self._overlays_held)

    def start(self) -> None:
        self._work = asyncio.ensure_future(lasting("mesh", self._run))

    async def close(self) -> None:
        """Ends the work; what stands in the kernel goes on."""
        await self._end()
        await in_thread(self._plane.close)

    async def clear(self) -> list[str]:
        """Takes all of it away: the swarm is over for this node. Returns what is still there, for people."""
        await self._end()
        return await cleared(self._plane)

    def leave_s(self, network_ids: frozenset[str]) -> float:
        """Returns how long a task on these networks is not told to end, so that nobody leads to it then."""
        network = self._mesh.network
        known = {*self._mesh.overlays, *([network.id] if network is not None else ())}
        return LEAVE_S if known & network_ids else 0.0

    # Inside

    def _told(self, said: messages.MeshTold) -> None:
        before = Mesh(overlays=self._mesh.overlays) if said.complete else self._mesh
        self._mesh = before.told(said.network, said.nodes, said.gone_nodes, said.services, said.gone_services)
        if said.complete and not self._says_held:
            self._hold(frozenset())  # an earlier manager, who tells of none
        self._is_told = self._is_told or said.complete
        self._heard(_MESH, said.more)

    def _overlay_told(self, said: messages.OverlayTold) -> None:
        id = said.network.id
        known = None if said.complete else self._mesh.overlays.get(id)
        before = replace(known, network=said.network) if known is not None else Overlay(said.network)
        overlay = before.told(said.nodes, said.gone_nodes, said.services, said.gone_services)
        self._mesh = replace(self._mesh, overlays={**self._mesh.overlays, id: overlay})
        self._heard(id, said.more)

    def _overlays_held(self, said: messages.OverlaysHeld) -> None:
        self._says_held = True
        self._hold(frozenset(said.network_ids))
        self._tell_names()
        self._news.set()

    def _hold(self, network_ids: frozenset[str]) -> None:
        """Forgets all other overlay networks."""
        held = {id: each for id, each in self._mesh.overlays.items() if id in network_ids}
        self._mesh = replace(self._mesh, overlays=held)
        self._unfinished &= {_MESH, *network_ids}

    def _heard(self, what: str, has_more: bool) -> None:
        (self._unfinished.add if has_more else self._unfinished.discard)(what)
        self._tell_names()
        self._news.set()

    def _tell_names(self) -> None:
        """At once, and not when the kernel has it: a task that is to end gets no more connections, and one
        that is new got its ways when it was not serving yet."""
        if self._naming is not None and self._is_told and not self._unfinished:
            self._naming.told(self._mesh.overlays, self._vips)

    def _session_began(self) -> None:
        self._failures = []  # what the manager takes for so
        self._says_held = False

    async def _run(self) -> None:
        look = True
        while True:
            await self._wait()
            # Of a bridge that was made for a task that never came, nobody told.
            look = look or not self._news.is_set() or not self._has_something()
            self._news.clear()
            if not self._is_told or self._unfinished:
                continue
            look = not await self._apply(look)

    async def _wait(self) -> None:
        """Waits for what is told, or until it is time to look. A node that has nothing need not look."""
        wait_s = LOOK_S if self._is_told and (self._has_something() or self._lingers) else None
        if self._failed_count:
            wait_s = again_s(self._failed_count)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._news.wait()

    def _has_something(self) -> bool:
        return bool(self._mesh.services or self._mesh.overlays)

    async def _apply(self, look: bool) -> bool:
        """Returns whether all went well: else the next time begins with a look."""
        try:
            managers = tuple(sorted({each.rpartition(":")[0] for each in self._session.managers}))
            applied = await in_thread(self._plane.apply, replace(self._mesh, managers=managers), look)
            failures = list(applied.failures)
            self._lingers = applied.lingers
            if applied.vips != self._vips:
                self._vips = applied.vips
                self._tell_names()
        except Exception as error:
            failures = [_said(error)]
        self._failed_count = self._failed_count + 1 if failures else 0
        if self._failed_count != 1:
            self._say(failures)
        return not failures

    def _say(self, failures: list[str]) -> None:
        """Tells the manager what is new of that; users see it with the node."""
        failures = [*failures, *(self._naming.failures if self._naming is not None else ())]
        shown = [_cut(text) for text in failures[:FAILURES_MAX]]
        if len(failures) > FAILURES_MAX:
            shown[-1] = f"and {len(failures) - FAILURES_MAX + 1} more: the log of skepd has them"
        if shown != self._logged:
            self._logged = shown
            for text in failures:
                log.warning("mesh.failed", reason=text)
        if shown != self._failures and self._session.manager_knows(messages.MESH):
            self._session.send(messages.MeshApplied(shown))
            self._failures = shown

    async def _end(self) -> None:
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
            self._work = None


async def cleared(plane: Plane) -> list[str]:
    """Takes all of a node's mesh away. Returns what is still there, for people; raises nothing."""
    try:
        return list(await in_thread(plane.clear))
    except Exception as error:
        return [_said(error)]


def again_s(failed_count: int) -> float:
    """Returns how long to wait after so many failures in a row."""
    return min(AGAIN_S * 2.0 ** min(failed_count - 1, 10), LOOK_S)


def _said(error: Exception) -> str:
    """Returns what went wrong, for people; one that nobody thought of has its traceback in the log."""
    if isinstance(error, SkepError):
        return str(error)
    log.error("mesh.error", exc_info=error)
    return f"the routing mesh failed in a way that nobody thought of (skepd's log has more): {error!r}"


def _cut(text: str) -> str:
    printable = "".join(each if each.isprintable() else " " for each in text)
    return printable.encode()[:FAILURE_MAX_BYTES].decode(errors="ignore")
