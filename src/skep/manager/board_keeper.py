"""A leader's board (`model.board`), while somebody watches: made when the first one comes, gone a while after
the last one. Where nobody watches, a change costs a look at one attribute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from skep import __version__
from skep.manager.board import SwarmBoard
from skep.manager.signals import PerNode
from skep.manager.term import Term
from skep.manager.watched_board import BoardFile, WatchedBoard
from skep.model.board import BoardSwarm
from skep.runtime.audience import Write
from skep.runtime.errors import NoLeader
from skep.runtime.supervise import cancel_and_wait


class BoardKeeper:
    """The leader's parts say what may be other; watchers come and go. `stop` ends it for good."""

    def __init__(self, term: Term, leader_id: str) -> None:
        self._term = term
        self._leader_id = leader_id
        self._watched: WatchedBoard | None = None
        self._running: asyncio.Task[None] | None = None
        self._made = 0  # boards of this leader so far: each numbers its rows anew
        self._is_over = False

    # What may be other

    def committed(self, changed: PerNode) -> None:
        if self._watched is not None:
            board = self._watched.board
            for put, dropped in changed.values():
                for task in (*put, *dropped):
                    board.mark_task(task.id)

    def reported(self, task_id: str) -> None:
        if self._watched is not None:
            self._watched.board.mark_task(task_id)

    def node_changed(self, node_id: str) -> None:
        if self._watched is not None:
            self._watched.board.mark_node(node_id)

    def service_changed(self, service_id: str) -> None:
        if self._watched is not None:
            self._watched.board.mark_service(service_id)

    # Who watches

    async def file(self) -> BoardFile:
        """Returns the board as it is. Errors: `NoLeader`."""
        return await (await self._ready()).file()

    async def watch(self, after: str, write: Write, cut: Callable[[], None]) -> None:
        """See `WatchedBoard.watch`. Errors: also `NoLeader`."""
        await (await self._ready()).watch(after, write, cut)

    async def stop(self) -> None:
        """This manager leads no more: all who watch come to their end."""
        self._is_over = True
        await cancel_and_wait(self._running)

    async def _ready(self) -> WatchedBoard:
        if self._is_over:
            raise NoLeader("this manager does not lead any more")
        if self._watched is None:
            self._made += 1
            epoch = f"{self._term.view.incarnation}.{self._term.fence.create_revision}.{self._made}"
            cluster = self._term.view.cluster
            swarm = BoardSwarm(cluster.id if cluster is not None else "", self._leader_id, __version__)
            board = SwarmBoard(self._term.view, epoch, swarm)
            self._watched = WatchedBoard(board, self._term.clock.now)
            self._running = asyncio.ensure_future(self._run(self._watched))
        watched = self._watched
        await watched.is_ready.wait()
        return watched

    async def _run(self, watched: WatchedBoard) -> None:
        try:
            await watched.run()
        finally:
            self._watched = None
