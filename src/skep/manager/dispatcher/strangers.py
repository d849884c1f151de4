"""Nodes that come and that this manager does not know: whether they were removed, the store says.

A node that hears that it was removed ends all it runs, for good: not by what this manager remembers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from skep.rpc import messages
from skep.rpc.interfaces import Connection
from skep.runtime.errors import SkepError

log = structlog.get_logger()

CONFIRMING_MAX = 64  # nodes of whom the store is asked at once: removed ones come back once, as a rule
UNSURE = "this manager does not know the node, and the store does not say that it was removed"


async def nobody_is(node_id: str) -> bool:
    """Nobody was removed."""
    return False


class Strangers:
    """`is_removed` says by the quorum's word whether a node is none of the swarm's. Errors: `SkepError`.
    `part` ends a connection with a goodbye: its kind and reason."""

    def __init__(
        self, is_removed: Callable[[str], Awaitable[bool]], part: Callable[[Connection, str, str], None]
    ) -> None:
        self._is_removed = is_removed
        self._part = part
        self._confirming: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        for work in self._confirming:
            work.cancel()

    def came(self, connection: Connection, node_id: str) -> None:
        """One has come: it hears what it is."""
        if len(self._confirming) >= CONFIRMING_MAX:
            self._part(connection, messages.NOT_LEADER, UNSURE)
            return
        work = asyncio.ensure_future(self._part_if_removed(connection, node_id))
        self._confirming.add(work)
        work.add_done_callback(self._confirming.discard)

    async def _part_if_removed(self, connection: Connection, node_id: str) -> None:
        try:
            removed = await self._is_removed(node_id)
        except SkepError as error:
            log.warning("session.not_confirmed", node_id=node_id, error=str(error))
            removed = False
        if removed:
            self._part(connection, messages.REMOVED, f"node {node_id} is not in this swarm")
        else:
            self._part(connection, messages.NOT_LEADER, UNSURE)
