"""IPv4 networks that a node's host has of its own: no network of the swarm may have their addresses."""

from __future__ import annotations

from msgspec import Struct

# Of one node, the most relevant ones. A host has its LAN, docker0, a VPN or two, nameservers: ten at most;
# one that routes for others may have thousands, and the leader keeps them of each node.
HOST_NETWORKS_MAX = 64
HOST_NETWORK_OF_MAX_BYTES = 64  # a device's name has 15 at most, and there may be "gateway by" before it
# Of a default route, and of the two halves that VPNs put before one: all of the world is no one's.
WORLD_BITS = 1

# What mends it, wherever it is said that a network of the swarm overlaps one of a host's own.
ELSEWHERE = (
    "make the network anew with another subnet (docker network create --subnet), or begin the swarm with"
    " other pools (docker swarm init --default-addr-pool)"
)


class HostNetwork(Struct, frozen=True, array_like=True):
    """`prefix` is a network, `10.0.0.0/24`, or one address, `10.0.0.7/32`; `of` says for people what it is
    there: a device, or what the address is for."""

    prefix: str
    of: str

    def __str__(self) -> str:
        return f"{self.prefix} ({self.of})"
