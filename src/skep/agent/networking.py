"""The routing mesh and overlay networks on this node: what the manager tells goes to the kernel, what cannot
be done back to it.

One thread at a time works at the kernel, and one beside it where connections are to be forgotten; what is
told meanwhile waits, and is done together. Nothing is touched before a manager has told all: what stood
before this daemon stands until then, and without it. The mesh is what is told last.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Collection, Iterator, Mapping

from msgspec.structs import replace

from skep.agent.arriving import is_serving, is_told
from skep.agent.asking import ADDRESS, NAME, SERVICE, Asking, Item
from skep.agent.keeping import KnownOverlays
from skep.agent.leaving import Leaving
from skep.agent.looking import Looking
from skep.agent.mesh_known import KnownMesh
from skep.agent.plane import Naming, Plane, cleared
from skep.agent.saying import NetworkFailures, in_words
from skep.agent.session import Session
from skep.model.kernel_net import Carried, KernelNet
from skep.model.mesh import Mesh
from skep.model.overlay import Overlay
from skep.model.overlay_keys import OverlayKeys
from skep.model.task import TaskAddress
from skep.network.names import Unknown
from skep.rpc import messages
from skep.runtime.supervise import in_thread, run_forever

LOOK_S = 10.0  # how soon it is seen that somebody flushed rules or removed a device; a look takes some 10 ms
# Before what failed is tried again, and said: it may have been a moment's clash with the engine. Twice as
# long each time after that, until it is a look as any other.
AGAIN_S = 1.0
# How long a name's answer waits for the kernel to have what it leads to: a twentieth of a second, and longer
# where much has changed. Without that the first connection waits for ARP. As long does a task that is to be
# started, for the kernel to know it: other nodes lead to it as soon as it runs, and where an answer does not
# find back its client tries again a second later.
SETTLE_S = 0.5
_MESH = ""  # no network's id


class Networking:
    """A subject of the session. `plane` is blocking, and this object's alone."""

    def __init__(self, session: Session, plane: Plane, naming: Naming | None = None) -> None:
        self._session = session
        self._plane = plane
        self._naming = naming
        self._known = KnownMesh()
        self._overlays = KnownOverlays()
        self._keys = OverlayKeys()  # of encrypted ones
        self._is_told = False  # a manager has said all
        self._unfinished: set[str] = set()  # networks of which there is more to come, or the mesh
        self._lingers = False
        self._unsure: frozenset[str] = frozenset()  # addresses that somebody had, and may have still
        self._gone: set[str] = set()  # of those, by a manager's word
        self._told_count, self._done_count = 0, 0  # of what was told, and of that in the kernel
        self._done = asyncio.Event()  # set for a moment when that is more, or nothing can be done
        self._vips: frozenset[str] = frozenset()  # services' own addresses that the kernel knows
        self._says_held = False  # the manager of this session says which overlay networks there are
        self._news = asyncio.Event()
        self._failures = NetworkFailures(session)
        self._failed_count = 0  # in a row
        self._is_blind = False  # nothing could be looked at, the last time
        self._looked_at = -LOOK_S  # loop time
        self._work: asyncio.Task[None] | None = None
        self._forgetting: asyncio.Task[None] | None = None
        self._has_lost = False  # something is to be forgotten
        self._why_not_forgotten = ""
        self._at_work = asyncio.Lock()  # one thread at a time
        self._leaving = Leaving(plane.arrivals)
        self._looking = Looking(session, self._seen)
        self._asking = Asking(session, self._answered)
        session.on(messages.Registered, lambda said: self._session_began())
        session.on(messages.MeshTold, self._told, messages.MESH)
        session.knows(messages.MESH_CHANGES)
        session.knows(messages.MESH_PARTS)
        session.says_parts(lambda: self._known.parts)
        session.on(messages.OverlayTold, self._overlay_told, messages.OVERLAY)
        session.on(messages.OverlaysHeld, self._overlays_held)
        session.on(messages.OverlayKeysTold, self._keys_told)

    def start(self) -> None:
        self._work = asyncio.ensure_future(run_forever("mesh", self._run))

    async def close(self) -> None:
        """Ends the work; what stands in the kernel goes on."""
        await self._end()
        await in_thread(self._plane.close)

    async def clear(self) -> list[str]:
        """Takes all of it away: the swarm is over for this node. Returns what is still there, for people."""
        await self._end()
        return await cleared(self._plane)

    async def resolve(self, unknown: Collection[Unknown]) -> None:
        """Has what a manager knows of these be known here, and be in the kernel, if this takes no longer than
        `ASK_S` and `SETTLE_S`."""
        asked = (self._asking.ask(each.network_id, _items(each)) for each in unknown)
        if any(await asyncio.gather(*asked)):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_S):
                    await self._settled()

    def arriving(self, service_id: str, addresses: Collection[TaskAddress]) -> Awaitable[None] | None:
        """Returns what ends when the kernel knows a task that is to be started here, or after `SETTLE_S`.
        None: it does by now, or nothing can be done at all."""
        if not self._is_told or self._is_blind:
            return None
        if self._done_count == self._told_count and self._is_known(service_id, addresses):
            return None
        return self._arrive(service_id, addresses)

    def leaving(self, service_id: str, addresses: Collection[TaskAddress]) -> Awaitable[None] | None:
        """Returns what ends when a task of this node may be told to end (`agent.leaving`). None: nobody
        leads to it."""
        network = self._mesh.network
        known = {*self._overlays.all, *([network.id] if network is not None else ())}
        if known.isdisjoint(each.network_id for each in addresses):
            return None
        return self._leave(service_id, addresses)

    async def carried(self) -> list[tuple[str, Carried]]:
        """Returns what this node has led to tasks, with the names of the services. Errors: `Unavailable`,
        `Corrupt`."""
        async with self._at_work:
            found = await in_thread(self._plane.carried)
        names = service_names(self._mesh, self._overlays.all)
        return [(names[each.of], each) for each in found if each.of in names]

    # Inside

    @property
    def _mesh(self) -> Mesh:
        """Returns what was told, but for overlays."""
        return self._known.mesh

    def _is_known(self, service_id: str, addresses: Collection[TaskAddress]) -> bool:
        return is_told(self._mesh, self._overlays.all, service_id, addresses)

    async def _arrive(self, service_id: str, addresses: Collection[TaskAddress]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                while not self._is_known(service_id, addresses):
                    await self._done.wait()
                await self._settled()  # what is told after that is others'

    async def _leave(self, service_id: str, addresses: Collection[TaskAddress]) -> None:
        let_go: int | None = None  # what was told when it served no more
        looked_at = -1  # what was told when that was looked at: it costs all of the service's tasks

        def is_led() -> bool:
            nonlocal let_go, looked_at
            if let_go is None and looked_at != self._told_count:
                looked_at = self._told_count
                if not is_serving(self._mesh, self._overlays.all, service_id, addresses):
                    let_go = looked_at
            return not self._is_blind and (let_go is None or self._done_count < let_go)

        await self._leaving.left([each.address.partition("/")[0] for each in addresses], is_led)

    def _told(self, said: messages.MeshTold) -> None:
        self._known.told(said, keeps_returns=self._session.manager_knows(messages.MESH_PARTS))
        if said.complete and not self._says_held:
            self._hold([])  # an earlier manager, who tells of none
        self._is_told = self._is_told or said.complete
        self._heard(_MESH, said.more)

    def _overlay_told(self, said: messages.OverlayTold) -> None:
        kept = self._overlays.told(said)
        self._heard(said.network.id, said.more)
        again = [(SERVICE, each) for each in sorted(kept.services)]
        again += [(ADDRESS, each) for each in sorted(kept.addresses)]
        self._asking.ask_again(said.network.id, again)

    def _answered(self, network_id: str, said: messages.OverlayAnswered) -> None:
        gone = self._unsure.intersection(said.unknown_addresses)
        self._gone |= gone
        if self._overlays.answered(network_id, said) or gone:
            self._changed()

    def _keys_told(self, said: messages.OverlayKeysTold) -> None:
        self._keys = self._keys.told(said.keys, said.sending, said.behind)
        self._changed()

    def _overlays_held(self, said: messages.OverlaysHeld) -> None:
        self._says_held = True
        self._hold(said.network_ids)
        self._changed()

    def _hold(self, network_ids: Collection[str]) -> None:
        """Forgets all other overlay networks."""
        self._overlays.hold(network_ids)
        if not any(each.network.is_encrypted for each in self._overlays.all.values()):
            self._keys = OverlayKeys()
        self._unfinished &= {_MESH, *network_ids}

    def _heard(self, what: str, has_more: bool) -> None:
        (self._unfinished.add if has_more else self._unfinished.discard)(what)
        self._changed()

    def _changed(self) -> None:
        self._told_count += 1
        self._asking.told(self._overlays.all)
        self._tell_names()
        self._news.set()

    def _tell_names(self) -> None:
        """At once, and not when the kernel has it: a task that is to end gets no more connections, and one
        that is new got its ways when it was not serving yet."""
        if self._naming is not None and self._is_told and not self._unfinished:
            self._naming.told(self._overlays.all, self._vips)

    def _session_began(self) -> None:
        self._failures.session_began()
        self._says_held = False

    async def _run(self) -> None:
        look = True
        while True:
            await self._wait()
            # Of a bridge that was made for a task that never came, nobody told.
            is_late = asyncio.get_running_loop().time() - self._looked_at >= LOOK_S
            look = look or is_late or not self._news.is_set() or not self._has_something()
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
        return bool(self._mesh.services or self._overlays.all)

    async def _apply(self, look: bool) -> bool:
        """Returns whether all went well: else the next time begins with a look."""
        try:
            if look:
                self._looked_at = asyncio.get_running_loop().time()
            async with self._at_work:
                count, gone, self._gone = self._told_count, self._gone, set()
                applied = await in_thread(self._plane.apply, self._all, look, gone)
            failures = [*applied.failures, *([self._why_not_forgotten] if self._why_not_forgotten else [])]
            self._lingers, self._unsure = applied.lingers, applied.unsure
            if applied.vips != self._vips:
                self._vips = applied.vips
                self._tell_names()
            self._is_blind = False
            self._done_count = count
            self._wake()
            self._has_lost = self._has_lost or applied.has_lost
            if self._has_lost and self._forgetting is None:
                self._forgetting = asyncio.ensure_future(self._forget())
        except Exception as error:
            self._is_blind = True
            self._wake()
            failures = [in_words(error)]
        self._failed_count = self._failed_count + 1 if failures else 0
        if self._failed_count != 1:
            of_names = self._naming.failures if self._naming is not None else []
            self._failures.say([*failures, *of_names, *self._asking.failures])
        return not failures

    async def _forget(self) -> None:
        """Connections to tasks that are gone take a while to be forgotten where there are many, or other
        tables are large: rules change meanwhile. What fails is said, and tried again, with the next change
        or look."""
        try:
            while self._has_lost:
                self._has_lost = False
                await in_thread(self._plane.forget)
            self._why_not_forgotten = ""
        except Exception as error:
            self._why_not_forgotten = in_words(error)
        finally:
            self._forgetting = None

    @property
    def _all(self) -> Mesh:
        managers = tuple(sorted({each.rpartition(":")[0] for each in self._session.managers}))
        return replace(self._mesh, managers=managers, overlays=self._overlays.all, keys=self._keys)

    async def _seen(self) -> KernelNet:
        if not self._is_told or self._unfinished:
            return KernelNet(failures=["no manager has told this node yet all that it is to have"])
        async with self._at_work:
            seen = await in_thread(self._plane.seen, self._all)
        if seen.missing_count or seen.surplus_count:
            self._looked_at = -LOOK_S  # what was found is mended
            self._news.set()
        return seen

    async def _settled(self) -> None:
        """Returns once the kernel has what was told until now, or nothing can be done at all."""
        wanted = self._told_count
        while self._done_count < wanted and not self._is_blind:
            await self._done.wait()

    def _wake(self) -> None:
        self._done.set()
        self._done.clear()

    async def _end(self) -> None:
        await self._asking.close()
        await self._looking.close()
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
            self._work = None
        if self._forgetting is not None:
            await asyncio.gather(self._forgetting, return_exceptions=True)


def _items(unknown: Unknown) -> Iterator[Item]:
    yield from ((NAME, each) for each in unknown.names)
    if unknown.address:
        yield ADDRESS, unknown.address


def service_names(mesh: Mesh, overlays: Mapping[str, Overlay]) -> dict[str, str]:
    """Returns services' names by what leads to them: published ports, as `8080/tcp`, and own addresses."""
    names = {f"{port.published}/{port.protocol}": s.name for s in mesh.services.values() for port in s.ports}
    services = (service for overlay in overlays.values() for service in overlay.services.values())
    return names | {service.vip: service.name for service in services if service.vip}


def again_s(failed_count: int) -> float:
    """Returns how long to wait after so many failures in a row."""
    return min(AGAIN_S * 2.0 ** min(failed_count - 1, 10), LOOK_S)
