"""Has machines join a swarm, thousands at a time: managers one after the other, workers beside each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from skep.machine.drivers import Say
from skep.machine.join_plan import JoinResult, JoinRole, Outcome, must_join, other_role
from skep.machine.swarm import NodeMembership, SwarmMember, Tokens
from skep.runtime.entry import reason_of
from skep.runtime.errors import Conflict, SkepError, Unavailable

AT_A_TIME = 64  # a manager gives out some 170 certificates a second, and more would wait for it
AGAIN_S = 2.0  # between two attempts: a manager that is just lost is replaced within four seconds


class _Members:
    """The swarm's nodes by their ids. They are asked for once more, where one is in a swarm and none of them:
    another command may have had it join meanwhile."""

    def __init__(self, manager: SwarmMember, ids: frozenset[str]) -> None:
        self.ids = ids
        self._manager = manager
        self._turn = asyncio.Lock()
        self._is_newest = False

    async def newest(self) -> frozenset[str]:
        async with self._turn:
            if not self._is_newest:
                self.ids, self._is_newest = await self._manager.node_ids(), True
        return self.ids


class _Known(NamedTuple):
    """What is known of the swarm that is joined."""

    tokens: Tokens
    managers: tuple[str, ...]
    members: _Members


class Joining(NamedTuple):
    """`member`: gives a machine's node by its name; `say`: told the name and what became of it; `attempts`:
    how often each is tried."""

    member: Callable[[str], SwarmMember]
    attempts: int
    say: Callable[[str, str], None]

    async def join(self, first: str, managers: Sequence[str], workers: Sequence[str]) -> list[JoinResult]:
        """Returns what came of each, in their order: of one that fails the others go on. `first` is a manager
        of the swarm. Errors: `Conflict` where it is none; those of asking it."""
        to = self.member(first)
        own = await to.membership()
        if not own.is_manager:
            raise Conflict(
                f"{first} is no manager of a swarm: docker --context {first} swarm init, or name another"
            )
        known = _Known(await to.tokens(), own.managers, _Members(to, await to.node_ids()))
        results = [await self._one(name, JoinRole.MANAGER, known) for name in managers]
        if Outcome.JOINED in [each.outcome for each in results]:
            known = known._replace(managers=(await to.membership()).managers)
        turn = asyncio.Semaphore(AT_A_TIME)

        async def worker(name: str) -> JoinResult:
            async with turn:
                return await self._one(name, JoinRole.WORKER, known)

        return results + await asyncio.gather(*map(worker, workers))

    async def _one(self, name: str, role: JoinRole, known: _Known) -> JoinResult:
        for left in reversed(range(self.attempts)):
            try:
                result = await self._try(name, role, known)
                break
            except SkepError as error:
                result = JoinResult(name, role, Outcome.FAILED, reason_of(error))
                if not left or not error.temporary:
                    break
            await asyncio.sleep(AGAIN_S)
        self.say(name, result.said)
        return result

    async def _try(self, name: str, role: JoinRole, known: _Known) -> JoinResult:
        node = self.member(name)
        own = await node.membership()
        try:
            is_outside = must_join(own, known.members.ids, name)
        except Conflict:
            is_outside = must_join(own, await known.members.newest(), name)
        if not is_outside:
            return JoinResult(name, role, Outcome.ALREADY, other_role(own, role))
        token = known.tokens.manager if role is JoinRole.MANAGER else known.tokens.worker
        await node.join(token, known.managers)
        return JoinResult(name, role, Outcome.JOINED)


async def first_manager(member: Callable[[str], SwarmMember], managers: Sequence[str], say: Say) -> str:
    """Returns one of the managers that is one already; the first makes a swarm where none is. Errors: of
    asking them, where no manager is found: one that does not answer may be in a swarm."""

    async def ask(name: str) -> NodeMembership | SkepError:
        try:
            return await member(name).membership()
        except SkepError as error:
            return error

    found = list(zip(managers, await asyncio.gather(*map(ask, managers)), strict=True))
    for name, own in found:
        if isinstance(own, NodeMembership) and own.is_manager and own.state == "active":
            return name
    for name, own in found:
        if isinstance(own, SkepError):
            raise Unavailable(f"{name}: {reason_of(own)}") from own
        if own.state != "inactive":
            raise Conflict(f"{name} is in a swarm, and no manager that answers: {own.error or own.state}")
    say(f"docker swarm init on {managers[0]}")
    await member(managers[0]).init()
    return managers[0]
