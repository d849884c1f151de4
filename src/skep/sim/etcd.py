"""A model of etcd's cluster: one history of writes, and members that hold it, vote, fall behind and elect.

Raft itself is not played: a write is done at one moment, by raft's leader with a majority of the voters,
and every member that takes part then holds it. What follows from that is what matters: who is cut off,
stopped, or waits for its disk reads and writes nothing; after the loss of raft's leader nothing goes for one
to two seconds; a request may be done after its sender has stopped waiting; and a history that fewer than a
majority hold can be lost, which is a violation.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from skep.runtime.errors import Conflict, OutcomeUnknown, SkepError, Unavailable
from skep.sim.loop import OUTSIDE, Place
from skep.sim.net import Network
from skep.store.interfaces import Member, Txn
from skep.store.memory import MemoryState

TICK_S = 0.1
ELECTION_S = (1.0, 2.0)  # election timeout, stretched at random by as much again
REQUEST_S = 7.0  # etcd's own patience with a request: 5 s and two election timeouts
RETRY_S = 0.1
LATE_RATE, LATE_S = 0.3, (0.0, 10.0)  # requests that timed out and are done all the same, and when
LAST_S = (0.0, 2.0)  # the same of a member that died
LEARN_S = (0.3, 3.0)  # until a learner has caught up
HEALTH_S = 5.0  # etcd's own: links that stand for less do not count when members are changed
KNOWN_DEAD_S = 6.0  # whoever takes no part for as long must not be counted upon
SLOW_S = (0.05, 1.5)
FSYNC_S = (0.0005, 0.003)
BROKEN, SLOW, HUNG = "broken", "slow", "hung"

T = TypeVar("T")


class Peer:
    """One host's etcd. What is on its disk outlives the process."""

    def __init__(self, node_id: str, host: str, place: Place) -> None:
        self.node_id, self.host, self.place = node_id, host, place
        self.member_id = 0  # on disk; 0 where there are no data
        self.revision = 0  # on disk: how much of the history it holds
        self.learned_at = 0.0
        self.running = False
        self._in_force = Counter[str]()  # incidents, by kind

    @contextlib.contextmanager
    def suffer(self, kind: str) -> Iterator[None]:
        """Has etcd not start (`BROKEN`), or its disk take long (`SLOW`) or for ever (`HUNG`) meanwhile."""
        self._in_force[kind] += 1
        try:
            yield
        finally:
            self._in_force[kind] -= 1

    def suffers(self, kind: str) -> bool:
        return self._in_force[kind] > 0

    def stop(self) -> None:
        """The process ends."""
        self.running = False

    def clear(self) -> None:
        """The data are removed."""
        self.member_id, self.revision = 0, 0


