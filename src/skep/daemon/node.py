"""This host's part in a swarm, as the API sees it: what it is, what it knows of the swarm, what users order.

Fulfils `api.interfaces.SwarmNode`. What runs here is `node_runner`'s, how it comes to run `bootstrap`'s; what
users order, `swarm_commands` carries out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from skep.api.interfaces import (
    EventFeed,
    InitRequest,
    JoinRequest,
    LocalNode,
    ReconnectRequest,
    RestoreRequest,
)
from skep.daemon import error_texts
from skep.daemon.addresses import parse_address
from skep.daemon.bootstrap import Bootstrap
from skep.daemon.keys import KeyFiles
from skep.daemon.node_runner import NodeRunner
from skep.daemon.node_state import Failed, Locked, Outside, Running, Starting, why_no_manager
from skep.daemon.platform import HostPlatform
from skep.daemon.state import StateDir
from skep.daemon.swarm_commands import SwarmCommands
from skep.manager.ca.authority import join_token
from skep.manager.events import EventHub
from skep.model.cluster import Cluster
from skep.model.event import Event
from skep.model.kernel_net import Carried
from skep.runtime.errors import NoLeader, NotManager
from skep.runtime.ids import id_source
from skep.runtime.metrics import Gauge, Metric, Registry

if TYPE_CHECKING:
    from skep.agent.attachments import Attachments
    from skep.daemon.manager_runner import ManagerRunner
    from skep.manager.leader import Leader


class SkepNode:
    """On that platform, with what it remembers in `state`."""

    def __init__(self, platform: HostPlatform, state: StateDir) -> None:
        self._platform = platform
        self._state = state
        self._hub = EventHub(platform.clock, id_source(platform.rng)())
        keys = KeyFiles(state)
        self._runner = NodeRunner(platform, state, keys, self._hub)
        self._bootstrap = Bootstrap(self._runner, state, keys)
        self._commands = SwarmCommands(self._runner, self._bootstrap, state.path)

    # Life of the daemon

    async def start(self) -> None:
        """Takes up the swarm this node was in; a manager whose files are sealed is locked, and runs nothing.

        Errors: `Corrupt`, `Invalid`, `Unavailable`.
        """
        await self._bootstrap.start()

    async def wait_settled(self, timeout_s: float) -> None:
        """Waits until a manager leads again: who asks it right after its start should get an answer."""
        await self._runner.wait_settled(timeout_s)

    async def stop(self) -> None:
        """Ends everything of ours; containers run on."""
        await self._runner.stop()
        await self._runner.leftovers.close()
        self._state.close()

    # What it is, and what it knows

    def local(self) -> LocalNode:
        state = self._runner.state
        if isinstance(state, Outside):
            return LocalNode("inactive")
        if isinstance(state, Locked):
            return LocalNode("locked", error=error_texts.LOCKED)
        membership, manager = state.membership, self._runner.running_manager
        name, error = self._health(state)
        return LocalNode(
            name,
            membership.node_id,
            parse_address(membership.advertise)[0] if membership.advertise else "",
            membership.role == "manager",
            error,
            _managers(state),
            manager.etcd.pid if manager is not None else 0,
            self._platform.safe_mode,
            membership.cluster_id,
        )

    def _health(self, state: Starting | Running | Failed) -> tuple[str, str]:
        """Returns Docker's word for the state, and what is wrong, for people."""
        if isinstance(state, Starting):
            return "pending", ""
        if isinstance(state, Failed):
            return "error", state.why
        error = state.error or (error_texts.EXPIRED if state.not_after < self._platform.clock.now() else "")
        if error:
            return "error", error
        name, agent, manager = "active", state.agent, state.manager
        if state.membership.role != "manager" and not agent.session.has_stood:
            name, error = "pending", agent.trouble  # as Docker: active from the first session on
        if not error and manager is not None:
            error = manager.store_trouble or ("" if manager.is_led else self._no_leader())
        return name, error or self._runner.role.trouble

    def manager(self) -> Leader:
        why_not = why_no_manager(self._runner.state)
        if why_not:
            raise NotManager(why_not)
        manager = self._runner.running_manager
        if manager is None or manager.leader is None or not manager.leader.is_sure:
            raise NoLeader(self._no_leader())
        return manager.leader

    @property
    def metrics(self) -> Registry:
        state = self._runner.state
        found = Registry()
        if isinstance(state, Running):
            found.add(_certificate_metrics(state))
        manager = self._runner.running_manager
        if manager is not None:
            found.add(manager.metrics)
        return found

    async def carried(self) -> list[tuple[str, Carried]]:
        state = self._runner.state
        return await state.agent.carried() if isinstance(state, Running) else []

    def attachments(self) -> Attachments | None:
        state = self._runner.state
        attachments = state.agent.attachments if isinstance(state, Running) else None
        return attachments if attachments is not None and attachments.has_engine else None

    def leader_socket(self) -> str | None:
        manager = self._runner.running_manager
        return manager.leader_socket() if manager is not None else None

    async def leader_says(self) -> dict[str, Any]:
        return await self._running().leader_line.swarm()

    async def ask_leader(self, method: str, path: str, body: bytes | None = None) -> bytes:
        return await self._running().leader_line.ask(method, path, body)

    async def check_health(self) -> None:
        await self._running().check_health()

    def seen_nodes(self) -> list[str]:
        manager = self._runner.running_manager
        return manager.seen() if manager is not None else []

    async def enrol_for(self, body: bytes) -> bytes:
        return await self._running().enrolling.enrol_for(body)

    def join_tokens(self, cluster: Cluster) -> tuple[str, str]:
        return (
            join_token(cluster.ca_cert_pem, cluster.worker_token_secret),
            join_token(cluster.ca_cert_pem, cluster.manager_token_secret),
        )

    def event_history(self, since_ns: int, until_ns: int | None, tasks: bool) -> list[Event]:
        return self._hub.history(since_ns, until_ns, tasks)

    def event_feed(self, tasks: bool) -> EventFeed:
        return self._hub.subscribe(tasks)

    async def backup(self) -> Iterator[bytes]:
        """Returns a backup of the swarm; see `ManagerRunner.backup`. Errors: also `NotManager`."""
        self.manager()
        return await self._running().backup()

    def _running(self) -> ManagerRunner:
        """Errors: `NotManager`."""
        manager = self._runner.running_manager
        if manager is None:
            raise NotManager(error_texts.WORKER)
        return manager

    def _no_leader(self) -> str:
        manager = self._runner.running_manager
        if manager is None:
            return error_texts.NO_LEADER
        trouble = manager.etcd.trouble()
        if trouble:
            return f"{error_texts.NO_LEADER} This manager's etcd ended: {trouble}"
        if manager.is_led and manager.trouble:
            return f"{error_texts.NO_LEADER} This manager cannot lead: {manager.trouble}"
        if manager.is_led:
            return error_texts.NO_LEADER
        return error_texts.NO_LEADER + error_texts.no_quorum(len(manager.members))

    # What users order

    async def init(self, request: InitRequest) -> str:
        return await self._commands.init(request)

    async def restore(self, request: RestoreRequest, content: AsyncIterator[bytes]) -> tuple[str, list[str]]:
        return await self._commands.restore(request, content)

    async def join(self, request: JoinRequest) -> None:
        await self._commands.join(request)

    async def reconnect(self, request: ReconnectRequest) -> list[str]:
        return await self._commands.reconnect(request)

    async def leave(self, force: bool) -> None:
        await self._commands.leave(force)

    async def unlock(self, key: str) -> None:
        await self._commands.unlock(key)


def _certificate_metrics(state: Running) -> list[Metric]:
    return [
        Gauge(
            "skep_certificate_expiry_seconds",
            "When this node's certificate ends, in seconds since the epoch.",
            lambda: state.not_after,
        ),
        Gauge(
            "skep_certificate_lifetime_seconds",
            "For how long this node's certificate is valid in all.",
            lambda: state.lifetime_s,
        ),
    ]


def _managers(state: Starting | Running | Failed) -> tuple[tuple[str, str], ...]:
    """Returns where managers are, as far as this node knows, each with its id where that is known."""
    if isinstance(state, Running):
        if state.manager is not None:
            return tuple(state.manager.addresses_by_id().items())
        return tuple(("", address) for address in state.agent.session.managers)
    return tuple(("", address) for address in state.membership.managers)
