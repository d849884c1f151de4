"""How a node comes to be in a swarm: it founds one, joins one, or takes up the one it was in before.

Each way begins with what is on disk and ends with what runs (`node_runner`).
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import structlog

from skep.daemon import error_texts
from skep.daemon.keys import KeyFiles
from skep.daemon.node_runner import NodeRunner
from skep.daemon.node_state import other_managers
from skep.daemon.state import Membership, StateDir
from skep.rpc.certificates import NodeKeys, identity_of
from skep.rpc.enrol import Stayed
from skep.runtime.errors import Corrupt, Invalid, NoAddress, Unavailable
from skep.store.interfaces import Put
from skep.store.seal import KEY_BYTES

if TYPE_CHECKING:
    from skep.daemon.manager_runner import ManagerRunner

log = structlog.get_logger()


class Bootstrap:
    """Begins the parts of one node."""

    def __init__(self, runner: NodeRunner, state: StateDir, keys: KeyFiles) -> None:
        self._runner = runner
        self._state = state
        self._keys = keys
        self._clock = runner.platform.clock

    # Anew

    async def found(
        self,
        membership: Membership,
        keys: NodeKeys,
        first: tuple[Put, ...],
        unlock_key: str,
        grace_s: float = 0.0,
    ) -> None:
        """Starts the first manager of a swarm, whose store begins with `first`, under a new data key; nodes
        have `grace_s` at least to find it. Errors: `Invalid`, `Unavailable`, `Corrupt`; then it is forgotten.
        """
        self._runner.forget()
        manager: ManagerRunner | None = None
        try:
            self._keys.take(os.urandom(KEY_BYTES), unlock_key)
            manager = await self._runner.make_manager(keys, membership)
            self._keys.save(keys)
            await manager.start(first, grace_until=asyncio.get_running_loop().time() + grace_s)
            await manager.wait_leading()
            self._state.save(membership)
        except BaseException:
            if manager is not None:
                await manager.stop()
            self._runner.forget()
            raise
        self._runner.starting(membership)
        self._runner.run(keys, manager)

    def enter(self, membership: Membership, keys: NodeKeys, stayed: Stayed | None = None) -> None:
        """Starts the agent of a node that has joined, on what has `stayed`. Errors: `Invalid`."""
        self._runner.forget()
        try:
            self._keys.save(keys)
            self._state.save(membership)
        except BaseException:
            self._runner.forget()
            raise
        self._runner.starting(membership)
        self._runner.run(keys, stayed=stayed)

    # Again

    async def start(self) -> None:
        """Takes up the swarm this node was in; a manager whose files are sealed is locked, and runs nothing.

        Errors: `Corrupt`, `Invalid`, `Unavailable`.
        """
        self._state.tighten()
        membership = self._state.load()
        if membership is not None:  # the daemon ended in the middle of a leave
            self._runner.leftovers.forget(membership.node_id)
        self._runner.leftovers.begin()
        if membership is None:
            return
        if membership.role == "manager" and not self._keys.open():
            self._runner.lock(membership)
            log.warning("swarm.locked", advice=error_texts.LOCKED)
            return
        await self._resume(membership)

    async def unlock(self, key: str) -> None:
        """Opens a locked manager's files and goes on as `start` does; a failure leaves it locked.

        Errors: `Invalid`, `WrongUnlockKey`, as `start`.
        """
        if not self._keys.open(key):
            raise Invalid("the unlock key is missing: give the one that `docker swarm unlock-key` printed")
        try:
            await self._resume(self._runner.membership)
        except BaseException:
            self._runner.lock(self._runner.membership)
            self._keys.close()
            raise
        log.info("swarm.unlocked")

    async def start_alone(self, membership: Membership) -> None:
        """Starts this manager, which was stopped, as the only one, with all that its store holds. Errors:
        `Invalid`, `Unavailable`, `Corrupt`; then nothing runs, and the state says so."""
        before = self._runner.membership
        self._runner.starting(before)
        try:
            await self._start_alone(membership)
        except BaseException as error:
            self._runner.starting(before)
            self._runner.fail(error_texts.not_forced(str(error)))
            raise

    async def _start_alone(self, membership: Membership) -> None:
        keys = self._keys.load()
        manager = await self._runner.make_manager(keys, membership)
        try:
            await manager.start(force_new_cluster=True)
            await manager.wait_leading()
            self._runner.starting(membership)
            self._state.save(membership)
            if identity_of(keys.certificate_pem).not_after < self._clock.now():
                keys = await self._renew_own(manager)
            self._runner.run(keys, manager)
        except BaseException:
            await manager.stop()
            raise

    async def _resume(self, membership: Membership) -> None:
        keys = self._keys.load()
        identity = identity_of(keys.certificate_pem)
        if identity.node_id != membership.node_id or identity.cluster_id != membership.cluster_id:
            raise Corrupt(
                f"the certificate in {self._state.path} is of node {identity.node_id}, its swarm.json is of"
                f" node {membership.node_id}: the directory was mixed up with another node's"
            )
        self._runner.starting(membership)
        is_expired = identity.not_after < self._clock.now()
        if is_expired and (membership.role != "manager" or other_managers(self._runner.state)):
            self._runner.fail(error_texts.EXPIRED)
            log.error("certificate.expired", node_id=membership.node_id)
            return
        if membership.role != "manager":
            self._runner.run(keys)
            return
        manager, misplaced = await self._start_again(keys, membership)
        try:
            if is_expired and manager is not None:
                keys = await self._renew_own(manager)
            self._runner.run(keys, manager, misplaced)
        except BaseException:
            if manager is not None:
                await manager.stop()
            raise

    async def _start_again(self, keys: NodeKeys, membership: Membership) -> tuple[ManagerRunner | None, str]:
        """Starts the manager of before; returns it, and why it cannot listen at its address. One of several
        that does not come up is told what to do by the others: the swarm may have let go of it meanwhile."""
        manager = await self._runner.make_manager(keys, membership)
        others = other_managers(self._runner.state)
        if not manager.etcd.has_data:
            if not others:
                raise Corrupt(
                    f"this swarm's store is gone from {self._state.path}: restore a backup (skep backup"
                    " restore), or remove the directory to begin anew"
                )
            return None, ""
        try:
            await manager.start()
        except NoAddress as error:
            await manager.stop()
            log.error("manager.moved", error=str(error))
            return None, error_texts.moved(str(error))
        except Unavailable as error:
            await manager.stop()
            if not others:
                raise
            log.error("manager.not_started", error=str(error))
            return None, ""
        except BaseException:
            await manager.stop()
            raise
        return manager, ""

    async def _renew_own(self, manager: ManagerRunner) -> NodeKeys:
        """The CA is this lone manager's own: nobody else could renew its certificate, and nothing is lost."""
        await manager.wait_leading()
        keys = manager.renew_own()
        self._keys.save(keys)
        log.warning("certificate.was_expired", node_id=self._runner.membership.node_id)
        return keys
