"""What all parts of a simulated cluster share: the network, etcd, and the machines."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import TYPE_CHECKING

from skep.manager.dispatcher.overlay_bounds import Bounds
from skep.manager.leader import Leader
from skep.model.node import Node
from skep.sim.etcd import Etcd, Peer
from skep.sim.faults import FlakyStore
from skep.sim.hosts import Host
from skep.sim.net import Network
from skep.sim.sealing import Seals
from skep.store import codec

if TYPE_CHECKING:
    from skep.sim.overlays import Overlays


class World:
    """`hosts` in the order in which they joined; those that left stay."""

    def __init__(
        self,
        network_rng: random.Random,
        etcd_rng: random.Random,
        faults_rng: random.Random,
        overlay_bounds: Bounds = Bounds(),
    ) -> None:
        self.network = Network(network_rng)
        self.etcd = Etcd(self.network, etcd_rng, self._know)
        self.faults = FlakyStore(faults_rng)
        self._moves = 0
        self.deposed_at = 0.0  # when an incident, not a candidate, last ended a leadership
        self.hosts: dict[str, Host] = {}
        self.seals = Seals(self.etcd, self.hosts)
        self.disks = Path()  # where the hosts' directories are
        self.overlay_bounds = overlay_bounds
        self.overlays: Overlays | None = None  # None: agents are told nothing of overlay networks

    def mount(self, disks: Path) -> None:
        """The hosts' directories are there."""
        self.disks = disks

    def watch_overlays(self, overlays: Overlays) -> None:
        """Agents are told of overlay networks, and `overlays` looks at what they know."""
        self.overlays = overlays

    def depose(self) -> None:
        """Whoever leads has lost the lead."""
        self.etcd.state.entries.pop(codec.LEADER_KEY, None)
        self.deposed_at = asyncio.get_running_loop().time()

    def is_gone(self, node: Node) -> bool:
        """True where its machine has left for good."""
        host = self.hosts.get(node.id)
        return host is None or host.has_left

    def host(self, node_id: str) -> Host:
        return self.hosts[node_id]

    def _know(self, one: Peer, other: Peer) -> bool:
        """etcd's members reach each other through the managers' doors: one of them has to know where the
        other is, and both look at the other's certificate. What stands already is taken for broken then, too.
        """
        if one is other:
            return True
        here, there = self.hosts[one.node_id], self.hosts[other.node_id]
        return (here.knows(there) or there.knows(here)) and here.trusts(there) and there.trusts(here)

    def new_ip(self) -> str:
        """Returns an address that no machine has ever had."""
        self._moves += 1
        return f"10.1.{self._moves // 250}.{self._moves % 250 + 1}"

    def present(self) -> list[Host]:
        return [host for host in self.hosts.values() if not host.has_left]

    def managers(self) -> list[Host]:
        return [host for host in self.present() if host.membership.role == "manager"]

    def manager_addresses(self) -> list[str]:
        """Returns where those are that decide."""
        voters = {peer.node_id for peer in self.etcd.voters()}
        return [host.address for host in self.present() if host.node_id in voters]

    def can_do_without(self, host: Host) -> bool:
        """True where a majority of the voters keeps its data without the host's: without one nobody could
        help them any more. Who is demoted may be removed at any moment, and does not count."""
        voters = self.etcd.voters()
        stay = [
            voter
            for voter in voters
            if voter.member_id and self._stays(voter.node_id) and voter is not host.peer
        ]
        return host.peer not in voters or (len(stay) > 1 and len(stay) * 2 > len(voters))

    def _stays(self, node_id: str) -> bool:
        entry = self.etcd.state.entries.get(codec.node_key(node_id))
        if entry is None or self.host(node_id).is_leaving:
            return False
        node = codec.decode_object(Node, codec.node_key(node_id), entry.value, entry.modified)
        return node.spec.role == "manager"

    def believers(self) -> list[Host]:
        """Hosts whose manager takes itself for the leader."""
        return [host for host in self.hosts.values() if host.leader is not None]

    def leading(self, node_id: str) -> Host | None:
        """Returns that host where it takes itself for the leader."""
        return next((host for host in self.believers() if host.node_id == node_id), None)

    def leader(self) -> Leader | None:
        """Returns the leader that may write."""
        held = self.etcd.state.entries.get(codec.LEADER_KEY)
        for host in self.believers():
            leader = host.leader
            if leader is not None and held is not None and leader.fence.create_revision == held.created:
                return leader
        return None
