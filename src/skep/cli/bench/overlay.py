"""The service's network, overlay or the routing mesh's: what nodes are told of it, and how soon."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from skep.cli.bench.report import NetworkUse
from skep.cli.simulated_overlays import KnownByNodes
from skep.runtime.errors import Unavailable

if TYPE_CHECKING:
    from skep.cli.bench.swarm2k import Swarm2k

NETWORK = "swarm2k"
SUBNET, MESH_SUBNET = "10.64.0.0/10", "10.128.0.0/10"  # room for four million tasks
MESH = "ingress"
QUIET_S = 2.0  # without anything new: what is told together has pauses of half a second
LOOK_S = 0.2  # each look has all simulated nodes write down what they know
KNOWN_S = 120.0


class NetworkOfRun:
    """Fills in the run's figures."""

    def __init__(self, run: Swarm2k) -> None:
        self._run = run
        self._use = run.figures.network = NetworkUse()

    async def create(self, is_overlay: bool, is_published: bool) -> None:
        """Makes the overlay network, and the mesh's own one larger than it is. Errors: `ApiError`,
        `Unavailable`."""
        if is_overlay:
            await self._create(NETWORK, SUBNET)
        if is_published:
            await self._run.managers.raw("DELETE", f"/networks/{MESH}")
            await self._create(MESH, MESH_SUBNET, Ingress=True)

    async def _create(self, name: str, subnet: str, **more: object) -> None:
        body = {
            "Name": name,
            "Driver": "overlay",
            "Scope": "swarm",
            "IPAM": {"Driver": "default", "Config": [{"Subnet": subnet}]},
            **more,
        }
        await self._run.managers.json("POST", "/networks/create", body)

    def went_without(self, running_s: float, manager_cpu_s: float) -> None:
        """The same service on no network ran after so many seconds, for so much of the manager."""
        self._use.without_running_s, self._use.without_manager_cpu_s = running_s, manager_cpu_s

    async def wait_known(self, began: float) -> float:
        """Waits until all nodes have an answer and nothing more is told. Returns what the manager had used
        by then. Errors: `Unavailable`."""
        told_bytes, last, used = 0, time.monotonic(), 0.0
        deadline = last + KNOWN_S
        while True:
            looked = time.monotonic()
            known = await self._known()
            if known.told_bytes != told_bytes or known.unanswered:
                told_bytes, last, used = known.told_bytes, looked, self._run.leader_cpu_s()
            elif looked - last > QUIET_S:
                break
            self._check(deadline, f"questions without an answer: {known.unanswered}")
            await asyncio.sleep(LOOK_S)
        self._use.all_know_s = round(last - began, 3)
        self._use.told_mb = round(known.told_bytes / 1e6, 1)
        self._use.told_node_max_kb = round(known.largest_bytes / 1e3, 1)
        self._use.objects_node_max = known.largest_objects
        return used

    async def wait_lost_unknown(self, detected: float) -> None:
        """Waits until nobody leads to what ran on nodes that are down. Errors: as above, and `ApiError`."""
        nodes = await self._run.managers.json("GET", "/nodes")
        lost = {node["ID"] for node in nodes if node["Status"]["State"] == "down"}
        deadline = time.monotonic() + KNOWN_S
        while True:
            known = await self._known()
            if not lost & known.leads.keys():
                break
            self._check(deadline, "others still lead to tasks of lost nodes")
            await asyncio.sleep(LOOK_S)
        self._use.lost_unknown_s = round(time.monotonic() - detected, 3)

    async def _known(self) -> KnownByNodes:
        found = KnownByNodes()
        for report in await self._run.agents.report():
            found.add(report.known)
        return found

    def _check(self, deadline: float, text: str) -> None:
        if time.monotonic() > deadline:
            raise Unavailable(f"after {KNOWN_S:.0f} s the nodes do not know the network: {text}")
