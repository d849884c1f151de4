"""What the swarm wants this node to act as, and what it takes to become that: a manager, or a worker again.

The leader says it over the session, again with every new one, so that a change which was interrupted goes on
wherever it stopped. A node never starts a copy of the store on its own word: the leader makes it a learner
first, and what it held before is let go of.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import structlog
from msgspec.structs import replace

from skep.daemon.addresses import join_address, resolve_advertise, resolve_listen
from skep.rpc.messages import Managing, Role
from skep.runtime.errors import SkepError, Unavailable
from skep.runtime.supervise import cancel_and_wait

if TYPE_CHECKING:
    from skep.daemon.state import Membership

log = structlog.get_logger()

VOTE_S = 60.0  # a learner without a vote by then was let go of, or is another member: it asks anew
RETRY_S = 1.0  # another manager may be joining, etcd takes one learner at a time


class Manager(Protocol):
    """The manager on this host."""

    async def wait_voter(self) -> None:
        """Waits until its member has its vote. Errors: `Unavailable` where it cannot join as it was told."""

    async def demote_self(self) -> None:
        """Asks for this manager to become a worker. Errors: as the leader's."""


class Session(Protocol):
    """The line to the leader."""

    @property
    def local_host(self) -> str:
        """Returns the address at which the leader sees this node."""
        ...

    def advertise(self, manager_addr: str) -> None:
        """The manager here is reached there from now on, or is no more (an empty text)."""


class Agent(Protocol):
    """The agent on this host."""

    @property
    def session(self) -> Session: ...

    async def renew_as(self, role: str) -> None:
        """Has a certificate of that role. Errors: `Unavailable`."""

    async def manage(self, manager_addr: str) -> Managing:
        """Asks the leader for a copy of the store. Errors: `Unavailable`, which says why not now."""
        ...


class Node(Protocol):
    """What a node does for its role keeper; `node_runner.NodeRunner` and a simulated host fulfil it."""

    @property
    def membership(self) -> Membership: ...

    @property
    def agent(self) -> Agent: ...

    @property
    def is_misplaced(self) -> bool:
        """True where its manager cannot listen at its address."""
        ...

    @property
    def running_manager(self) -> Manager | None: ...

    def remember(self, membership: Membership) -> None:
        """Errors: `Invalid` where it cannot be written."""

    async def end_manager(self) -> None:
        """Stops the manager here and forgets its copy of the store."""

    def take_data_key(self, data_key: bytes, unlock_key: str, older: Sequence[bytes] = ()) -> None:
        """Keeps the keys of the store's secrets. Errors: `Invalid` where it cannot be written."""

    async def begin_manager(self) -> None:
        """Errors: `Invalid`, `Unavailable`."""


class RoleKeeper:
    """Works for one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._told: Role | None = None
        self._work: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self._news = asyncio.Event()  # another word of the leader's has come
        self._why_not = ""

    @property
    def trouble(self) -> str:
        """Returns why the node does not act as it was told yet; an empty text where it does."""
        told = self._told
        if not self._why_not or told is None or self._settled.is_set():
            return ""
        return f"This node is to be a {told.role}, and is not yet: {self._why_not}"

    def told(self, role: Role) -> None:
        """The leader's word. Called at each start of a session and when it changes."""
        self._told = role
        self._news.set()
        if self._work is None or self._work.done():
            self._settled.clear()
            self._work = asyncio.ensure_future(self._follow())

    async def wait_settled(self) -> None:
        """Waits until the node acts as it was told."""
        await self._settled.wait()

    async def stop(self) -> None:
        self._told = None
        await cancel_and_wait(self._work)

    async def demote(self, manager: Manager) -> None:
        """Has this manager demoted, and waits until the others have let go of it. Errors: `SkepError`."""
        await manager.demote_self()
        while self._node.running_manager is not None:
            await self._settled.wait()
            await asyncio.sleep(0.1)

    async def _follow(self) -> None:
        while self._told is not None:
            told = self._told
            self._news.clear()
            try:
                if told.role == "manager":
                    await self._be_manager(told)
                else:
                    await self._be_worker()
            except SkepError as error:
                if str(error) != self._why_not:  # for some seconds after another manager has joined
                    log.info("role.not_yet", role=told.role, reason=str(error))
                self._why_not = str(error)
                await asyncio.sleep(RETRY_S)
                continue
            except Exception:
                log.exception("role.failed", role=told.role)
                await asyncio.sleep(RETRY_S)
                continue
            self._why_not = ""
            if told is self._told:
                break
        self._settled.set()

    async def _be_manager(self, told: Role) -> None:
        node = self._node
        manager = node.running_manager
        if manager is not None and told.is_member:
            with contextlib.suppress(Unavailable):  # it is taken in anew
                if await self._has_vote(manager):
                    return
        if node.is_misplaced:  # to begin anew here would only lose its copy of the store
            raise Unavailable("this manager cannot listen at its address")
        await node.agent.renew_as("manager")
        membership = node.membership
        listen = resolve_listen(membership.listen)
        # A node that joined with an earlier skep has not said where it would be reached.
        seen_at = (node.agent.session.local_host or listen[0], listen[1])
        advertise = join_address(*resolve_advertise(membership.advertise, seen_at))
        managing = await node.agent.manage(advertise)
        await node.end_manager()
        node.take_data_key(managing.data_key, managing.unlock_key, managing.older)
        node.remember(
            replace(
                node.membership,  # as it is by now: a leader may have been followed meanwhile
                role="manager",
                listen=join_address(*listen),
                advertise=advertise,
                peers={**managing.managers, membership.node_id: advertise},
            )
        )
        await node.begin_manager()
        log.info("role.manager", advertise=advertise)
        began = node.running_manager
        if began is None:
            raise Unavailable("the manager was stopped")
        await self._has_vote(began)

    async def _has_vote(self, manager: Manager) -> bool:
        """Waits for the manager's vote; False where it gets none in time. Another word of the leader's ends
        the waiting: that counts then. Errors: `Unavailable` where it cannot join."""
        voting = asyncio.ensure_future(manager.wait_voter())
        news = asyncio.ensure_future(self._news.wait())
        try:
            await asyncio.wait({voting, news}, timeout=VOTE_S, return_when=asyncio.FIRST_COMPLETED)
            if voting.done():
                voting.result()
            return voting.done() or news.done()
        finally:
            voting.cancel()
            news.cancel()

    async def _be_worker(self) -> None:
        node = self._node
        if node.membership.role != "worker" or node.running_manager is not None:
            await node.end_manager()
            node.remember(replace(node.membership, role="worker", peers={}))
            node.agent.session.advertise("")
            log.info("role.worker")
        await node.agent.renew_as("worker")
