"""What former nodes of this daemon have left on its engine: a leave goes on also where the engine is away, or
does not let a container go. Which nodes they were is kept on disk until nothing of them is there any more.

Only they are looked after: other daemons' nodes may share the engine, and so may Docker's own swarm.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from skep.agent.executor.engine import CALL_S
from skep.agent.executor.interfaces import Executor
from skep.agent.plane import Plane, cleared
from skep.daemon import error_texts
from skep.daemon.state import StateDir
from skep.runtime.errors import SkepError
from skep.runtime.supervise import cancel_and_wait

log = structlog.get_logger()

# Nodes that are remembered. Each is one that could not be cleared: an engine with so many of them needs a
# person, who finds them by their containers' labels.
FORMER_MAX = 100
AGAIN_S = 30.0  # an engine that is off, or has lost hold of a container, stays so for a while
# What begins in a new swarm waits so long for what was left of the last one, which may hold its ports.
FIRST_S = 10.0
# Who could not be cleared at once is looked after so long at least: what the engine was making then may be
# there only when its call would have run out of time.
KEPT_S = CALL_S

Clear = Callable[[], Awaitable[list[str]]]


class Makers(Protocol):
    """What `platform.HostPlatform` has of it."""

    def make_executor(self) -> Executor: ...

    def make_plane(self, node_id: str, cluster_id: str = "") -> Plane | None: ...


class Leftovers:
    """`platform` makes what clears, containers and the routing mesh; `is_in_swarm` says whether another node
    works here now."""

    def __init__(self, state: StateDir, platform: Makers, is_in_swarm: Callable[[], bool]) -> None:
        self._state = state
        self._platform = platform
        self._is_in_swarm = is_in_swarm
        self._former = state.load_former()
        self._work: asyncio.Task[None] | None = None
        self._now = asyncio.Event()
        self._passed = asyncio.Event()
        self._said: dict[str, str] = {}
        self._until: dict[str, float] = {}  # loop time; of nodes of this life
        self._clears: dict[str, Clear] = {}  # of nodes whose agent is still here

    def take_over(self, node_id: str, clear: Clear) -> None:
        """The swarm has removed this node: what it has goes, by `clear` as long as its agent is here."""
        self._clears[node_id] = clear
        self.remember(node_id)
        self._now.set()
        self.begin()

    async def hand_back(self, node_id: str) -> None:
        """The agent of a node that was taken over stops: it is no former one, until it is said again."""
        if self._clears.pop(node_id, None) is not None:
            await self.close()
            self.forget(node_id)
            self.begin()  # the others' turn goes on

    def remember(self, node_id: str) -> None:
        """From now on the node is one of before; what it has here goes, sooner or later."""
        self._keep([*(each for each in self._former if each != node_id), node_id][-FORMER_MAX:])
        self._until[node_id] = asyncio.get_running_loop().time() + KEPT_S
        self._until = {each: at for each, at in self._until.items() if each in self._former}

    def forget(self, node_id: str) -> None:
        """Nothing of the node is left, or it is no former one."""
        self._said.pop(node_id, None)
        self._until.pop(node_id, None)
        self._clears.pop(node_id, None)
        if node_id in self._former:
            self._keep([each for each in self._former if each != node_id])

    def begin(self) -> None:
        """Looks after what is left, until nothing is."""
        if self._former and (self._work is None or self._work.done()):
            self._work = asyncio.ensure_future(self._run())

    async def clear_first(self) -> None:
        """Looks at once, and waits a little: this node is about to be another swarm's."""
        if self._former:
            self._passed.clear()
            self._now.set()
            self.begin()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._passed.wait(), FIRST_S)

    async def clear(self, node_id: str, clear: Clear | None = None) -> list[str]:
        """Ends and removes what the node has here, by `clear` where its agent is here. Returns what is still
        there, for people; raises nothing: a node leaves, and others' turn comes, whatever fails."""
        try:
            return await (clear() if clear is not None else self._clear_anew(node_id))
        except Exception as error:
            log.exception("leftovers.failed", node_id=node_id)
            return [f"what node {node_id} has here: {str(error) or repr(error)}"]

    async def close(self) -> None:
        await cancel_and_wait(self._work)

    async def _run(self) -> None:
        while self._former:
            self._now.clear()
            # What was a part of the swarm until now first: what it runs counts there.
            for node_id in sorted(self._former, key=lambda each: each not in self._clears):
                await self._try(node_id)
            self._passed.set()
            if self._former:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._now.wait(), AGAIN_S)

    async def _clear_anew(self, node_id: str) -> list[str]:
        executor = self._platform.make_executor()
        try:
            left = await executor.clear(node_id, sweeps=not self._is_in_swarm())
        finally:
            await executor.close()
            left_of_mesh = await self._clear_mesh(node_id)
        return left + left_of_mesh

    async def _clear_mesh(self, node_id: str) -> list[str]:
        """There is one mesh on a host: where another node works here now, it is that one's."""
        plane = None if self._is_in_swarm() else self._platform.make_plane(node_id)
        return await cleared(plane) if plane is not None else []

    async def _try(self, node_id: str) -> None:
        left = await self.clear(node_id, self._clears.get(node_id))
        if not left and asyncio.get_running_loop().time() < self._until.get(node_id, 0.0):
            return
        if not left:
            log.info("leftovers.gone", node_id=node_id)
            self.forget(node_id)
        elif self._said.get(node_id) != (text := error_texts.listed(left)):
            log.warning("leftovers.stay", node_id=node_id, left=text)
            self._said[node_id] = text

    def _keep(self, former: list[str]) -> None:
        self._former = former
        try:
            self._state.save_former(former)
        except SkepError as error:  # a full disk keeps nobody from leaving
            log.warning("leftovers.not_kept", error=str(error))