class Etcd:
    """`run` it for as long as it is used. `wrong` tells violations as they happen. `know` says whether one of
    two knows where the other is."""

    def __init__(self, network: Network, rng: random.Random, know: Callable[[Peer, Peer], bool]) -> None:
        self.state = MemoryState()
        self.members: dict[int, Member] = {}
        self.peers: dict[str, Peer] = {}  # by node id
        self.leads = ""  # the node id of raft's leader
        self.wrong: list[str] = []
        self._know = know
        self.watchers: list[Callable[[Peer, Txn], None]] = []
        self._network = network
        self._rng = rng
        self._lost_at: float | None = None
        self._elect_at = 0.0
        self._linked_since: dict[tuple[str, str], float] = {}
        self._gone_since: dict[str, float] = {}
        self._next_id = 1
        self._working: set[asyncio.Task[Any]] = set()

    # Members

    def found(self, node_ids: list[str]) -> None:
        """The members that the swarm begins with."""
        for node_id in node_ids:
            member_id = self.new_member(node_id, is_learner=False)
            self.peers[node_id].member_id = member_id
            self.peers[node_id].revision = self.state.revision
        self.leads = node_ids[0]

    def lose(self) -> None:
        """All members' data are gone: what begins next is another history."""
        self.state.clear()
        self.members, self.leads, self._lost_at = {}, "", None
        self._linked_since.clear()
        self._gone_since.clear()

    def new_member(self, node_id: str, is_learner: bool) -> int:
        member_id, self._next_id = self._next_id, self._next_id + 1
        self.members[member_id] = Member(member_id, node_id, is_learner, not is_learner)
        return member_id

    def begin(self, peer: Peer, alone: bool = False) -> None:
        """Starts a host's etcd on its data, or as the member it was made; `alone`, as the only one. Errors:
        `Unavailable`."""
        if peer.suffers(BROKEN):
            raise Unavailable("etcd cannot be started (simulated)")
        if alone:
            self._be_alone(peer)
        if not self.members:
            self.found([peer.node_id])
        if not peer.member_id:
            member = next((m for m in self.members.values() if m.node_id == peer.node_id), None)
            if member is None:
                raise Unavailable("etcd ended: member count is unequal")
            if member.is_started:
                self.wrong.append(f"member {peer.node_id} came back without its data")
            peer.member_id = member.id
            peer.learned_at = asyncio.get_running_loop().time() + self._rng.uniform(*LEARN_S)
        peer.running = True

    def _be_alone(self, peer: Peer) -> None:
        """`--force-new-cluster`: of what this member has. The model has one history, so that must be all."""
        if peer.revision < self.state.revision:
            self.wrong.append(f"a new cluster is made of {peer.node_id}, which does not hold everything")
        self.members = {}
        peer.member_id = self.new_member(peer.node_id, is_learner=False)
        self.leads, self._lost_at = peer.node_id, None

    def voters(self) -> list[Peer]:
        return [self.peers[m.node_id] for m in self.members.values() if not m.is_learner]

    def member_of(self, peer: Peer) -> Member | None:
        return self.members.get(peer.member_id)

    # Who takes part

    def is_up(self, peer: Peer) -> bool:
        """True when it takes part in raft, as far as it reaches others."""
        return (
            peer.running
            and not peer.place.frozen
            and not peer.suffers(HUNG)
            and peer.member_id in self.members
        )

    def takes_part(self, peer: Peer, other: Peer) -> bool:
        return self.is_up(other) and self._linked(peer, other)

    def has_quorum(self, peer: Peer) -> bool:
        voters = self.voters()
        if not self.is_up(peer) or peer not in voters:
            return False
        return sum(self.takes_part(peer, voter) for voter in voters) > len(voters) // 2

    def raft_leader(self) -> Peer | None:
        """Returns raft's leader where it can decide."""
        found = self.peers.get(self.leads)
        return found if found is not None and self.has_quorum(found) else None

    def is_led(self, peer: Peer) -> bool:
        leader = self.raft_leader()
        return leader is not None and self.is_up(peer) and self.takes_part(leader, peer)

    def is_linked_since(self, peer: Peer, other: Peer, at: float) -> bool:
        return peer is other or self._linked_since.get((peer.node_id, other.node_id), at + 1) <= at

    def is_active(self, peer: Peer, other: Peer) -> bool:
        return (peer.node_id, other.node_id) in self._linked_since

    # Requests

    def ask(self, peer: Peer, change: Callable[[], T], is_write: bool = True) -> asyncio.Future[T]:
        """Has a change made; goes on whatever becomes of who asked. Changes of members (not `is_write`) are
        not done late: a disk that is lost in between would cost the quorum, and nobody could help it.
        Errors: `OutcomeUnknown`, `change`'s."""
        return self._spawn(self._make(peer, change, LATE_RATE if is_write else 0.0))

    def read(self, peer: Peer, read: Callable[[], T]) -> asyncio.Future[T]:
        """Errors: `Unavailable`."""
        return self._spawn(self._read(peer, read))

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        task = asyncio.get_running_loop().create_task(work, context=OUTSIDE.copy())
        self._working.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._working.discard(task)
        if not task.cancelled():
            error = task.exception()  # nobody may wait for it any more
            if error is not None and not isinstance(error, SkepError):
                self.wrong.append(f"the model of etcd failed: {error!r}")

    async def _make(self, peer: Peer, change: Callable[[], T], late_rate: float) -> T:
        deadline = asyncio.get_running_loop().time() + REQUEST_S
        while True:
            try:
                leader = await self._reach_leader(peer, deadline)
            except OutcomeUnknown:
                if self._rng.random() < late_rate:
                    self._spawn(self._make_late(peer, change))
                raise
            await asyncio.sleep(self._rng.uniform(*(SLOW_S if self._is_slow(leader) else FSYNC_S)))
            if leader is self.raft_leader() and self.takes_part(leader, peer) and self.is_up(peer):
                break
        result = change()
        self._spread(leader)
        while not self.takes_part(leader, peer) or not self.is_up(peer):  # for the answer
            self._check_patience(peer, deadline)
            await asyncio.sleep(RETRY_S)
        return result

    async def _make_late(self, peer: Peer, change: Callable[[], object]) -> None:
        """What a follower had passed on to raft's leader arrives there after it was given up, be it that it
        took too long, or that the follower died."""
        await asyncio.sleep(self._rng.uniform(*(LATE_S if peer.running else LAST_S)))
        if self.raft_leader() is not None:
            change()

    def _is_slow(self, leader: Peer) -> bool:
        """Raft's leader waits for its own disk, and for those of a majority."""
        voters = self.voters()
        return leader.suffers(SLOW) or sum(v.suffers(SLOW) for v in voters) * 2 > len(voters)

    async def _read(self, peer: Peer, read: Callable[[], T]) -> T:
        try:
            await self._reach_leader(peer, asyncio.get_running_loop().time() + REQUEST_S)
        except OutcomeUnknown as error:
            raise Unavailable(str(error)) from error
        await asyncio.sleep(0)
        return read()

    async def _reach_leader(self, peer: Peer, deadline: float) -> Peer:
        while True:
            leader = self.raft_leader()
            if leader is not None and self.is_up(peer) and self.takes_part(leader, peer):
                return leader
            self._check_patience(peer, deadline)
            await asyncio.sleep(RETRY_S)

    def _check_patience(self, peer: Peer, deadline: float) -> None:
        if not peer.running or asyncio.get_running_loop().time() > deadline:
            raise OutcomeUnknown("etcdserver: request timed out")

    # Raft

    def _spread(self, leader: Peer) -> None:
        """Who takes part holds all of the history now; a new learner takes its time."""
        now = asyncio.get_running_loop().time()
        for member in list(self.members.values()):
            peer = self.peers[member.node_id]
            if peer.member_id != member.id or not self.takes_part(leader, peer):
                continue
            if member.is_learner and now < peer.learned_at:
                continue
            peer.revision = self.state.revision
            if not member.is_started:
                self.members[member.id] = Member(member.id, member.node_id, member.is_learner)

    async def run(self) -> None:
        while True:
            self._tick(asyncio.get_running_loop().time())
            await asyncio.sleep(TICK_S)

    def _tick(self, now: float) -> None:
        self._watch_links(now)
        leader = self.raft_leader()
        if leader is not None:
            self._lost_at = None
            self._spread(leader)
            self._end_removed(leader)
        elif self._lost_at is None:
            self._lost_at, self._elect_at = now, now + self._rng.uniform(*ELECTION_S)
        elif now >= self._elect_at:
            self._elect()

    def _elect(self) -> None:
        """The first who gets the votes of a majority: of voters that hold no more than it does."""
        voters = self.voters()
        for peer in self._rng.sample(voters, len(voters)):
            votes = [v for v in voters if self.takes_part(peer, v) and v.revision <= peer.revision]
            if self.is_up(peer) and len(votes) > len(voters) // 2:
                if peer.revision < self.state.revision:
                    self.wrong.append(f"{peer.node_id} leads etcd without writes that were acknowledged")
                self.leads, self._lost_at = peer.node_id, None
                return

    def move_lead(self, target: Peer) -> None:
        """Raft's leader hands over to a voter that takes part and holds everything."""
        if self.is_led(target) and self.has_quorum(target) and target.revision == self.state.revision:
            self.leads = target.node_id

    def _end_removed(self, leader: Peer) -> None:
        """A member that hears it was removed ends, and never comes back on its data."""
        for peer in self.peers.values():
            if peer.running and peer.member_id not in self.members:
                peer.running = not self._linked(leader, peer)

    def _watch_links(self, now: float) -> None:
        peers = [self.peers[m.node_id] for m in self.members.values()]
        for one in peers:
            for other in peers:
                key = (one.node_id, other.node_id)
                if self._is_awake(one) and self._is_awake(other) and self._linked(one, other):
                    self._linked_since.setdefault(key, now)
                else:
                    self._linked_since.pop(key, None)
        leader = self.raft_leader()
        for peer in peers:
            if leader is None or self.takes_part(leader, peer):
                self._gone_since.pop(peer.node_id, None)
            else:
                self._gone_since.setdefault(peer.node_id, now)

    def _is_awake(self, peer: Peer) -> bool:
        return peer.running and not peer.place.frozen

    def _linked(self, one: Peer, other: Peer) -> bool:
        return self._network.linked(one.host, other.host) and self._know(one, other)

    def check_quorum_is_left(self, change: str) -> None:
        """A change of members must leave a majority that is not known to be dead."""
        now = asyncio.get_running_loop().time()
        voters, leads = self.voters(), self.peers[self.leads]
        gone = [v for v in voters if now - self._gone_since.get(v.node_id, now) > KNOWN_DEAD_S]
        dead = [v for v in gone if not self.takes_part(leads, v)]  # it may be back since the last tick
        if (len(voters) - len(dead)) * 2 <= len(voters):
            self.wrong.append(f"{change} left {len(voters)} voters, {len(dead)} of them long gone")


