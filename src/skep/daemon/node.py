"""This host's part in a swarm: begun by init or join, found again at start, ended by leave.

Fulfils `api.port.SwarmNode`. One order of a user's at a time; what the swarm wants this node to act as is
`role_keeper`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import random
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import structlog
from msgspec.structs import replace

from skep.agent.executor.port import Executor
from skep.api.port import EventFeed, InitRequest, JoinRequest, LocalNode, ReconnectRequest, RestoreRequest
from skep.daemon import words
from skep.daemon.addresses import join_address, parse_address, resolve_advertise, resolve_listen
from skep.daemon.agent_part import AgentPart, TlsLine
from skep.daemon.founding import found_swarm
from skep.daemon.joining import enrol_with_any
from skep.daemon.keys import KeyFiles
from skep.daemon.moving import Mover
from skep.daemon.restoring import opened, received, restored_swarm
from skep.daemon.role_keeper import RoleKeeper
from skep.daemon.socket_dir import SocketDir
from skep.daemon.state import Membership, StateDir
from skep.manager.ca.authority import join_token
from skep.manager.control.autolock import unlock_key
from skep.manager.control.swarm import validate_init
from skep.manager.events import EventHub
from skep.model.cluster import Cluster
from skep.model.event import Event
from skep.rpc.certificates import (
    NodeKeys,
    identity_of,
    parse_join_token,
    validity_of,
)
from skep.runtime.clock import Clock
from skep.runtime.errors import (
    Conflict,
    Corrupt,
    Invalid,
    NoAddress,
    NoLeader,
    NotManager,
    SkepError,
    Unavailable,
)
from skep.runtime.ids import id_source
from skep.store.port import Put
from skep.store.seal import KEY_BYTES

if TYPE_CHECKING:
    from skep.daemon.manager_part import ManagerPart
    from skep.manager.leader import Leader

log = structlog.get_logger()

UNLOCK_S = 10.0  # an unlocked manager leads by then, or there is no majority
JOIN_S = 20.0  # Docker's own: after that joining goes on in the background
RESTORE_GRACE_S = 300.0  # for nodes to find a restored swarm: somebody has to tell them where it is
DEMOTE_S = 20.0  # a manager that leaves by force waits as long for the others to let it go in good order


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
        self.sockets = SocketDir(state.path / "run")
        self._keys = KeyFiles(state)
        self._is_locked = False
        self._hub = EventHub(clock, id_source(rng)())
        self._membership: Membership | None = None
        self._manager: ManagerPart | None = None
        self._agent: AgentPart | None = None
        self._line: TlsLine | None = None
        self._role = RoleKeeper(self)
        self._mover = Mover(self)
        self._is_misplaced = False  # a manager that cannot listen at its address
        self._error = ""
        self._not_after = 0.0  # of the certificate in use
        self._change = asyncio.Lock()

    # Life of the daemon

    async def start(self) -> None:
        """Takes up the swarm this node was in; a manager whose files are sealed is locked, and runs nothing.

        Errors: `Corrupt`, `Invalid`, `Unavailable`.
        """
        self._state.tighten()
        membership = self._state.load()
        if membership is None:
            return
        if membership.role == "manager" and not self._keys.open():
            self._membership = membership
            self._is_locked = True
            log.warning("swarm.locked", advice=words.LOCKED)
            return
        await self._resume(membership)

    async def unlock(self, key: str) -> None:
        """Opens a locked manager's files and goes on as `start` does; a failure leaves it locked.

        Errors: `NotManager`, `Conflict` where it is not locked, `Invalid`, `WrongUnlockKey`, as `start`.
        """
        async with self._change:
            if not self._is_locked:
                if self._membership is None or self._membership.role != "manager":
                    self.manager()
                raise Conflict("swarm is not locked")
            self._keys.open(key)
            try:
                await self._resume(self.membership)
            except BaseException:
                manager, self._manager = self._manager, None
                if manager is not None:
                    await manager.stop()
                self._keys.close()
                raise
            self._is_locked = False
            log.info("swarm.unlocked")
            await self.wait_settled(UNLOCK_S)

    async def _resume(self, membership: Membership) -> None:
        keys = self._keys.load()
        identity = identity_of(keys.certificate_pem)
        if identity.node_id != membership.node_id or identity.cluster_id != membership.cluster_id:
            raise Corrupt(
                f"the certificate in {self._state.path} is of node {identity.node_id}, its swarm.json is of"
                f" node {membership.node_id}: the directory was mixed up with another node's"
            )
        self._membership = membership
        is_expired = identity.not_after < self._clock.now()
        if is_expired and (membership.role != "manager" or self._other_managers()):
            self._error = words.EXPIRED
            log.error("certificate.expired", node_id=membership.node_id)
            return
        if membership.role == "manager":
            await self._start_again(keys, membership)
            if is_expired and self._manager is not None:
                keys = await self._renew_own()
        self._start_agent(membership, keys)

    async def _start_again(self, keys: NodeKeys, membership: Membership) -> None:
        """Starts the manager of before. One of several that does not come up is told what to do by the
        others: the swarm may have let go of it meanwhile."""
        manager = await self._manager_part(keys, membership)
        if not manager.etcd.has_data:
            if not self._other_managers():
                raise Corrupt(
                    f"this swarm's store is gone from {self._state.path}: restore a backup (skep backup"
                    " restore), or remove the directory to begin anew"
                )
            return
        try:
            await manager.start()
        except NoAddress as error:
            await manager.stop()
            self._is_misplaced, self._error = True, words.moved(str(error))
            log.error("manager.moved", error=str(error))
            return
        except Unavailable as error:
            await manager.stop()
            if not self._other_managers():
                raise
            log.error("manager.not_started", error=str(error))
            return
        except BaseException:
            await manager.stop()
            raise
        self._manager = manager

    async def _renew_own(self) -> NodeKeys:
        """The CA is this lone manager's own: nobody else could renew its certificate, and nothing is lost."""
        assert self._manager is not None
        await self._manager.wait_leading()
        keys = self._manager.renew_own()
        self._keys.save(keys)
        log.warning("certificate.was_expired", node_id=self.membership.node_id)
        return keys

    async def wait_settled(self, timeout_s: float) -> None:
        """Waits until a manager leads again: who asks it right after its start should get an answer."""
        if self._manager is not None:
            with contextlib.suppress(Unavailable):
                await self._manager.wait_led(timeout_s)

    async def stop(self) -> None:
        """Ends everything of ours; containers run on."""
        await self._role.stop()
        if self._agent is not None:
            await self._agent.stop()
        if self._manager is not None:
            await self._manager.stop()
        self.sockets.close()
        self._state.close()

    # api.port.SwarmNode

    def local(self) -> LocalNode:
        membership = self._membership
        if membership is None:
            return LocalNode("inactive")
        if self._is_locked:
            return LocalNode("locked", error=words.LOCKED)
        is_manager = membership.role == "manager"
        managers: tuple[tuple[str, str], ...]
        if self._manager is not None:
            managers = tuple(self._manager.addresses_by_id().items())
        else:
            known = self._agent.session.managers if self._agent is not None else membership.managers
            managers = tuple(("", address) for address in known)
        addr = parse_address(membership.advertise)[0] if membership.advertise else ""
        error = self._error
        if not error and self._not_after < self._clock.now():
            error = words.EXPIRED
        state = "error" if error else "active"
        etcd_pid = self._manager.etcd.pid if self._manager is not None else 0
        if not error and self._manager is not None and not self._manager.is_led:
            error = self._no_leader()
        return LocalNode(state, membership.node_id, addr, is_manager, error, managers, etcd_pid)

    def manager(self) -> Leader:
        if self._membership is None:
            raise NotManager(words.NOT_IN_SWARM)
        if self._is_locked:
            raise NotManager(words.LOCKED)
        if self._error:
            raise NotManager(self._error)
        if self._membership.role != "manager":
            raise NotManager(words.WORKER)
        if self._manager is None or self._manager.leader is None or not self._manager.leader.is_sure:
            raise NoLeader(self._no_leader())
        return self._manager.leader

    def leader_socket(self) -> str | None:
        return self._manager.leader_socket() if self._manager is not None else None

    async def leader_says(self) -> dict[str, Any]:
        if self._manager is None:
            raise NotManager(words.WORKER)
        return await self._manager.leader_line.swarm()

    async def ask_leader(self, method: str, path: str, body: bytes | None = None) -> bytes:
        if self._manager is None:
            raise NotManager(words.WORKER)
        return await self._manager.leader_line.ask(method, path, body)

    async def check_health(self) -> None:
        if self._manager is None:
            raise NotManager(words.WORKER)
        await self._manager.check_health()

    async def enrol_for(self, body: bytes) -> bytes:
        if self._manager is None:
            raise NotManager(words.WORKER)
        return await self._manager.enrol_for(body)

    def join_tokens(self, cluster: Cluster) -> tuple[str, str]:
        return (
            join_token(cluster.ca_cert_pem, cluster.worker_token_secret),
            join_token(cluster.ca_cert_pem, cluster.manager_token_secret),
        )

    def event_history(self, since_ns: int, until_ns: int | None, tasks: bool) -> list[Event]:
        return self._hub.history(since_ns, until_ns, tasks)

    def event_feed(self, tasks: bool) -> EventFeed:
        return self._hub.subscribe(tasks)

    async def init(self, request: InitRequest) -> str:
        """Makes a swarm of this one node. Errors: `Invalid`, `Unsupported`, `Unavailable`."""
        async with self._change:
            if request.force_new_cluster and self._is_locked:
                raise NotManager(words.LOCKED)
            if request.force_new_cluster and self._membership is not None:
                return await self._force_new_cluster(request)
            self._require_free()
            validate_init(request.spec, request.data_path_port)
            listen = resolve_listen(request.listen_addr)
            advertise = resolve_advertise(request.advertise_addr, listen)
            now, new_id = self._clock.now(), id_source(self._rng)
            autolock = request.auto_lock_managers or request.spec.encryption_config.auto_lock_managers
            key = unlock_key(os.urandom(KEY_BYTES)) if autolock else ""
            membership, keys, first = found_swarm(
                request, self._hostname, listen, advertise, now, new_id, key
            )
            self._forget()
            self._keys.take(os.urandom(KEY_BYTES), key)
            await self._found(membership, keys, first)
            await self._wait_ready()
            return membership.node_id

    async def restore(self, request: RestoreRequest, content: AsyncIterator[bytes]) -> str:
        """Makes this node the only manager of a swarm as a backup has it. Nothing is touched before the
        backup was verified whole, and opened. What was sealed is sealed with a new data key.

        Errors: `Unavailable`, `Invalid`, `Corrupt`, `Unsupported`, `WrongUnlockKey`.
        """
        async with self._change:
            self._require_free()
            listen = resolve_listen(request.listen_addr)
            advertise = resolve_advertise(request.advertise_addr, listen)
            contents = await received(self._state.path, content)
            now, new_id = self._clock.now(), id_source(self._rng)
            cluster, puts = opened(contents, request.unlock_key)
            membership, keys, first = restored_swarm(
                cluster, puts, self._hostname, listen, advertise, now, new_id
            )
            self._forget()
            self._keys.take(os.urandom(KEY_BYTES), cluster.unlock_key)
            await self._found(membership, keys, first, RESTORE_GRACE_S)
            await self._wait_ready()
            log.warning("manager.restored", node_id=membership.node_id, taken_at=contents.header.created_at)
            return membership.node_id

    async def backup(self) -> Iterator[bytes]:
        """Returns a backup of the swarm; see `ManagerPart.backup`. Errors: also `NotManager`."""
        self.manager()
        assert self._manager is not None
        return await self._manager.backup()

    async def _found(
        self, membership: Membership, keys: NodeKeys, first: tuple[Put, ...], grace_s: float = 0.0
    ) -> None:
        manager = await self._manager_part(keys, membership)
        manager.grace_until = asyncio.get_running_loop().time() + grace_s
        try:
            self._keys.save(keys)
            await manager.start(first)
            await manager.wait_leading()
            self._state.save(membership)
        except SkepError:
            await manager.stop()
            self._forget()
            raise
        self._manager = manager
        self._membership = membership
        self._start_agent(membership, keys)

    async def _force_new_cluster(self, request: InitRequest) -> str:
        """Makes this manager the only one, with all that its store holds."""
        before = self.membership
        if before.role != "manager":
            raise Unavailable(words.IN_SWARM)
        await self._role.stop()
        if self._agent is not None:
            await self._agent.stop()
        if self._manager is not None:
            await self._manager.stop()
        self._agent = self._manager = None
        listen, advertise = parse_address(before.listen), before.advertise
        if request.advertise_addr:
            listen = resolve_listen(request.listen_addr)
            advertise = join_address(*resolve_advertise(request.advertise_addr, listen))
        membership = replace(
            before,
            listen=join_address(*listen),
            advertise=advertise,
            managers=[advertise],
            peers={before.node_id: advertise},
        )
        keys = self._keys.load()
        manager = await self._manager_part(keys, membership)
        try:
            await manager.start(force_new_cluster=True)
            await manager.wait_leading()
        except SkepError:
            await manager.stop()
            raise
        self._manager, self._membership, self._error = manager, membership, ""
        self._state.save(membership)
        if identity_of(keys.certificate_pem).not_after < self._clock.now():
            keys = await self._renew_own()
        self._start_agent(membership, keys)
        await self._wait_ready()
        log.warning("manager.forced_new_cluster", node_id=membership.node_id)
        return membership.node_id

    async def join(self, request: JoinRequest) -> None:
        """Joins by the first address that answers. Errors: `Invalid`, `Denied`, `Unavailable`."""
        async with self._change:
            self._require_free()
            if not request.remote_addrs:
                raise Invalid("at least 1 RemoteAddr is required to join")
            parse_join_token(request.join_token)
            listen = resolve_listen(request.listen_addr)
            enrolment = await enrol_with_any(
                request, self._hostname, self._make_executor(), self._clock.now()
            )
            # Where the managers reached us from is where they reach us, unless the user says otherwise.
            own = (enrolment.local_host, listen[1])
            advertise = resolve_advertise(request.advertise_addr, own)
            membership = Membership(
                node_id=enrolment.node_id,
                cluster_id=enrolment.cluster_id,
                role="worker",
                managers=enrolment.managers or list(request.remote_addrs),
                listen=join_address(*listen),
                advertise=join_address(*advertise),
            )
            self._forget()
            self._keys.save(enrolment.keys)
            self._state.save(membership)
            self._membership = membership
            self._start_agent(membership, enrolment.keys)
            await self._wait_ready()

    async def reconnect(self, request: ReconnectRequest) -> list[str]:
        """Tells this node where managers are now, and others where this one is. Returns what did not go
        well. Errors: `Invalid`; `Unavailable` in no swarm, or where none of the addresses answers."""
        async with self._change:
            if self._membership is None or self._agent is None:
                locked = words.LOCKED if self._is_locked else ""
                raise Unavailable(self._error or locked or "This node is not part of a swarm")
            return await self._mover.reconnect(request)

    async def leave(self, force: bool) -> None:
        """Errors: `Unavailable` in no swarm, or for a manager without force."""
        async with self._change:
            if self._membership is None:
                raise Unavailable("This node is not part of a swarm")
            if self._is_locked and not force:
                raise Unavailable(words.LOCKED_LEAVE)
            if self._membership.role == "manager":
                if not force:
                    raise Unavailable(await self._why_not_leave())
                await self._demote_first()
            await self._role.stop()
            if self._agent is not None:
                await self._agent.remove_containers()
                await self._agent.stop()
            if self._manager is not None:
                await self._manager.stop()
            if self._is_locked:
                await self._remove_containers(self._membership.node_id)
            self._agent = self._manager = self._membership = None
            self._error = ""
            self._forget()

    async def _why_not_leave(self) -> str:
        managers = len(self._manager.members) if self._manager is not None else 0
        if self._manager is not None and self._manager.leader is not None:
            view = self._manager.leader.view
            return words.leaving_manager(len(view.reachable), len(view.members))
        return words.leaving_manager(managers, managers if self._manager and self._manager.is_led else 0)

    async def _demote_first(self) -> None:
        """Has the others let go of this manager; where they do not in time, it leaves all the same."""
        if self._manager is None or not self._other_managers():
            return
        try:
            async with asyncio.timeout(DEMOTE_S):
                await self._role.demote(self._manager)
        except (SkepError, TimeoutError) as error:
            log.warning("manager.left_behind", reason=str(error) or "it took too long")

    # For the role keeper and the mover

    @property
    def line(self) -> TlsLine:
        assert self._line is not None
        return self._line

    @property
    def is_misplaced(self) -> bool:
        """True for a manager that could not listen at its address, until it is told another or is none."""
        return self._is_misplaced

    @property
    def membership(self) -> Membership:
        assert self._membership is not None
        return self._membership

    @property
    def agent(self) -> AgentPart:
        assert self._agent is not None
        return self._agent

    @property
    def running_manager(self) -> ManagerPart | None:
        return self._manager

    def remember(self, membership: Membership) -> None:
        """Errors: `Invalid` where the state directory cannot be written."""
        self._membership = membership
        self._state.save(membership)

    async def end_manager(self) -> None:
        """Stops the manager here and forgets its copy of the store. Errors: `Invalid`, `Corrupt`."""
        if self._manager is not None:
            await self._manager.stop()
        # Not before: who leaves waits for this, and would cancel what still stops.
        self._manager = None
        self._place_found()
        self._keys.drop_data_key()
        self._state.clear_store()

    def take_data_key(self, data_key: bytes, key: str) -> None:
        """Keeps what the leader gives a new manager; the node's own key is sealed where managers lock.

        Errors: `Invalid` (disk full), `Corrupt`.
        """
        node_keys = self._keys.load()
        self._keys.take(data_key, key)
        self._keys.save(node_keys)

    async def begin_manager(self) -> None:
        """Errors: `Invalid`, `Unavailable`."""
        manager = await self._manager_part(self._keys.load(), self.membership)
        try:
            await manager.start()
        except BaseException:
            await manager.stop()
            raise
        self._manager = manager
        manager.renewed(self._keys.load())  # they may be newer than its start
        self._place_found()

    # Inside

    def _place_found(self) -> None:
        if self._is_misplaced:
            self._is_misplaced, self._error = False, ""

    def _no_leader(self) -> str:
        if self._manager is None:
            return words.NO_LEADER
        trouble = self._manager.etcd.trouble()
        if trouble:
            return f"{words.NO_LEADER} This manager's etcd ended: {trouble}"
        if self._manager.is_led:
            return words.NO_LEADER
        return words.NO_LEADER + words.no_quorum(len(self._manager.members))

    def _other_managers(self) -> set[str]:
        known = self._manager.members if self._manager is not None else set(self.membership.peers)
        return set(known) - {self.membership.node_id}

    def _forget(self) -> None:
        self._keys.close()
        self._state.clear()
        self._hub.forget()
        self._is_locked = False

    async def _remove_containers(self, node_id: str) -> None:
        """Ends what runs here for a swarm whose agent does not run."""
        executor = self._make_executor()
        with contextlib.suppress(SkepError):
            await executor.start(node_id, lambda seen: None)
            for adopted in await executor.adopt():
                executor.remove_unknown(adopted.task_id)
        await executor.close()

    def _require_free(self) -> None:
        if self._membership is not None:
            raise Unavailable(words.IN_SWARM)

    async def _manager_part(self, keys: NodeKeys, membership: Membership) -> ManagerPart:
        # Here, not above: a worker does without numpy and grpc (25 MB). Importing takes a third of a second.
        await asyncio.to_thread(importlib.import_module, "skep.daemon.manager_part")
        from skep.daemon.manager_part import ManagerPart

        return ManagerPart(
            self._state,
            self.sockets,
            keys,
            membership,
            self._etcd_binary,
            self._clock,
            self._rng,
            self._hub,
            self._peers_moved,
            self._keys,
        )

    def _start_agent(self, membership: Membership, keys: NodeKeys) -> None:
        line = self._line = TlsLine(keys)
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
            self._role.told,
            membership.advertise if membership.role == "manager" else "",
        )
        self._agent.start()
        self._agent.renew(line, self._renewed)

    def _renewed(self, keys: NodeKeys) -> None:
        """Errors: `Invalid` where the new certificate cannot be written."""
        self._keys.save(keys)
        self._not_after = validity_of(keys.certificate_pem)[1]
        if self._manager is not None:
            self._manager.renewed(keys)

    async def _wait_ready(self) -> None:
        """Waits until a session stands, and a manager has its vote. Errors: `Unavailable`."""
        assert self._agent is not None
        try:
            async with asyncio.timeout(JOIN_S):
                await self._agent.session.ready.wait()
                await self._role.wait_settled()
        except TimeoutError as error:
            raise Unavailable(words.STILL_JOINING) from error

    def _managers_changed(self, managers: list[str]) -> None:
        if self._membership is not None:
            self.remember(replace(self._membership, managers=managers))

    def _peers_moved(self, addresses: dict[str, str]) -> None:
        if self._membership is not None:
            self.remember(replace(self._membership, peers=dict(addresses)))

    def _removed(self, message: str) -> None:
        """The swarm no longer knows this node: what it runs for the swarm ends."""
        self._error = f"{message}: leave the swarm (docker swarm leave) and join again"
        if self._agent is not None:
            self._leaving = asyncio.ensure_future(self._agent.remove_containers())
