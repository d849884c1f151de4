"""The leader's watch over a change of the root: it ends it when every node is ready for the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from skep.manager.ca import rotation
from skep.manager.signals import RootChanged
from skep.manager.term import Term
from skep.runtime.errors import Conflict, Unavailable

log = structlog.get_logger()

LOOK_S = 0.2  # nodes report one by one, thousands within seconds: each look is at all of them
NAMED_MAX = 5  # nodes named in the log
REMIND_S = 60.0  # how often the log says which nodes are missing


class RotationKeeper:
    """What to do is in the store: any leader goes on."""

    def __init__(
        self,
        term: Term,
        new_secret: Callable[[], str],
    ) -> None:
        self._term = term
        self._view = term.view
        self._new_secret = new_secret
        self._wake = asyncio.Event()
        self._wake.set()
        self._remind_at = 0.0

    def look(self) -> None:
        """A node reported or is gone, or the swarm's settings changed."""
        self._wake.set()

    async def run(self) -> None:
        """Runs until cancelled. Errors: `Denied` when this manager no longer leads."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._look()
            except (Conflict, Unavailable) as error:  # the settings were written meanwhile, or etcd is away
                log.warning("ca.rotation_retry", error=str(error))
                self._wake.set()
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        cluster = self._view.cluster
        if cluster is None:
            return
        state = rotation.decide(cluster, self._view.nodes, self._view.node_tls)
        if isinstance(state, rotation.Unfinished):
            self._remind(state.nodes)
        elif isinstance(state, rotation.Finished):
            after = rotation.finished(cluster, self._term.clock.now(), self._new_secret(), self._new_secret())
            await self._term.update(cluster, after)
            log.info("ca.rotated", nodes=len(self._view.nodes))
            self._term.tell(RootChanged())

    def _remind(self, nodes: tuple[str, ...]) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._remind_at:
            self._remind_at = now + REMIND_S
            log.info("ca.rotation_waits", nodes=len(nodes), first=list(nodes[:NAMED_MAX]))
