"""What a node's host has of its own, so that no network of the swarm gets the same addresses."""

from __future__ import annotations

from msgspec import Struct

from skep.model.host_network import HostNetwork

HOST_NETWORKS = "host-networks"  # a feature: the manager understands `HostNetworks`


class HostNetworks(Struct, frozen=True, tag="host-networks"):
    """All of them (`network.own_networks`): at the begin of a session, and when they are others."""

    networks: list[HostNetwork]
