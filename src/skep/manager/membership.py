"""The leader's care for the managers: who answers, who is to hold the store, one change after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from skep.manager import quorum
from skep.manager.signals import MembersChanged
from skep.manager.term import Term
from skep.model.node import Node
from skep.rpc.messages import Managing, NotNow
from skep.runtime.errors import Conflict, SkepError, Unavailable
from skep.store.interfaces import Member, Members

log = structlog.get_logger()

LOOK_S = 1.0  # how often managers are asked whether they answer: a heartbeat's period at the shortest
MISSES_MAX = 2  # a manager that does not answer twice in a row is unreachable
ANSWER_S = 2 * LOOK_S  # until it has not answered
FRESH_S = 5.0  # for as long it counts that somebody has answered: who stood still meanwhile asks again

DEFERRED_MAX = 5  # looks at a member that leads etcd before it is removed all the same

Probe = Callable[[str], Awaitable[bool]]  # a node id -> its manager answers, its store too


class MembershipKeeper:
    """`probe` asks another manager; `data_keys` says what a node is given that becomes one; `confirm` returns
    where this manager still leads, by the store's word. Errors of `data_keys`: `Conflict`, where the node is
    not to become one now; of `confirm`: `Deposed`, `Unavailable`.

    etcd's changes of members know no compares, so the lead is confirmed right before each. A leader that is
    stopped just between the two, and goes on after another has come to lead, makes one change by its old
    picture: one vote at most, and the next leader's next look mends it (a member that was wrongly removed
    asks again, one that was wrongly added is let go). etcd itself refuses it where too few are connected to
    do without the member, and a member is meant by its id: a node gets another each time it is added.
    """

    def __init__(
        self,
        term: Term,
        members: Members,
        node_id: str,
        probe: Probe,
        data_keys: Callable[[str], Sequence[bytes]],
        confirm: Callable[[], Awaitable[None]],
    ) -> None:
        self._term = term
        self._view = term.view
        self._members = members
        self._node_id = node_id
        self._probe = probe
        self._data_keys = data_keys
        self._confirm = confirm
        self._wake = asyncio.Event()
        # A look that began before a change must not end after it: who is told that it is no member, while it
        # is one, lets go of its copy.
        self._one = asyncio.Lock()
        self._answering: frozenset[str] = frozenset()  # at the last look
        self._asked_at = 0.0
        self._misses: dict[str, int] = {}
        self._reached_at: dict[str, float] = {}
        self._deferred = ("", 0)  # whose removal waits, and for how many looks in a row it has
        self._why_not = ""
        self.hand_over = asyncio.Event()  # set when another manager is to lead

    def wake(self) -> None:
        """A node's role was changed."""
        self._wake.set()

    async def look(self) -> None:
        """Reads who the members are and whether they answer. Errors: `Unavailable`."""
        members = tuple(await self._members.members())
        self._asked_at = asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(self._answers(member) for member in members))
        self._check_fresh()
        self._answering = frozenset(
            m.node_id for m, answered in zip(members, answers, strict=True) if answered
        )
        reachable = set()
        for member, answered in zip(members, answers, strict=True):
            if self._count(member.node_id, answered):
                reachable.add(member.node_id)
        self._take(members, frozenset(reachable))

    async def run(self) -> None:
        """Runs until another manager is to lead, or it is cancelled. Errors: `Deposed`."""
        while not self.hand_over.is_set():
            try:
                if await self._step():
                    continue
            except Unavailable as error:
                log.info("membership.unavailable", error=str(error))
            self._wake.clear()
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _step(self) -> bool:
        async with self._one:
            await self.look()
            step = quorum.decide(self._view, self._node_id, self._silent_s(), self._answering)
            return await self._do(step)

    async def add(self, node_id: str) -> Managing | NotNow:
        """Lets a node follow the store that is to be a manager; what it is to be told."""
        try:
            async with self._one:
                self._check_role(node_id)
                await self.look()
                self._data_keys(node_id)
                await self._make_learner(node_id)
                self._reached_at[node_id] = asyncio.get_running_loop().time()
                await self.look()
            # It may have been demoted meanwhile. Nothing may be awaited from here on: the key that is being
            # made for its demotion must not be among these.
            self._check_role(node_id)
            first, *older = self._data_keys(node_id) or (b"",)
        except SkepError as error:
            return NotNow(str(error))
        addresses = {m.node_id: self._address_of(m.node_id) for m in self._view.members}
        cluster = self._view.cluster
        return Managing(addresses, first, cluster.unlock_key if cluster is not None else "", older)

    # Inside

    def _check_role(self, node_id: str) -> None:
        """Errors: `Conflict` for a node that is not to be a manager."""
        if not quorum.is_to_manage(self._view, node_id):
            raise Conflict(f"node {node_id} is not to be a manager")

    async def _may_go(self, member: Member) -> bool:
        """False while etcd's own lead is still with the member: who leads is given it within a second, and
        then nobody has to wait for a vote."""
        if member.node_id not in self._view.reachable or not await self._members.holds_lead(member):
            return True
        node_id, looks = self._deferred
        looks = looks + 1 if node_id == member.node_id else 1
        self._deferred = member.node_id, looks
        return looks > DEFERRED_MAX

    async def _make_learner(self, node_id: str) -> None:
        """A member that asks has lost its data: it must become another one, or raft would count on what is
        gone. Errors: `Conflict`, `Unavailable`."""
        member = next((m for m in self._view.members if m.node_id == node_id), None)
        if member is not None and not member.is_started:
            return
        if member is not None:
            if not member.is_learner and not self._can_do_without(node_id):
                raise Conflict("its lost copy cannot be replaced: the managers left would have no quorum")
            await self._confirm()
            await self._members.remove(member)
        await self._confirm()
        await self._members.add_learner(node_id)
        log.info("membership.learner", node_id=node_id)

    def _can_do_without(self, node_id: str) -> bool:
        return quorum.keeps_quorum_without(self._view, node_id, self._answering)

    def _address_of(self, node_id: str) -> str:
        node: Node | None = self._view.nodes.get(node_id)
        return node.manager_addr if node is not None else ""

    async def _answers(self, member: Member) -> bool:
        if member.node_id == self._node_id:
            return True
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._probe(member.node_id)
        except (SkepError, TimeoutError):
            return False

    def _check_fresh(self) -> None:
        """Errors: `Unavailable`, where what others answered is of too long ago to count upon."""
        if asyncio.get_running_loop().time() - self._asked_at > FRESH_S:
            raise Unavailable("this manager stood still since it asked the others whether they answer")

    def _count(self, node_id: str, answered: bool) -> bool:
        """Returns whether the manager counts as reachable."""
        now = asyncio.get_running_loop().time()
        if answered:
            self._misses[node_id] = 0
            self._reached_at[node_id] = now
            return True
        self._reached_at.setdefault(node_id, now)
        self._misses[node_id] = self._misses.get(node_id, MISSES_MAX) + 1
        return self._misses[node_id] < MISSES_MAX

    def _silent_s(self) -> dict[str, float]:
        now = asyncio.get_running_loop().time()
        return {node_id: now - at for node_id, at in self._reached_at.items()}

    def _take(self, members: tuple[Member, ...], reachable: frozenset[str]) -> None:
        view = self._view
        before = {(m.node_id, m.is_learner, m.node_id in view.reachable) for m in view.members}
        after = {(m.node_id, m.is_learner, m.node_id in reachable) for m in members}
        view.put_members(members, reachable)
        changed = {node_id for node_id, *_ in before ^ after}
        if changed:
            self._term.tell(MembersChanged(frozenset(changed)))

    async def _do(self, step: quorum.MemberStep) -> bool:
        """Takes a step; returns whether something changed."""
        if step.why_not and step.why_not != self._why_not:
            log.warning("membership.waits", member=step.member, reason=step.why_not)
        self._why_not = step.why_not
        if step.act is not quorum.Act.REMOVE:
            self._deferred = "", 0
        if step.act is quorum.Act.NOTHING or step.member is None:
            return False
        node_id = step.member.node_id
        try:
            if step.act is quorum.Act.HAND_OVER:
                log.info("membership.hand_over", node_id=node_id)
                self.hand_over.set()
            elif step.act is quorum.Act.PROMOTE:
                await self._confirm()
                await self._members.promote(step.member)
                log.info("membership.promoted", node_id=node_id)
            elif await self._may_go(step.member):
                await self._confirm()
                self._check_fresh()
                await self._members.remove(step.member)
                log.info("membership.removed", node_id=node_id)
            else:
                return False
        except Conflict as error:
            log.debug("membership.not_yet", node_id=node_id, error=str(error))
            return False
        return True
