"""A node's swarm is over for it: what it has on its engine is ended and removed at once, as Docker does.

What counts is what the engine lists afterwards, not what it answered. Whatever stays is said, in words for
people. Nothing of others is touched: several nodes may share the engine, and the users' own containers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from skep.agent.executor.bridges import LIVE, node_of
from skep.agent.executor.calls import EngineCalls
from skep.agent.executor.container_config import NODE_LABEL, TASK_LABEL
from skep.agent.executor.engine import EngineClient, Json
from skep.agent.executor.reading import epoch_s
from skep.model.network import COPY_LABEL
from skep.runtime.clock import Clock
from skep.runtime.errors import SkepError, Unavailable

log = structlog.get_logger()

# Without one container fewer. The engine gives a kill up after ten seconds, and a busy one is slow to answer.
GIVE_UP_S = 30.0
AWAY_S = 10.0  # an engine that restarts is back in seconds; one that is off holds nobody up
AGAIN_S = 0.5  # before what is still there is tried again: a removal that has begun takes its time
# Another daemon that shares the engine has a container on a bridge a moment after it has made it: seconds
# later on a busy engine. What this node made, or has something on, goes at any age.
SWEEP_AGE_S = 30.0

T = TypeVar("T")


class Clearing:
    """Clears one node. `network_ids`: those of the swarm's networks that it may have made a bridge for.
    `sweeps`: bridges that nobody needs go, too, whoever made them."""

    def __init__(
        self,
        engine: EngineClient,
        calls: EngineCalls,
        node_id: str,
        clock: Clock,
        sweeps: bool,
        network_ids: frozenset[str] = frozenset(),
    ) -> None:
        self._engine = engine
        self._calls = calls
        self._node_id = node_id
        self._clock = clock
        self._sweeps = sweeps
        self._network_ids = network_ids
        self._refused: dict[str, str] = {}  # container -> why the engine did not remove it

    async def clear(self) -> list[str]:
        """Returns what is still there, for people; nothing where all is gone."""
        try:
            theirs = await self._bridges_of_node()
            left = await self._remove_containers()
            return left + await self._remove_bridges(theirs)
        except SkepError as error:
            return [f"what the Docker Engine has of node {self._node_id}: {error}"]

    # Containers

    async def _remove_containers(self) -> list[str]:
        now = asyncio.get_running_loop().time
        fewest, until, is_again = -1, 0.0, False
        while True:
            listed = await self._call(lambda: self._engine.containers(f"{NODE_LABEL}={self._node_id}"))
            if not listed:
                return []
            if fewest < 0 or len(listed) < fewest:
                fewest, until = len(listed), now() + GIVE_UP_S
            elif now() > until:
                return [self._stays(each) for each in listed]
            if is_again:  # whatever the engine answered: it may say that all is well, and do nothing
                await asyncio.sleep(AGAIN_S)
            is_again, self._refused = True, {}
            await asyncio.gather(*(self._remove(str(each["Id"])) for each in listed))

    async def _remove(self, container: str) -> None:
        try:
            async with self._calls.changes.one():
                await asyncio.wait_for(self._engine.remove(container), GIVE_UP_S)
        except TimeoutError:
            self._refused[container] = f"the engine did not answer within {GIVE_UP_S:.0f} s"
        except SkepError as error:
            self._refused[container] = str(error)

    def _stays(self, listed: Json) -> str:
        why = self._refused.get(str(listed["Id"]), "the engine still lists it")
        log.warning("container.stays", container=_name(listed), error=why)
        return f"container {_name(listed)}: {why}"

    # Bridges

    async def _bridges_of_node(self) -> set[str]:
        """Returns the ids of the bridges that the node has made, or has something on."""
        found = set()
        for copy in await self._call(lambda: self._engine.networks(COPY_LABEL)):
            if copy["Labels"][COPY_LABEL] in self._network_ids:
                found.add(str(copy["Id"]))
                continue
            for listed in await self._on(copy):
                if await self._owner(copy, listed) == self._node_id:
                    found.add(str(copy["Id"]))
                    break
        return found

    async def _remove_bridges(self, theirs: set[str]) -> list[str]:
        left: list[str] = []
        for copy in await self._call(lambda: self._engine.networks(COPY_LABEL)):
            if copy["Id"] in theirs or (self._sweeps and self._age_s(copy) > SWEEP_AGE_S):
                why = await self._remove_bridge(copy)
                if why and copy["Id"] in theirs:
                    log.warning("bridge.stays", network=copy["Name"], error=why)
                    left.append(f"network {copy['Name']}: {why}")
        return left

    def _age_s(self, copy: Json) -> float:
        """Returns how long ago the engine made a network: by its clock, which is this host's."""
        return self._clock.now() - epoch_s(str(copy["Created"]))

    async def _remove_bridge(self, copy: Json) -> str:
        """Returns why a bridge stays; an empty text where it is gone, or another node needs it."""
        strangers: list[str] = []
        for listed in await self._on(copy):
            is_live, owner = listed.get("State") in LIVE, await self._owner(copy, listed)
            if owner == self._node_id:
                if is_live and not _is_task(listed):
                    await self._take_off(copy, listed)
            elif owner and (is_live or not _is_task(listed)):
                return ""
            elif not owner:
                strangers.append(_name(listed))
        if strangers:
            return f"container {strangers[0]}, which the swarm did not put there, is on it"
        try:
            await self._call(lambda: self._engine.remove_network(copy["Id"]))
        except SkepError as error:
            return str(error)
        return ""

    async def _take_off(self, copy: Json, listed: Json) -> None:
        """As Docker: the users' containers are taken off the swarm's networks, and run on."""
        await self._call(lambda: self._engine.disconnect(copy["Id"], listed["Id"]))

    async def _on(self, copy: Json) -> list[Json]:
        return await self._call(lambda: self._engine.containers_on(copy))

    async def _owner(self, copy: Json, listed: Json) -> str:
        """Returns the id of the node that put a container on a bridge; empty where none did."""
        if _is_task(listed):
            return str(listed["Labels"].get(NODE_LABEL, ""))
        return node_of(copy, await self._call(lambda: self._engine.inspect(listed["Id"])))

    async def _call(self, call: Callable[[], Awaitable[T]]) -> T:
        """Errors: `Unavailable`, also where the engine is there and does not answer; `EngineError`."""
        try:
            return await asyncio.wait_for(self._calls.call(call, patience_s=AWAY_S), GIVE_UP_S)
        except TimeoutError as error:
            raise Unavailable(f"it did not answer within {GIVE_UP_S:.0f} s") from error


def _is_task(listed: Json) -> bool:
    return TASK_LABEL in (listed.get("Labels") or {})


def _name(listed: Json) -> str:
    return str((listed.get("Names") or [str(listed["Id"])[:12]])[0]).removeprefix("/")