def check_may_change(etcd: Etcd, peer: Peer, member: Member | None, act: str) -> None:
    """etcd's own rules (server.go, --strict-reconfig-check). Errors: `Conflict`, `Unavailable`."""
    now = asyncio.get_running_loop().time()
    voters = etcd.voters()
    since = now - HEALTH_S
    connected = sum(etcd.is_linked_since(peer, voter, since) for voter in voters)
    if act == "add":
        if any(m.is_learner for m in etcd.members.values()):
            raise Conflict("etcdserver: too many learner members in cluster")
        if connected < len(voters):
            raise Unavailable("etcdserver: unhealthy cluster")
        return
    if member is None or member.id not in etcd.members:
        raise Conflict("etcdserver: member not found")
    if act == "promote":
        learner = etcd.peers[member.node_id]
        if not etcd.members[member.id].is_learner:
            raise Conflict("etcdserver: can only promote a learner member")
        if learner.member_id != member.id or learner.revision * 10 < etcd.state.revision * 9:
            raise Conflict("etcdserver: can only promote a learner member which is in sync with leader")
        return
    voter = etcd.peers[member.node_id]
    if etcd.members[member.id].is_learner or (voter is not peer and not etcd.is_active(peer, voter)):
        return  # it is not part of the active quorum
    if connected - 1 < 1 + (len(voters) - 1) // 2:
        raise Unavailable("etcdserver: unhealthy cluster")
