"""What runs on this host for a swarm: the agent, and the manager where it is one; what is wrong with them.

How they come to run is `beginning`'s; what the swarm wants this node to act as is `role_keeper`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog
from msgspec.structs import replace

from skep.agent.executor.interfaces import Executor
from skep.agent.lead_fence import LeadFence
from skep.agent.plane import Plane
from skep.daemon import error_texts
from skep.daemon.addresses import given_host
from skep.daemon.agent_runner import AgentRunner, TlsLine, look_at_host
from skep.daemon.data_keys import DataKeyKeeper
from skep.daemon.keys import KeyFiles
from skep.daemon.leftovers import Leftovers
from skep.daemon.node_state import Failed, Locked, NodeState, Outside, Running, Starting
from skep.daemon.role_keeper import RoleKeeper
from skep.daemon.socket_dir import SocketDir
from skep.daemon.state import Membership, StateDir
from skep.manager.events import EventHub
from skep.model.node import NodeDescription
from skep.rpc.certificates import NodeKeys, validity_of
from skep.rpc.messages import HasDataKeys
from skep.runtime.clock import Clock
from skep.runtime.errors import Invalid, Unavailable
from skep.runtime.supervise import in_thread

if TYPE_CHECKING:
    from skep.daemon.manager_runner import ManagerRunner

log = structlog.get_logger()


class NodeRunner:
    """`make_executor` gives a new executor for each membership, `make_plane` what programs the routing mesh,
    of a node and of a cluster, None where nothing does. Fulfils `role_keeper.Node`."""

    def __init__(
        self,
        state: StateDir,
        keys: KeyFiles,
        sockets: SocketDir,
        hub: EventHub,
        hostname: str,
        etcd_binary: str,
        clock: Clock,
        rng: random.Random,
        make_executor: Callable[[], Executor],
        safe_mode: bool = False,
        make_plane: Callable[..., Plane] | None = None,
    ) -> None:
        self._state = state
        self._keys = keys
        self._sockets = sockets
        self._hub = hub
        self._hostname = hostname
        self._etcd_binary = etcd_binary
        self._clock = clock
        self._rng = rng
        self._make_executor = make_executor
        self._safe_mode = safe_mode
        self._make_plane = make_plane
        self._now: NodeState = Outside()
        self.role = RoleKeeper(self)
        self.data_keys = DataKeyKeeper(keys, self._data_keys_changed, self._say)
        self.leftovers = Leftovers(state, make_executor, lambda: self.is_in_swarm, make_plane)

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
        # Here, not above: a worker does without numpy and grpc (25 MB). Importing takes a third of a second.
        await asyncio.to_thread(importlib.import_module, "skep.daemon.manager_runner")
        from skep.daemon.manager_runner import ManagerRunner

        return ManagerRunner(
            self._state,
            self._sockets,
            keys,
            membership,
            self._etcd_binary,
            self._clock,
            self._rng,
            self._hub,
            self._peers_moved,
            self._keys,
            self._safe_mode,
            look_at_host if self._make_plane is not None else None,
        )

    def run(self, keys: NodeKeys, manager: ManagerRunner | None = None, misplaced: str = "") -> None:
        """Starts the agent of a node whose certificate is in `keys`, and has it renewed in time: beside the
        manager that has been started, where it is one."""
        membership, line = self.membership, TlsLine(keys)
        plane = None
        if self._make_plane is not None:
            plane = self._make_plane(membership.node_id, membership.cluster_id)
        agent = AgentRunner(
            membership.node_id,
            self._hostname,
            line.connect,
            membership.known_managers,
            self._make_executor(),
            self._clock,
            self._rng,
            self._managers_changed,
            self._removed,
            self.role.told,
            membership.advertise if membership.role == "manager" else "",
            fence=LeadFence(membership.leads, self._lead_followed),
            described=membership.described,
            on_described=self._described,
            data_addr=given_host(membership.data_path) or given_host(membership.advertise),
            plane=plane,
            on_data_keys=self.data_keys.told,
        )
        not_after = validity_of(keys.certificate_pem)[1]
        self._now = Running(membership, agent, line, not_after, manager, misplaced)
        self.data_keys.begin()
        agent.start()
        agent.renew(line, self._renewed)

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
        self._now = replace(self._now, not_after=validity_of(keys.certificate_pem)[1])
        if self._now.manager is not None:
            self._now.manager.renewed(keys)

    def _data_keys_changed(self) -> None:
        if self.running_manager is not None:
            self.running_manager.use_data_keys()

    def _say(self, has: HasDataKeys) -> None:
        if isinstance(self._now, Running):
            self._now.agent.has_data_keys(has)

    def _managers_changed(self, managers: list[str]) -> None:
        if self.is_in_swarm:
            self.remember(replace(self.membership, managers=managers))

    def _lead_followed(self, leads: dict[str, int]) -> None:
        """A full disk keeps no node from its leader: it is remembered until the daemon's end, then."""
        if not self.is_in_swarm:
            return
        try:
            self.remember(replace(self.membership, leads=leads))
        except Invalid as error:
            log.warning("lead.not_remembered", error=str(error))

    def _described(self, described: NodeDescription) -> None:
        """It is of use after a restart only: a full disk keeps no node from its leader."""
        if not self.is_in_swarm:
            return
        try:
            self.remember(replace(self.membership, described=described))
        except Invalid as error:
            log.warning("description.not_remembered", error=str(error))

    def _peers_moved(self, addresses: dict[str, str]) -> None:
        if self.is_in_swarm:
            self.remember(replace(self.membership, peers=dict(addresses)))

    def _removed(self, message: str) -> None:
        """The swarm no longer knows this node: what it runs for the swarm ends."""
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
