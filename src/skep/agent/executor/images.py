"""Images on a node: what is there, what is pulled, with what credentials.

A pinned image that is there is never asked for again, nor one that never came from a registry. A tag may have
moved: its registry is asked as Docker's swarm does, and what is there is taken where the registry does not
answer. But nothing waits for it long, or often: a registry that cannot be reached must not hold up a node.
"""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

import structlog

from skep.agent.executor.calls import EngineCalls, Slots
from skep.agent.executor.container_config import full_reference
from skep.agent.executor.engine import EngineClient
from skep.agent.executor.refusals import EngineError
from skep.model.service import RegistryAuth

log = structlog.get_logger()

PULLS_MAX = 3  # what the engine itself downloads at once
SLOW_PULL_S = 60.0  # a registry that hangs must not hold up the others; the engine itself queues what is more
FIRST_WORD_S = 5.0  # of a registry, where the image is there already; a busy one answers within one second
REFRESH_S = 30.0  # how long a tag counts as asked for: all tasks that come together ask once
REMEMBERED_MAX = 1000  # tags


class Images:
    """Ensures that a task's image is on the node."""

    def __init__(self, engine: EngineClient, calls: EngineCalls) -> None:
        self._engine = engine
        self._calls = calls
        self._pulls = Slots(PULLS_MAX, SLOW_PULL_S)
        self._asked: dict[str, float] = {}
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def ensure(self, reference: str, auth: RegistryAuth | None) -> str:
        """Returns the reference to create from. Errors: `EngineError` 404, where the image is not there and
        cannot be pulled."""
        reference = full_reference(reference)
        found = await self._calls.look(lambda: self._engine.image(reference))
        if found is not None:
            if "@" not in reference and found.get("RepoDigests"):
                await self._refresh(reference, auth)
            return reference
        if "@" in reference:
            # An image that was never in a registry has no digest there: its name is all it has.
            tag = full_reference(reference.split("@", 1)[0])
            found = await self._calls.look(lambda: self._engine.image(tag))
            if found is not None and not found.get("RepoDigests"):
                return tag
        try:
            await self._calls.call(lambda: self._pull_once(reference, auth), self._pulls)
        except EngineError as error:
            log.warning("image.pull_failed", image=reference, error=str(error))
            raise EngineError(404, f"No such image: {reference}") from error
        return reference

    async def _pull_once(self, reference: str, auth: RegistryAuth | None) -> None:
        if await self._engine.image(reference) is None:  # another task may have pulled it meanwhile
            await self._engine.pull(reference, auth)

    async def _refresh(self, reference: str, auth: RegistryAuth | None) -> None:
        """Asks the registry what the tag is now, for all tasks that come together."""
        lock = self._asking.setdefault(reference, asyncio.Lock())
        now = asyncio.get_running_loop().time
        async with lock:
            if now() - self._asked.get(reference, -REFRESH_S) < REFRESH_S:
                return
            try:
                await self._calls.call(lambda: self._engine.pull(reference, auth, FIRST_WORD_S), self._pulls)
            except (EngineError, TimeoutError) as error:
                cause = str(error) or "its registry does not answer"
                log.info("image.not_refreshed", image=reference, error=cause)
            self._asked.pop(reference, None)
            self._asked[reference] = now()
            while len(self._asked) > REMEMBERED_MAX:
                del self._asked[next(iter(self._asked))]
