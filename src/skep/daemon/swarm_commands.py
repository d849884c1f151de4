"""What users order of this node: init, join, leave, unlock, restore, reconnect. One order at a time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import structlog
from msgspec.structs import replace

from skep.api.interfaces import InitRequest, JoinRequest, ReconnectRequest, RestoreRequest
from skep.daemon import error_texts
from skep.daemon.addresses import (
    join_address,
    parse_address,
    require_listen,
    resolve_advertise,
    resolve_data_path,
    resolve_listen,
)
from skep.daemon.bootstrap import Bootstrap
from skep.daemon.founding import found_swarm
from skep.daemon.joining import enrol_with_any
from skep.daemon.moving import Mover
from skep.daemon.node_runner import NodeRunner
from skep.daemon.node_state import Locked, Outside, Running, other_managers, why_no_manager, why_not_running
from skep.daemon.restoring import opened, received, restored_swarm
from skep.daemon.state import Membership
from skep.manager.control.autolock import unlock_key
from skep.manager.control.swarm import validate_init
from skep.rpc.certificates import parse_join_token
from skep.runtime.errors import Conflict, Invalid, NotManager, SkepError, Unavailable
from skep.runtime.ids import id_source
from skep.store.fitting import fitting
from skep.store.seal import KEY_BYTES

log = structlog.get_logger()

UNLOCK_S = 10.0  # an unlocked manager leads by then, or there is no majority
JOIN_S = 20.0  # Docker's own: after that joining goes on in the background
RESTORE_GRACE_S = 300.0  # for nodes to find a restored swarm: somebody has to tell them where it is
DEMOTE_S = 20.0  # a manager that leaves by force waits as long for the others to let it go in good order


class SwarmCommands:
    """`directory` is where a backup that comes in is kept meanwhile."""

    def __init__(self, runner: NodeRunner, bootstrap: Bootstrap, directory: Path) -> None:
        self._runner = runner
        self._bootstrap = bootstrap
        self._directory = directory
        self._platform = runner.platform
        self._mover = Mover(runner)
        self._change = asyncio.Lock()

    async def unlock(self, key: str) -> None:
        """Opens a locked manager's files and goes on as `start` does; a failure leaves it locked.

        Errors: `NotManager`, `Conflict` where it is not locked, `Invalid`, `WrongUnlockKey`, as `start`.
        """
        async with self._change:
            state = self._runner.state
            if not isinstance(state, Locked):
                if isinstance(state, Outside) or state.membership.role != "manager":
                    raise NotManager(why_no_manager(state))
                raise Conflict("swarm is not locked")
            await self._bootstrap.unlock(key)
            await self._runner.wait_settled(UNLOCK_S)

    async def init(self, request: InitRequest) -> str:
        """Makes a swarm of this one node. Errors: `Invalid`, `Unsupported`, `Unavailable`."""
        async with self._change:
            state = self._runner.state
            if request.force_new_cluster and isinstance(state, Locked):
                raise NotManager(error_texts.LOCKED)
            if request.force_new_cluster and not isinstance(state, Outside):
                require_listen(request.listen_addr)
                return await self._force_new_cluster(request)
            self._require_free()
            require_listen(request.listen_addr)
            pools, size = request.default_addr_pool, request.subnet_size
            validate_init(request.spec, request.data_path_port, pools, size)
            listen = resolve_listen(request.listen_addr)
            advertise = resolve_advertise(request.advertise_addr, listen)
            data_path = resolve_data_path(request.data_path_addr)
            now, new_id = self._platform.clock.now(), id_source(self._platform.rng)
            autolock = request.auto_lock_managers or request.spec.encryption_config.auto_lock_managers
            key = unlock_key(os.urandom(KEY_BYTES)) if autolock else ""
            await self._runner.leftovers.clear_first()
            membership, keys, first = found_swarm(
                request, self._platform.hostname, listen, advertise, now, new_id, key
            )
            membership = replace(membership, data_path=data_path)
            await self._bootstrap.found(membership, keys, first, key)
            await self._wait_ready()
            return membership.node_id

    async def restore(self, request: RestoreRequest, content: AsyncIterator[bytes]) -> tuple[str, list[str]]:
        """Makes this node the only manager of a swarm as a backup has it. Nothing is touched before the
        backup was verified whole, and opened. What was sealed is sealed with a new data key. What is too
        large for this version's store is left out, and said.

        Errors: `Unavailable`, `Invalid`, `Corrupt`, `Unsupported`, `WrongUnlockKey`.
        """
        async with self._change:
            self._require_free()
            listen = resolve_listen(request.listen_addr)
            advertise = resolve_advertise(request.advertise_addr, listen)
            contents = await received(self._directory, content)
            now, new_id = self._platform.clock.now(), id_source(self._platform.rng)
            cluster, puts = opened(contents, request.unlock_key)
            membership, keys, first = restored_swarm(
                cluster, puts, self._platform.hostname, listen, advertise, now, new_id
            )
            first, left_out = fitting(first)
            for put in left_out:
                reason = error_texts.TOO_LARGE
                log.warning("restore.left_out", key=put.key, bytes=len(put.value), reason=reason)
            await self._runner.leftovers.clear_first()
            await self._bootstrap.found(membership, keys, first, cluster.unlock_key, RESTORE_GRACE_S)
            await self._wait_ready()
            log.warning("manager.restored", node_id=membership.node_id, taken_at=contents.header.created_at)
            why = error_texts.TOO_LARGE
            return membership.node_id, [f"{put.key} was left out: {why}" for put in left_out]

    async def _force_new_cluster(self, request: InitRequest) -> str:
        """Makes this manager the only one, with all that its store holds."""
        before = self._runner.membership
        if before.role != "manager":
            raise Unavailable(error_texts.IN_SWARM)
        listen, advertise = parse_address(before.listen), before.advertise
        if request.advertise_addr:
            listen = resolve_listen(request.listen_addr)
            advertise = join_address(*resolve_advertise(request.advertise_addr, listen))
        await self._runner.stop()
        membership = replace(
            before,
            listen=join_address(*listen),
            advertise=advertise,
            managers=[advertise],
            peers={before.node_id: advertise},
        )
        await self._bootstrap.start_alone(membership)
        await self._wait_ready()
        log.warning("manager.forced_new_cluster", node_id=membership.node_id)
        return membership.node_id

    async def join(self, request: JoinRequest) -> None:
        """Joins by the first address that answers. Errors: `Invalid`, `Denied`, `Unavailable`."""
        async with self._change:
            self._require_free()
            require_listen(request.listen_addr)
            if not request.remote_addrs:
                raise Invalid("at least 1 RemoteAddr is required to join")
            parse_join_token(request.join_token)
            listen = resolve_listen(request.listen_addr)
            # Before anything: whoever is taken in and then cannot go on is a node of the swarm's for ever.
            advertise = resolve_advertise(request.advertise_addr, listen) if request.advertise_addr else None
            data_path = resolve_data_path(request.data_path_addr)
            enrolment = await enrol_with_any(
                request, self._platform.hostname, self._platform.make_executor(), self._platform.clock.now()
            )
            # Where the managers reached us from is where they reach us, unless the user says otherwise.
            advertise = advertise or (enrolment.local_host, listen[1])
            membership = Membership(
                node_id=enrolment.node_id,
                cluster_id=enrolment.cluster_id,
                role="worker",
                managers=enrolment.managers or list(request.remote_addrs),
                listen=join_address(*listen),
                advertise=join_address(*advertise),
                data_path=data_path,
            )
            await self._runner.leftovers.clear_first()
            self._bootstrap.enter(membership, enrolment.keys, enrolment.stayed)
            await self._wait_ready()

    async def reconnect(self, request: ReconnectRequest) -> list[str]:
        """Tells this node where managers are now, and others where this one is. Returns what did not go
        well. Errors: `Invalid`; `Unavailable` in no swarm, or where none of the addresses answers."""
        async with self._change:
            state = self._runner.state
            if isinstance(state, Outside):
                raise Unavailable("This node is not part of a swarm")
            if not isinstance(state, Running):
                raise Unavailable(why_not_running(state) or "This node is being started")
            return await self._mover.reconnect(request, state)

    async def leave(self, force: bool) -> None:
        """Errors: `Unavailable` in no swarm, or for a manager without force; `SkepError` says what could not
        be removed: the node has left all the same."""
        async with self._change:
            state = self._runner.state
            if isinstance(state, Outside):
                raise Unavailable("This node is not part of a swarm")
            if isinstance(state, Locked) and not force:
                raise Unavailable(error_texts.LOCKED_LEAVE)
            if state.membership.role == "manager":
                if not force:
                    raise Unavailable(await self._why_not_leave())
                await self.demote_first()
            left = await self._runner.leave()
            if left:
                raise SkepError(error_texts.left_behind(left))

    async def _why_not_leave(self) -> str:
        manager = self._runner.running_manager
        managers = len(manager.members) if manager is not None else 0
        if manager is not None and manager.leader is not None:
            view = manager.leader.view
            return error_texts.leaving_manager(len(view.reachable), len(view.members))
        return error_texts.leaving_manager(managers, managers if manager and manager.is_led else 0)

    async def demote_first(self) -> None:
        """Has the others let go of this manager; where they do not in time, it leaves all the same."""
        manager = self._runner.running_manager
        if manager is None or not other_managers(self._runner.state):
            return
        try:
            async with asyncio.timeout(DEMOTE_S):
                await self._runner.role.demote(manager)
        except (SkepError, TimeoutError) as error:
            log.warning("manager.left_behind", reason=str(error) or "it took too long")

    def _require_free(self) -> None:
        if self._runner.is_in_swarm:
            raise Unavailable(error_texts.IN_SWARM)

    async def _wait_ready(self) -> None:
        """Waits until a session stands, and a manager has its vote. Errors: `Unavailable`."""
        try:
            async with asyncio.timeout(JOIN_S):
                await self._runner.agent.session.ready.wait()
                await self._runner.role.wait_settled()
        except TimeoutError as error:
            why = self._runner.role.trouble or self._runner.agent.trouble
            raise Unavailable(f"{error_texts.STILL_JOINING} {why}".strip()) from error
