"""Which of the swarm's networks a node's host has no room for, in words. Pure."""

from __future__ import annotations

from collections.abc import Collection

from skep.model.host_network import ELSEWHERE
from skep.store.objects import Objects


def overlaps(view: Objects, node_id: str, network_ids: Collection[str] | None = None) -> list[str]:
    """Returns which networks of the swarm (of these) overlap one of the node's host."""
    found = []
    for network_id, own in view.hosts.of_node(node_id):
        network = view.networks.get(network_id)
        if network is not None and (network_ids is None or network_id in network_ids):
            what = f"the routing mesh's network {network.spec.name}" if network.spec.ingress else ""
            what = what or f"network {network.spec.name}"
            subnets = ", ".join(pool.subnet for pool in network.pools)
            found.append(f"{what} ({subnets}) overlaps its host's own network {own}")
    return sorted(found)


def no_place_for(view: Objects, node_id: str) -> list[str]:
    """Returns a sentence for each network that the node cannot have."""
    found = overlaps(view, node_id)
    return [f"{text}: its tasks are placed elsewhere. What helps: {ELSEWHERE}" for text in found]
