"""What runs on this host for a swarm: the agent, and the manager where it is one; what is wrong with them.

How they come to run is `beginning`'s; what the swarm wants this node to act as is `role_keeper`'s.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog
from msgspec.structs import replace

from skep.agent.session import Advertised
from skep.daemon import error_texts
from skep.daemon.addresses import given_host
from skep.daemon.agent_runner import AgentOwner, AgentParts, AgentRunner, AgentSettings
from skep.daemon.data_keys import DataKeyKeeper
from skep.daemon.keys import KeyFiles
from skep.daemon.leftovers import Leftovers
from skep.daemon.node_state import Failed, Locked, NodeState, Outside, Running, Starting
from skep.daemon.platform import HostPlatform
from skep.daemon.role_keeper import RoleKeeper
from skep.daemon.state import Membership, StateDir
from skep.manager.events import EventHub
from skep.model.node import NodeDescription
from skep.rpc.certificates import NodeKeys, validity_of
from skep.rpc.enrol import Stayed
from skep.rpc.messages import DataKeys, HasDataKeys, Role
from skep.runtime.errors import Invalid, Unavailable
from skep.runtime.supervise import in_thread

if TYPE_CHECKING:
    from skep.daemon.manager_runner import ManagerRunner

log = structlog.get_logger()


class NodeRunner(AgentOwner):
    """Fulfils `role_keeper.Node`."""

    def __init__(self, platform: HostPlatform, state: StateDir, keys: KeyFiles, hub: EventHub) -> None:
        self.platform = platform
        self._state = state
        self._keys = keys
        self._hub = hub
        self._now: NodeState = Outside()
        self.role = RoleKeeper(self)
        self.data_keys = DataKeyKeeper(keys, self._data_keys_changed, self._say)
        self.leftovers = Leftovers(state, platform, lambda: self.is_in_swarm)

    # What there is

    @property
    def state(self) -> NodeState:
        return self._now

    @property
    def is_in_swarm(self) -> bool:
        return not isinstance(self._now, Outside)

    @property
    def membership(self) -> Membership:
        assert not isinstance(self._now, Outside)
        return self._now.membership

    @property
    def agent(self) -> AgentRunner:
        assert isinstance(self._now, Running)
        return self._now.agent

    @property
    def running_manager(self) -> ManagerRunner | None:
        return self._now.manager if isinstance(self._now, Running) else None

    @property
    def is_misplaced(self) -> bool:
        return isinstance(self._now, Running) and bool(self._now.misplaced)

    async def wait_settled(self, timeout_s: float) -> None:
        """Waits until a manager leads again: who asks it right after its start should get an answer."""
        if self.running_manager is not None:
            with contextlib.suppress(Unavailable):
                await self.running_manager.wait_led(timeout_s)

    # Begin and end

    def lock(self, membership: Membership) -> None:
        """This node's files are sealed: nothing runs."""
        self._now = Locked(membership)

    def starting(self, membership: Membership) -> None:
        """This node is in that swarm from now on; what runs there is being started."""
        self._now = Starting(membership)

    def fail(self, why: str) -> None:
        """Nothing of this node's can run."""
        self._now = Failed(self.membership, why)

    async def make_manager(self, keys: NodeKeys, membership: Membership) -> ManagerRunner:
        """Returns a manager for this host, not started. Errors: `Invalid`, `Corrupt`."""
        # First: it loads what a worker does without.
        parts = await self.platform.manager_parts(membership, keys, self._peers_moved)
        from skep.daemon.manager_runner import ManagerRunner

        return ManagerRunner(self.platform, parts, membership, keys, self._keys, self._hub)

    def run(
        self,
        keys: NodeKeys,
        manager: ManagerRunner | None = None,
        misplaced: str = "",
        stayed: Stayed | None = None,
    ) -> None:
        """Starts the agent of a node whose certificate is in `keys`, and has it renewed in time: beside the
        manager that has been started, where it is one. `stayed` is the connection that it was enrolled on."""
        membership, platform = self.membership, self.platform
        line = platform.line(keys, stayed)
        settings = AgentSettings(
            membership.node_id,
            platform.hostname,
            membership.known_managers,
            Advertised(
                membership.advertise if membership.role == "manager" else "",
                given_host(membership.data_path) or given_host(membership.advertise),
            ),
            described=membership.described,
            leads=membership.leads,
        )
        plane = platform.make_plane(membership.node_id, membership.cluster_id)
        parts = AgentParts(platform.make_executor(), platform.clock, platform.rng, plane)
        agent = platform.make_agent(settings, line, parts, self)
        not_before, not_after = validity_of(keys.certificate_pem)
        lifetime_s = not_after - not_before
        self._now = Running(membership, agent, line, not_after, manager, misplaced, lifetime_s=lifetime_s)
        self.data_keys.begin()
        agent.start()
        agent.renew(self._renewed)

    async def stop(self) -> None:
        """Ends everything of ours; containers run on."""
        await self.role.stop()
        await self.data_keys.stop()
        if self.is_in_swarm:
            await self.leftovers.hand_back(self.membership.node_id)
        state = self._now
        if isinstance(state, Running):
            await state.agent.stop()
            if state.manager is not None:
                await state.manager.stop()
            self.fail(error_texts.STOPPED)

    async def leave(self) -> list[str]:
        """Ends everything, containers too, and forgets the swarm. Returns what is still there, for people;
        it is looked after from now on."""
        node_id = self.membership.node_id
        await self.role.stop()
        await self.data_keys.stop()
        await self.leftovers.hand_back(node_id)
        self.leftovers.remember(node_id)
        state = self._now
        left: list[str] = []
        if isinstance(state, Running):
            left = await self.leftovers.clear(node_id, state.agent.clear)
            await _stopped(state.agent)
            await _stopped(state.manager)
        self._now = Outside()
        if not isinstance(state, Running):  # locked, expired, or it never came up
            left = await self.leftovers.clear(node_id)
        self.forget()
        if not left:
            self.leftovers.forget(node_id)
        self.leftovers.begin()
        return left

    def forget(self) -> None:
        """Forgets the swarm, on disk too."""
        self._keys.close()
        self._state.clear()
        self._hub.forget()
        self._now = Outside()

    # For the role keeper and the mover

    def remember(self, membership: Membership) -> None:
        """Errors: `Invalid` where the state directory cannot be written."""
        assert not isinstance(self._now, Outside)
        self._now = replace(self._now, membership=membership)
        self._state.save(membership)

    async def end_manager(self) -> None:
        """Stops the manager here and forgets its copy of the store. Errors: `Invalid`, `Corrupt`."""
        if self.running_manager is not None:
            await self.running_manager.stop()
        # Not before: who leaves waits for this, and would cancel what still stops.
        self._has_manager(None)
        self._keys.drop_data_key()
        self._state.clear_store()

    def take_data_key(self, data_key: bytes, key: str, older: Sequence[bytes] = ()) -> None:
        """Keeps what the leader gives a new manager; the node's own key is sealed where managers lock.

        Errors: `Invalid` (disk full), `Corrupt`.
        """
        node_keys = self._keys.load()
        self._keys.take(data_key, key, tuple(older))
        self._keys.save(node_keys)
        self.data_keys.say()  # they may be others already

    async def begin_manager(self) -> None:
        """Errors: `Invalid`, `Unavailable`."""
        manager = await self.make_manager(self._keys.load(), self.membership)
        try:
            await manager.start()
        except BaseException:
            await manager.stop()
            raise
        self._has_manager(manager)
        manager.renewed(self._keys.load())  # they may be newer than its start

    # Inside

    def _has_manager(self, manager: ManagerRunner | None) -> None:
        """From now on; what kept one from its address is over."""
        if isinstance(self._now, Running):
            self._now = replace(self._now, manager=manager, misplaced="")

    async def _renewed(self, keys: NodeKeys) -> None:
        """Errors: `Invalid` where the new certificate cannot be written."""
        await in_thread(self._keys.save, keys)
        if not isinstance(self._now, Running):
            return
        not_before, not_after = validity_of(keys.certificate_pem)
        self._now = replace(self._now, not_after=not_after, lifetime_s=not_after - not_before)
        if self._now.manager is not None:
            self._now.manager.renewed(keys)

    def _data_keys_changed(self) -> None:
        if self.running_manager is not None:
            self.running_manager.use_data_keys()

    def _say(self, has: HasDataKeys) -> None:
        if isinstance(self._now, Running):
            self._now.agent.has_data_keys(has)

    def _peers_moved(self, addresses: dict[str, str]) -> None:
        if self.is_in_swarm:
            self.remember(replace(self.membership, peers=dict(addresses)))

    def _try_to_remember(self, membership: Membership) -> None:
        """What is of use after a restart only: a full disk keeps no node from its leader."""
        try:
            self.remember(membership)
        except Invalid as error:
            log.warning("membership.not_remembered", error=str(error))

    # AgentOwner

    def managers_changed(self, managers: list[str]) -> None:
        if self.is_in_swarm:
            self.remember(replace(self.membership, managers=managers))

    def lead_followed(self, leads: dict[str, int]) -> None:
        if self.is_in_swarm:
            self._try_to_remember(replace(self.membership, leads=leads))

    def described(self, description: NodeDescription) -> None:
        if self.is_in_swarm:
            self._try_to_remember(replace(self.membership, described=description))

    def role_told(self, role: Role) -> None:
        self.role.told(role)

    def data_keys_told(self, said: DataKeys) -> None:
        self.data_keys.told(said)

    def removed(self, message: str) -> None:
        """What it runs for the swarm ends."""
        if isinstance(self._now, Running):
            why = f"{message}: leave the swarm (docker swarm leave) and join again"
            self._now = replace(self._now, removed=why)
            self.leftovers.take_over(self.membership.node_id, self._now.agent.clear)


async def _stopped(part: AgentRunner | ManagerRunner | None) -> None:
    """Whatever keeps a part from ending well keeps the node from leaving no more."""
    try:
        if part is not None:
            await part.stop()
    except Exception:
        log.exception("part.not_stopped")
