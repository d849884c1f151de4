"""What operators do on single machines: they unlock managers, say where machines are that moved, and join
those anew whose certificates have expired."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from msgspec.structs import replace

from skep.api.interfaces import InitRequest, ReconnectRequest
from skep.daemon import error_texts
from skep.daemon.node_state import Failed, Locked, Running
from skep.model.cluster import Cluster
from skep.runtime.errors import SkepError, WrongUnlockKey
from skep.sim.etcd import Peer
from skep.sim.hosts import Host
from skep.sim.world import World
from skep.store import codec
from skep.store.interfaces import Txn

TEND_S = (1.0, 6.0)  # until somebody looks after the machines again
ROTATE_S = (10.0, 40.0)  # between orders of another unlock key
PATIENCE_S = 10.0
FORCE_S = 60.0  # a new cluster leads within half of that


class Operators:
    """`say` writes into the run's trace; `replace_host` has a machine leave and another one join."""

    def __init__(
        self,
        world: World,
        rng: random.Random,
        say: Callable[[str], None],
        replace_host: Callable[[Host], Awaitable[None]],
    ) -> None:
        self._world = world
        self._rng = rng
        self._say = say
        self._replace_host = replace_host
        self._unlock_keys: list[str] = []  # all that ever were, the newest last
        world.etcd.watchers.append(self._written)

    async def run(self) -> None:
        """Looks after the machines until cancelled."""
        while True:
            await asyncio.sleep(self._rng.uniform(*TEND_S))
            for host in self._world.present():
                if host.is_up and not host.place.frozen:
                    await self._tend(host)

    async def rotate_unlock_key(self, until: float) -> None:
        """Orders another one now and then; turns locking off and on, too."""
        while asyncio.get_running_loop().time() < until:
            await asyncio.sleep(self._rng.uniform(*ROTATE_S))
            host = next(iter(self._world.believers()), None)
            leader = host.leader if host is not None else None
            cluster = leader.view.cluster if leader is not None else None
            if host is None or leader is None or cluster is None:
                continue
            config = cluster.spec.encryption_config
            locks = self._rng.random() < 0.8
            spec = replace(cluster.spec, encryption_config=replace(config, auto_lock_managers=locks))
            what = "another unlock key" if locks else "managers do not lock themselves"
            order = leader.swarm.update(cluster.version, spec, rotate_unlock_key=locks)
            if await self.order(host, order):
                self._say(f"administrator at {host.name}: {what}")

    async def order(
        self, host: Host, order: Coroutine[Any, Any, Any], patience_s: float = PATIENCE_S
    ) -> bool:
        """Gives an operator's command on a host; returns whether it was carried out."""
        given = host.order(order)
        await asyncio.wait([given], timeout=patience_s)
        if not given.done() or given.cancelled():
            self._say(f"administrator at {host.name}: no answer")
            return False
        error = given.exception()
        if error is not None and not isinstance(error, SkepError):
            raise error
        if error is not None:
            self._say(f"administrator at {host.name}: refused: {error}")
        return error is None

    def lacks(self) -> str:
        """Returns what is not as it must be in the end; an empty text where all is."""
        wanted = self._cluster().unlock_key
        for host in self._world.present():
            if not isinstance(host.state, Running):
                return f"{host.name} is {type(host.state).__name__.lower()}"
            if host.membership.advertise.partition(":")[0] != host.where and host.manager is not None:
                return f"{host.name} says that it is at {host.membership.advertise}, and is at {host.where}"
            if host.manager is not None and _is_sealed(host) != bool(wanted):
                return f"the keys of {host.name} are {'not ' if wanted else ''}sealed"
        return ""

    # Inside

    async def _tend(self, host: Host) -> None:
        state = host.state
        if isinstance(state, Locked):
            await self._unlock(host)
        elif isinstance(state, Running) and state.membership.advertise.partition(":")[0] != host.where:
            self._say(f"administrator: {host.name} is told that it is at {host.where}")
            request = ReconnectRequest(advertise_addr=f"{host.where}:2377")
            await self.order(host, host.commands.reconnect(request))
        elif _has_expired(host):
            if self._world.can_do_without(host):
                self._say(f"administrator: the certificate of {host.name} has expired")
                await self._replace_host(host)
            elif self._world.etcd.raft_leader() is None:
                await self._force_new_cluster()
        elif isinstance(state, Running) and state.manager is not None and not state.manager.is_led:
            await self._tell_others(host)

    async def _force_new_cluster(self) -> None:
        """Too few managers are left: one of them that has everything is made the only one."""
        etcd = self._world.etcd
        for host in self._world.managers():
            is_there = host.is_up and not host.place.frozen and isinstance(host.state, Running | Failed)
            if is_there and host.peer in etcd.voters() and host.peer.revision == etcd.state.revision:
                self._say(f"administrator: {host.name} is made the only manager")
                request = InitRequest(listen_addr="0.0.0.0:2377", force_new_cluster=True)
                await self.order(host, host.commands.init(request), FORCE_S)
                return

    async def _tell_others(self, host: Host) -> None:
        """Where several managers have moved at once, none of them can tell another."""
        others = [each for each in self._world.managers() if each is not host]
        if all(host.knows(each) or each.knows(host) for each in others):
            return
        self._say(f"administrator: {host.name} is told where the other managers are")
        request = ReconnectRequest(remote_addrs=[f"{each.where}:2377" for each in others])
        await self.order(host, host.commands.reconnect(request))

    async def _unlock(self, host: Host) -> None:
        """By the newest key, or by one of before where it was away when that came."""
        for key in reversed(self._unlock_keys):
            given = host.order(host.commands.unlock(key))
            await asyncio.wait([given], timeout=PATIENCE_S)
            if given.done() and not given.cancelled() and isinstance(given.exception(), WrongUnlockKey):
                continue
            self._say(f"administrator: {host.name} is unlocked: {type(host.state).__name__}")
            return
        self._world.etcd.wrong.append(f"no key that ever was unlocks {host.name}")

    def _written(self, peer: Peer, txn: Txn) -> None:
        if any(op.key == codec.CLUSTER_KEY for op in txn.ops):
            self.learn()

    def learn(self) -> None:
        """The swarm's unlock key is written down by who is told it."""
        key = self._cluster().unlock_key
        if key and key not in self._unlock_keys[-1:]:
            self._unlock_keys.append(key)

    def _cluster(self) -> Cluster:
        entry = self._world.etcd.state.entries[codec.CLUSTER_KEY]
        return codec.decode_object(Cluster, codec.CLUSTER_KEY, entry.value, 0)


def _has_expired(host: Host) -> bool:
    """True where its certificate has, be it that it was off or that nobody could renew it."""
    state = host.state
    if isinstance(state, Failed):
        return state.why == error_texts.EXPIRED
    return isinstance(state, Running) and state.not_after < host.clock.now()


def _is_sealed(host: Host) -> bool:
    """True where neither of the manager's keys can be read without the unlock key."""
    data_key = json.loads((host.directory / "keys" / "data-key").read_bytes())
    node_key = (host.directory / "certificates" / "swarm-node.key").read_bytes()
    return bool(data_key["is_sealed"]) and b"SEALED" in node_key
