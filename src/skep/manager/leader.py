"""The leader: view, deciders, dispatcher and control API, for as long as the leadership is held.

A leader begins by reading everything and ends by being thrown away: nothing of it outlives its fence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

import structlog
from msgspec.structs import replace

from skep.manager import quarantine
from skep.manager.asides import Asides, costs_lead, kept_up
from skep.manager.attachments import AttachmentKeeper
from skep.manager.board_keeper import BoardKeeper
from skep.manager.ca.keeper import RotationKeeper
from skep.manager.certificates import Certificates
from skep.manager.commits import Committer
from skep.manager.confirmed_commit import confirm_lead
from skep.manager.control.materials import MaterialControl, References
from skep.manager.control.networks import NetworkControl
from skep.manager.control.nodes import NodeControl
from skep.manager.control.services import ServiceControl
from skep.manager.control.swarm import SwarmControl
from skep.manager.data_key import DataKeyChange
from skep.manager.dispatcher.looks import Looks
from skep.manager.dispatcher.networks import MeshDispatcher
from skep.manager.dispatcher.overlays import OverlayDispatcher
from skep.manager.dispatcher.sessions import Sessions
from skep.manager.dispatcher.states import NodeStates
from skep.manager.dispatcher.tasks import TaskDispatcher
from skep.manager.dispatcher.usage import UsageQuestions
from skep.manager.evictor import Evictor
from skep.manager.explain import ServiceExplanation, TaskExplanation, explain_service, explain_task
from skep.manager.leader_context import LeaderContext
from skep.manager.loading import load
from skep.manager.logs.broker import LogBroker
from skep.manager.manager_roles import ManagerRoles
from skep.manager.membership import MembershipKeeper
from skep.manager.metrics import view_metrics
from skep.manager.net_inspect import NodeNet, inspect_net
from skep.manager.net_trace import NetTrace, trace
from skep.manager.node_usage import NodeUsages
from skep.manager.node_writer import NodeWriter
from skep.manager.reactions import Reactions
from skep.manager.reconcile import Reconciler
from skep.manager.task_events import TaskEvents
from skep.manager.term import Term
from skep.manager.upgrade import incarnation
from skep.manager.usage import SwarmUsage
from skep.model.node import Node
from skep.model.overlay_keys import key_of
from skep.model.service import Service
from skep.model.states import FAILED, REJECTED, is_terminal
from skep.model.task import PendingTask, Task, TaskStatus
from skep.rpc import messages
from skep.runtime.clock import SteadyClock
from skep.runtime.errors import SkepError, Unavailable
from skep.runtime.metrics import Registry
from skep.store import codec
from skep.store.bounded import BoundedStore
from skep.store.election import Leadership
from skep.store.interfaces import Store
from skep.store.overlaps import overlaps
from skep.store.view import slot_key

log = structlog.get_logger()

SAFE_MODE = (
    "skepd runs in safe mode: nothing is decided, no node is served, no node can join. Remove what is broken,"
    " then start skepd without --safe-mode"
)


class Leader:
    """Made by `start`; `run` returns when the leadership is lost."""

    def __init__(self, term: Term, leadership: Leadership, context: LeaderContext) -> None:
        fence, clock, hub = term.fence, term.clock, term.hub
        team, new_secret = context.identity, context.new_secret
        self.fence = fence
        view = self.view = term.view
        self._term = term
        self._leadership = leadership
        lead = messages.Lead(view.incarnation, fence.create_revision)
        self.evictor = Evictor(
            team.seen, self._others, team.doubt, self._give_the_lead_away, team.handed_over_at
        )
        self._states = NodeStates(term)
        self.sessions = Sessions(view, context.managers, self._states, lead, self._is_removed, self.evictor)
        self.tasks = TaskDispatcher(view, self.sessions, self._task_reported, clock)
        self.mesh = MeshDispatcher(view, self.sessions, self._states.mesh_failed)
        self.overlays = OverlayDispatcher(
            view, self.sessions, lambda: key_of(new_secret()), team.overlay_bounds
        )
        self.looks = Looks(self.sessions)
        self.sessions.on_end(self.looks.ended)
        self.node_usage = NodeUsages()
        self._usage_questions = UsageQuestions(view, self.sessions, self.node_usage, clock)
        self.sessions.on_end(self._usage_questions.ended)
        self.usage = SwarmUsage(view, self._usage_questions, self.node_usage, clock)
        self.certificates = Certificates(view, self.sessions, context.sign)
        self.logs = LogBroker(view, self.sessions, clock, new_secret)
        self._task_events = TaskEvents(hub, view)
        asides = Asides(view, clock)
        committer = Committer(term, self._task_events, asides)
        self.reconciler = Reconciler(view, committer, clock, term.new_id, self._task_events, asides)
        self.metrics = Registry(
            view_metrics(view),
            self.sessions.metrics,
            self.reconciler.metrics,
            committer.metrics,
            self.tasks.metrics,
        )
        self._writer = NodeWriter(term)
        self._team = team
        self.data_key = DataKeyChange(team.data_keys, term, self.sessions, team.node_id)
        self.membership = MembershipKeeper(
            term,
            team.members,
            team.node_id,
            team.probe,
            self.data_key.for_new,
            lambda: confirm_lead(term.store, fence),
        )
        self._roles = ManagerRoles(term, self.sessions, self.membership, self._writer, team.node_id)
        networks_lock = asyncio.Lock()
        self.attachments = AttachmentKeeper(
            term, networks_lock, self.sessions.send, self.sessions.understands
        )
        self.networks = NetworkControl(term, networks_lock, self.attachments.refresh)
        references = References(view)
        self.materials = MaterialControl(term, references)
        self.services = ServiceControl(term, references, networks_lock)
        self.nodes = NodeControl(term, self._writer)
        self.rotation = RotationKeeper(term, new_secret)
        self.swarm = SwarmControl(term, new_secret, context.keep, forgetful=self._roles.forgetful)
        self.board = BoardKeeper(term, team.node_id)
        self._listen()
        Reactions(self, term, asides).watch(term.signals, self._roles)

    def _listen(self) -> None:
        """Who takes what nodes say, in the order in which they hear it: there is no other such list."""
        on = self.sessions.on
        on(messages.Register, self.certificates.began)
        on(messages.Register, self.overlays.began)  # who is on its networks, before the tasks that are
        on(messages.Register, self.tasks.began)
        on(messages.Register, self._registered)
        on(messages.Register, self.mesh.began)
        on(messages.Register, lambda node_id, said: self._states.came(node_id, said.engine_is_silent))
        on(messages.Register, self.data_key.began)
        on(messages.HasDataKeys, self.data_key.has, messages.DATA_KEYS)
        on(messages.Heartbeat, self._states.heard)
        on(messages.Register, lambda node_id, said: self.logs.node_came(node_id))
        on(messages.Described, self._described)
        on(messages.Renew, self.certificates.renew)
        on(messages.HasTls, self.certificates.has)
        on(messages.HasTls, lambda node_id, said: self.rotation.look())
        on(messages.Manage, self._roles.asked)
        on(messages.Attach, self.attachments.said, messages.ATTACH)
        on(messages.HasAddresses, self.attachments.said, messages.ATTACH)
        on(messages.MeshApplied, self.mesh.applied, messages.MESH)
        on(messages.MeshSeen, self.looks.seen, messages.LOOK)
        on(messages.OverlayAsk, self.overlays.asked, messages.RESOLVE)
        on(messages.HostNetworks, self._host_has, messages.HOST_NETWORKS)
        on(messages.UsageSaid, self._usage_questions.said, messages.USAGE)

    @classmethod
    async def start(cls, store: Store, leadership: Leadership, context: LeaderContext) -> Leader:
        """Reads the store and opens the dispatcher. Errors: `Corrupt`, `Unavailable`."""
        team = context.identity
        clock = SteadyClock(context.clock)  # restart delays and time-outs must not be off by a jump
        store = bounded = BoundedStore(store)
        view = await load(store)
        led_since = clock.now()
        history = view.incarnation or await incarnation(store, leadership.fence, context.new_id())
        # After the load, which had the local member catch up: a manager must never be taken for none.
        view.begin(led_since, history, team.node_id, tuple(await team.members.members()))
        # All of them from the first word on: who knows this one only is lost with it.
        managers = list(dict.fromkeys([*context.managers, *view.manager_addresses(team.node_id)]))
        term = Term(store, leadership.fence, view, clock, context.new_id, context.hub)
        leader = cls(term, leadership, replace(context, managers=managers))
        leader.metrics.add(bounded.metrics)
        quarantine.set_roles(view)
        if not team.safe_mode:
            await leader._begin(team.grace_until)
        if view.cluster is not None:
            try:
                await context.keep(view.cluster)  # it may have changed while this manager did not look
            except SkepError as error:
                log.error("leader.keys_not_stored", error=str(error))
        if team.safe_mode:
            log.warning("leader.safe_mode", advice=SAFE_MODE)
        log.info("leader.started", services=len(view.services), tasks=len(view.tasks), nodes=len(view.nodes))
        return leader

    async def _begin(self, grace_until: float) -> None:
        """Begins to decide, and to wait for the nodes. Errors: `Denied`, `Unavailable`."""
        try:
            self.view.hosts.put_node(self.node_id, await self._team.own_networks())
            if not quarantine.is_unreadable_network(self.view):  # one of those may be the routing mesh's
                await self.networks.found_ingress()
        except Exception as error:
            if costs_lead(error) or isinstance(error, Unavailable):
                raise
            log.exception("leader.no_ingress")
        self.mesh.begin()
        self.overlays.begin()
        await self.overlays.look_at_all()
        self.sessions.start(grace_until)
        self.reconciler.enqueue_everything()

    async def run(self) -> None:
        """Leads until the leadership is lost, another manager is to lead (`hands_over`), a new data key is in
        force, or the caller cancels."""
        parts: dict[str, Callable[[], Awaitable[None]]] = {}
        if self._team.safe_mode:
            self._writer.refuse(Unavailable(SAFE_MODE))
        else:
            parts = {
                "reconciler": self.reconciler.run,
                "node-writer": self._writer.run,
                "attachments": self.attachments.run,
                "membership": self.membership.run,
                "rotation": self.rotation.run,
            }
            if self._team.data_keys is not None:
                parts["data-key"] = self.data_key.run
        works = [
            asyncio.ensure_future(self._leadership.wait_lost()),
            *(asyncio.ensure_future(kept_up(name, part)) for name, part in parts.items()),
        ]
        try:
            done, _ = await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
            for work in done:
                error = work.exception()
                if error is not None and not costs_lead(error):
                    raise error
        finally:
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)
            await self._roles.stop()
            await self.board.stop()
            self.logs.stop()
            self.tasks.stop()
            self.mesh.stop()
            self.overlays.stop()
            self._usage_questions.stop()
            self.sessions.stop()

    @property
    def node_id(self) -> str:
        return self._team.node_id

    @property
    def safe_mode(self) -> bool:
        """True where this leader decides nothing: users' orders are written, and that is all."""
        return self._team.safe_mode

    # What nodes say, and what is seen of them

    def _registered(self, node_id: str, said: messages.Register) -> None:
        host = self.sessions.remote_host(node_id)
        self._writer.describe(node_id, said.description, host, said.manager_addr, said.data_addr)

    def _described(self, node_id: str, said: messages.Described) -> None:
        self.overlays.described(node_id, said.description)
        self._writer.describe(node_id, said.description, self.sessions.remote_host(node_id))

    def _host_has(self, node_id: str, said: messages.HostNetworks) -> None:
        if node_id in self.view.nodes and self.view.hosts.put_node(node_id, said.networks):
            log.warning("node.host_networks", node_id=node_id, overlaps=overlaps(self.view, node_id))
            self.reconciler.enqueue_node(node_id)

    @property
    def is_sure(self) -> bool:
        """True while no other manager can lead: then what the view says is the swarm's latest."""
        return self._leadership.is_sure

    @property
    def why_nodes_are_held(self) -> str:
        """Returns why nodes that are not heard of are not given up; an empty text where they are."""
        return self.evictor.why

    def explain_task(self, task: Task | PendingTask) -> TaskExplanation:
        """Returns why the task is where it is, or nowhere."""
        return explain_task(self.view, task, self._term.clock.now(), self.reconciler.failures)

    def explain_service(self, service: Service) -> ServiceExplanation:
        """Returns what keeps the service from being as it is wanted."""
        return explain_service(self.view, service, self._term.clock.now(), self.reconciler.failures)

    async def inspect_net(self, node: Node) -> NodeNet:
        """Returns what a node should have of the swarm's networks, and what it finds in its kernel."""
        try:
            kernel, why = await self.looks.ask(node.id), ""
        except Unavailable as error:
            kernel, why = None, str(error)
        return inspect_net(self.view, node, kernel, why)

    def trace(self, service: Service, port: int, protocol: str, start: Node | Task) -> NetTrace:
        """Returns the way of a connection to the service."""
        return trace(self.view, service, port, protocol, start)

    def _others(self) -> Collection[str]:
        """Returns the other managers that answer."""
        return self.view.reachable - {self._team.node_id}

    def _give_the_lead_away(self) -> None:
        self.membership.hand_over.set()
        self.membership.wake()

    async def _is_removed(self, node_id: str) -> bool:
        """Asks the store, by its quorum: what this manager remembers may be old. Errors: `Unavailable`."""
        key = codec.node_key(node_id)
        pairs, _ = await self._term.store.load(key)
        return all(pair.key != key for pair in pairs)

    @property
    def hands_over(self) -> bool:
        """True where another manager is to lead: this one is demoted, or cut off from most nodes."""
        return self.membership.hand_over.is_set()

    def _task_reported(self, task: Task, status: TaskStatus, news: bool) -> None:
        if self._task_events.wanted:
            self._task_events.observed(task, status)
        self.board.reported(task.id)
        self.logs.task_changed(task)
        self.mesh.reported(task, status)
        self.overlays.reported(task, status)
        if news or self.reconciler.is_updating(task.service_id):
            self.reconciler.enqueue_slot(task.service_id, slot_key(task))
        if is_terminal(status.state):
            if status.state in (FAILED, REJECTED):
                self.reconciler.enqueue_failure(task)
            if self.view.pending:
                self.reconciler.enqueue_room()
