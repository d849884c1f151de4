"""This host's part in a swarm: begun by init or join, found again at start, ended by leave.

Fulfils `api.port.SwarmNode`. One change of membership at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import random
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import structlog

from skep.agent.executor.port import Executor
from skep.api.port import InitRequest, JoinRequest, LocalNode
from skep.daemon.addresses import parse_address, resolve_advertise, resolve_listen
from skep.daemon.agent_part import AgentPart, TlsLine
from skep.daemon.founding import found_swarm
from skep.daemon.state import Membership, StateDir
from skep.manager.ca.authority import join_token
from skep.manager.control.swarm import validate_swarm
from skep.manager.events import EventHub
from skep.model.cluster import Cluster
from skep.model.event import Event
from skep.model.node import NodeDescription
from skep.rpc.certificates import (
    NodeKeys,
    identity_of,
    load_keys,
    parse_join_token,
    save_keys,
    validity_of,
)
from skep.rpc.enrol import Enrolment, enrol
from skep.runtime.clock import Clock
from skep.runtime.errors import Corrupt, Invalid, NotManager, SkepError, Unavailable, Unsupported
from skep.runtime.ids import id_source

if TYPE_CHECKING:
    from skep.daemon.manager_part import ManagerPart
    from skep.manager.leader import Leader

log = structlog.get_logger()

JOIN_S = 20.0  # Docker's own: after that joining goes on in the background

NOT_IN_SWARM = (
    "This node is not a swarm manager. Use "
    '"docker swarm init" or "docker swarm join" to connect this node to swarm and try again.'
)
WORKER = (
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. "
    "Please run this command on a manager node or promote the current node to a manager."
)
NO_LEADER = (
    "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers"
    " are online. Make sure more than half of the managers are online."
)
IN_SWARM = (
    'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.'
)
LAST_MANAGER = (
    "You are attempting to leave the swarm on a node that is participating as a manager. Removing the last"
    " manager erases all current state of the swarm. Use `--force` to ignore this message. "
)
EXPIRED = "Swarm certificates have expired. To replace them, leave the swarm and join again."
STILL_JOINING = (
    "Timeout was reached before node joined. The attempt to join the swarm will continue in the background."
    ' Use the "docker info" command to see the current swarm status of your node.'
)


class SkepNode:
    """`make_executor` gives a new executor for each membership."""

    def __init__(
        self,
        state: StateDir,
        hostname: str,
        etcd_binary: str,
        clock: Clock,
        rng: random.Random,
        make_executor: Callable[[], Executor],
    ) -> None:
        self._state = state
        self._hostname = hostname
        self._etcd_binary = etcd_binary
        self._clock = clock
        self._rng = rng
        self._make_executor = make_executor
        self._hub = EventHub(clock)
        self._membership: Membership | None = None
        self._manager: ManagerPart | None = None
        self._agent: AgentPart | None = None
        self._error = ""
        self._not_after = 0.0  # of the certificate in use
        self._change = asyncio.Lock()

    # Life of the daemon

    async def start(self) -> None:
        """Takes up the swarm this node was in. Errors: `Corrupt`, `Invalid`, `Unavailable`."""
        membership = self._state.load()
        if membership is None:
            return
        keys = load_keys(self._state.certificates)
        identity = identity_of(keys.certificate_pem)
        if identity.node_id != membership.node_id or identity.cluster_id != membership.cluster_id:
            raise Corrupt(
                f"the certificate in {self._state.path} is of node {identity.node_id}, its swarm.json is of"
                f" node {membership.node_id}: the directory was mixed up with another node's"
            )
        self._membership = membership
        is_expired = identity.not_after < self._clock.now()
        if is_expired and membership.role != "manager":
            self._error = EXPIRED
            log.error("certificate.expired", node_id=membership.node_id)
            return
        if membership.role == "manager":
            self._manager = await self._manager_part(keys, membership)
            await self._manager.start()
            if is_expired:
                # The CA is its own: nobody else could renew it, and nothing is lost.
                await self._manager.wait_leading()
                keys = self._manager.renew_own()
                save_keys(self._state.certificates, keys)
                log.warning("certificate.was_expired", node_id=membership.node_id)
        self._start_agent(membership, keys)

    async def wait_settled(self, timeout_s: float) -> None:
        """Waits until a manager leads again: who asks it right after its start should get an answer."""
        if self._manager is not None:
            with contextlib.suppress(Unavailable):
                await self._manager.wait_leading(timeout_s)

    async def stop(self) -> None:
        """Ends everything of ours; containers run on."""
        if self._agent is not None:
            await self._agent.stop()
        if self._manager is not None:
            await self._manager.stop()
        self._state.close()

    # api.port.SwarmNode

    def local(self) -> LocalNode:
        membership = self._membership
        if membership is None:
            return LocalNode("inactive")
        is_manager = membership.role == "manager"
        managers = self._agent.session.managers if self._agent is not None else membership.managers
        named = tuple((membership.node_id if is_manager else "", address) for address in managers)
        addr = parse_address(membership.advertise)[0] if membership.advertise else ""
        error = self._error
        if not error and self._not_after < self._clock.now():
            error = EXPIRED
        state = "error" if error else "active"
        etcd_pid = self._manager.etcd.pid if self._manager is not None else 0
        return LocalNode(state, membership.node_id, addr, is_manager, error, named, etcd_pid)

    def manager(self) -> Leader:
        if self._membership is None:
            raise NotManager(NOT_IN_SWARM)
        if self._error:
            raise NotManager(self._error)
        if self._manager is None:
            raise NotManager(WORKER)
        if self._manager.leader is None:
            trouble = self._manager.etcd.trouble()
            raise NotManager(f"{NO_LEADER} This manager's etcd ended: {trouble}" if trouble else NO_LEADER)
        return self._manager.leader

    def join_tokens(self, cluster: Cluster) -> tuple[str, str]:
        return (
            join_token(cluster.ca_cert_pem, cluster.worker_token_secret),
            join_token(cluster.ca_cert_pem, cluster.manager_token_secret),
        )

    async def events(self, since: float | None) -> AsyncIterator[Event]:
        async for event in self._hub.listen(since):
            yield event

    async def init(self, request: InitRequest) -> str:
        """Makes a swarm of this one node. Errors: `Invalid`, `Unsupported`, `Unavailable`."""
        async with self._change:
            self._require_free()
            if request.auto_lock_managers:
                raise Unsupported("autolock is not supported by this version of skep yet")
            if request.force_new_cluster:
                raise Unsupported("--force-new-cluster is not supported by this version of skep yet")
            validate_swarm(request.spec)
            listen = resolve_listen(request.listen_addr)
            advertise = resolve_advertise(request.advertise_addr, listen)
            now, new_id = self._clock.now(), id_source(self._rng)
            membership, keys, first = found_swarm(request, self._hostname, listen, advertise, now, new_id)
            self._state.clear()
            manager = await self._manager_part(keys, membership)
            try:
                save_keys(self._state.certificates, keys)
                await manager.start(first)
                await manager.wait_leading()
                self._state.save(membership)
            except SkepError:
                await manager.stop()
                self._state.clear()
                raise
            self._manager = manager
            self._membership = membership
            self._start_agent(membership, keys)
            await self._wait_ready()
            return membership.node_id

    async def join(self, request: JoinRequest) -> None:
        """Joins by the first address that answers. Errors: `Invalid`, `Denied`, `Unavailable`."""
        async with self._change:
            self._require_free()
            if not request.remote_addrs:
                raise Invalid("at least 1 RemoteAddr is required to join")
            parse_join_token(request.join_token)
            enrolment = await self._enrol(request)
            identity = identity_of(enrolment.keys.certificate_pem)
            membership = Membership(
                node_id=enrolment.node_id,
                cluster_id=enrolment.cluster_id,
                role=identity.role,
                managers=enrolment.managers or list(request.remote_addrs),
                advertise=request.advertise_addr,
            )
            self._state.clear()
            save_keys(self._state.certificates, enrolment.keys)
            self._state.save(membership)
            self._membership = membership
            self._start_agent(membership, enrolment.keys)
            await self._wait_ready()

    async def leave(self, force: bool) -> None:
        """Errors: `Unavailable` in no swarm, or for the last manager without force."""
        async with self._change:
            if self._membership is None:
                raise Unavailable("This node is not part of a swarm")
            if self._membership.role == "manager" and not force:
                raise Unavailable(LAST_MANAGER)
            if self._agent is not None:
                await self._agent.remove_containers()
                await self._agent.stop()
            if self._manager is not None:
                await self._manager.stop()
            self._agent = self._manager = self._membership = None
            self._error = ""
            self._state.clear()

    # Inside

    def _require_free(self) -> None:
        if self._membership is not None:
            raise Unavailable(IN_SWARM)

    async def _manager_part(self, keys: NodeKeys, membership: Membership) -> ManagerPart:
        # Here, not above: a worker does without numpy and grpc (25 MB). Importing takes a third of a second.
        await asyncio.to_thread(importlib.import_module, "skep.daemon.manager_part")
        from skep.daemon.manager_part import ManagerPart

        return ManagerPart(
            self._state,
            keys,
            membership.node_id,
            parse_address(membership.listen),
            membership.advertise,
            self._etcd_binary,
            self._clock,
            self._rng,
            self._hub,
        )

    def _start_agent(self, membership: Membership, keys: NodeKeys) -> None:
        line = TlsLine(keys)
        self._not_after = validity_of(keys.certificate_pem)[1]
        self._agent = AgentPart(
            membership.node_id,
            self._hostname,
            line.connect,
            list(membership.managers),
            self._make_executor(),
            self._clock,
            self._rng,
            self._managers_changed,
            self._removed,
        )
        self._agent.start()
        self._agent.renew(line, self._renewed)

    def _renewed(self, keys: NodeKeys) -> None:
        """Errors: `Invalid` where the new certificate cannot be written."""
        save_keys(self._state.certificates, keys)
        self._not_after = validity_of(keys.certificate_pem)[1]
        if self._manager is not None:
            self._manager.renewed(keys)

    async def _wait_ready(self) -> None:
        assert self._agent is not None
        try:
            await asyncio.wait_for(self._agent.session.ready.wait(), JOIN_S)
        except TimeoutError as error:
            raise Unavailable(STILL_JOINING) from error

    async def _enrol(self, request: JoinRequest) -> Enrolment:
        executor = self._make_executor()
        try:
            await executor.start("", lambda seen: None)
            description = await executor.describe()
        except Unavailable:
            description = NodeDescription(hostname=self._hostname)
        finally:
            await executor.close()
        failures: list[SkepError] = []
        for address in request.remote_addrs:
            host, port = parse_address(address)
            try:
                return await enrol(
                    host,
                    port,
                    request.join_token,
                    description,
                    request.availability,
                    self._clock.now(),
                )
            except Unavailable as error:
                failures.append(error)
        raise Unavailable("; ".join(str(error) for error in failures))

    def _managers_changed(self, managers: list[str]) -> None:
        if self._membership is not None:
            changed = Membership(
                node_id=self._membership.node_id,
                cluster_id=self._membership.cluster_id,
                role=self._membership.role,
                managers=managers,
                listen=self._membership.listen,
                advertise=self._membership.advertise,
            )
            self._membership = changed
            self._state.save(changed)

    def _removed(self, message: str) -> None:
        """The swarm no longer knows this node: what it runs for the swarm ends."""
        self._error = f"{message}: leave the swarm (docker swarm leave) and join again"
        if self._agent is not None:
            self._leaving = asyncio.ensure_future(self._agent.remove_containers())
