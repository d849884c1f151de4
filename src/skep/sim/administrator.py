"""What an administrator does: another data key is ordered, nodes that have left are removed, and machines
that find no manager any more are told where they are."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from msgspec.structs import replace

from skep.api.interfaces import ReconnectRequest
from skep.manager.leader import Leader
from skep.model.node import Node
from skep.runtime.errors import Invalid, SkepError
from skep.sim.hosts import Host
from skep.sim.operators import Operators
from skep.sim.picture import Picture
from skep.sim.workload import Workload
from skep.sim.world import World

TIDY_S = 2.0
ROTATE_S = (1.0, 15.0)  # between orders of another data key: some while one is made
PATIENCE_S = 10.0


class Administrator:
    """`say` writes into the run's trace."""

    def __init__(
        self, world: World, workload: Workload, operators: Operators, say: Callable[[str], None]
    ) -> None:
        self._world = world
        self._workload = workload
        self._operators = operators
        self._say = say

    def lacks(self, picture: Picture) -> str:
        """Returns what is still to be tidied; an empty text where nothing is."""
        gone = [node.id for node in picture.nodes.values() if self._world.is_gone(node)]
        return f"nodes that have left are still known: {gone}" if gone else ""

    async def rotate_data_key(self, rng: random.Random, until: float) -> None:
        """Orders another one now and then."""
        while asyncio.get_running_loop().time() < until:
            await asyncio.sleep(rng.uniform(*ROTATE_S))
            host = next(iter(self._world.believers()), None)
            leader = host.leader if host is not None else None
            if host is None or leader is None:
                continue
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await asyncio.shield(host.do(leader.swarm.rotate_data_key()))
                self._say(f"administrator at {host.name}: another data key")
            except (SkepError, TimeoutError) as error:
                self._say(f"administrator at {host.name}: refused: {error}")

    async def tidy(self) -> None:
        """Removes the nodes that have left, and has users look after what failed, until cancelled."""
        while True:
            await asyncio.sleep(TIDY_S)
            leader = self._world.leader()
            host = self._world.leading(leader.node_id) if leader is not None else None
            if leader is None or host is None:
                continue
            for node in [node for node in leader.view.nodes.values() if self._world.is_gone(node)]:
                try:
                    if node.spec.role == "manager":
                        await self._demote_gone(host, leader, node)
                    else:
                        await self._workload.remove_node(host, leader, node.id)
                except SkepError as error:
                    self._say(f"administrator: {error}")
            try:
                for did in await self._workload.repair(host, leader):
                    self._say(f"user at {host.name}: {did}")
            except SkepError as error:
                self._say(f"user at {host.name}: refused: {error}")
            await self._find_lost()

    async def _demote_gone(self, host: Host, leader: Leader, node: Node) -> None:
        """Where only managers that were demoted are left to do it, the leader is made one again first."""
        own = leader.view.nodes[leader.node_id]
        try:
            await self._workload.change_node(host, leader, node, replace(node.spec, role="worker"))
        except Invalid:
            if own.spec.role == "manager":
                raise
            await self._workload.change_node(host, leader, own, replace(own.spec, role="manager"))

    async def _find_lost(self) -> None:
        """A machine that was away while all managers it knew were replaced is told where they are now."""
        addresses = self._world.manager_addresses()
        for host in self._world.present():
            if host.is_up and host.is_lost(addresses):
                self._say(f"administrator: {host.name} is told where the managers are")
                request = ReconnectRequest(remote_addrs=addresses)
                await self._operators.order(host, host.commands.reconnect(request))
