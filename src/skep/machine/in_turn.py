"""Managers of one cluster that a command restarts: one after the other, so that the others can lead
meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from skep.machine.clusters import ClusterRecords
from skep.machine.drivers import Say
from skep.machine.store import MachineStore
from skep.machine.swarm import SwarmMember
from skep.runtime.errors import SkepError, Unavailable

AGAIN_S = 60.0  # until a manager that restarted knows of a leader: its etcd starts, and hears what it missed
RETRY_S = 1.0


class ManagersInTurn:
    """`cluster_of`: the cluster of each manager that is to take turns, by the machines' names; `member`:
    gives a machine's node."""

    def __init__(self, cluster_of: Mapping[str, str], member: Callable[[str], SwarmMember]) -> None:
        self._cluster_of = cluster_of
        self._member = member
        self._turns = {cluster: asyncio.Lock() for cluster in cluster_of.values()}
        self._lost: dict[str, str] = {}

    @contextlib.asynccontextmanager
    async def turn(self, name: str, say: Say) -> AsyncIterator[None]:
        """Waits until no other manager of its cluster is worked at, and after the work until this one manages
        again, where it did before; workers have no turns. Errors: `Unavailable` where it does not manage any
        more, or another one does not: the next could be one too many."""
        cluster = self._cluster_of.get(name)
        if cluster is None:
            yield
            return
        if self._turns[cluster].locked():
            say(f"Waiting for its turn: managers of {cluster} are worked at one after the other")
        async with self._turns[cluster]:
            if lost := self._lost.get(cluster):
                raise Unavailable(f"not begun, for {lost}, another manager of {cluster}, does not manage now")
            was_managing = await self._manages(name)
            try:
                yield
            except SkepError:
                await self._look_after(name, cluster, was_managing)
                raise
            await self._look_after(name, cluster, was_managing)
            if self._lost.get(cluster) == name:
                raise Unavailable(
                    f"it is done, and {name} has not managed {cluster} again within {AGAIN_S:.0f} s: docker"
                    f" --context {name} node ls says more"
                )

    async def _look_after(self, name: str, cluster: str, was_managing: bool) -> None:
        # One that was away before is no loss: the others are as many as they were.
        if was_managing and not await self._manages_again(name):
            self._lost[cluster] = name

    async def _manages_again(self, name: str) -> bool:
        deadline = asyncio.get_running_loop().time() + AGAIN_S
        while not await self._manages(name):
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(RETRY_S)
        return True

    async def _manages(self, name: str) -> bool:
        """Whether it knows of a leader, which it does by its own etcd: it has that one answer."""
        try:
            member = self._member(name)
            if not (await member.membership()).is_manager:
                return False
            await member.tokens()
        except SkepError:
            return False
        return True


def clusters_of(store: MachineStore, names: Sequence[str], say: Say) -> dict[str, str]:
    """Returns the clusters of those of these machines that are managers beside others of them. One that
    cannot be read is said, and has none."""
    found: dict[str, str] = {}
    clusters = ClusterRecords(store)
    for cluster in clusters.names():
        try:
            managers = [each for each in clusters.load(cluster).managers if each in names]
        except SkepError as error:
            say(f"whose managers these are is not known: {error}")
            continue
        if len(managers) > 1:
            found |= dict.fromkeys(managers, cluster)
    return found
