"""What this host's kernel can do for the swarm's networks, in what the node says of itself."""

from __future__ import annotations

import asyncio

import structlog

from skep.agent.plane import Plane
from skep.model.data_path import HAS_IPVS
from skep.model.node import NodeDescription
from skep.model.overlay_keys import ESP
from skep.runtime.supervise import in_thread

log = structlog.get_logger()

# Before it is tried again whether the kernel can encrypt: a module may have come, or the host was busy.
TRY_AGAIN_S = 300.0


class Abilities:
    """`plane` is asked in threads; what it says that can be is not asked again."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._why_not: str | None = None  # it does not encrypt; None: not tried yet
        self._tried_at = 0.0  # loop time

    async def described(self, description: NodeDescription) -> NodeDescription:
        """Returns what the node says of itself, with these: a description of before may have others."""
        now = asyncio.get_running_loop().time()
        if self._why_not is None or (self._why_not and now - self._tried_at > TRY_AGAIN_S):
            why_not, self._tried_at = await in_thread(self._plane.why_not_encrypted), now
            if why_not and why_not != self._why_not:
                log.info("encryption.unavailable", reason=why_not)
            self._why_not = why_not
        has_ipvs = await in_thread(self._plane.may_have_ipvs)
        return description.having(ESP, not self._why_not).having(HAS_IPVS, has_ipvs)
