"""What leads connections to published ports to tasks, in nodes' kernels: a setting of the swarm's."""

from __future__ import annotations

from .node import EnginePlugin

NFTABLES, IPVS = "nftables", "ipvs"
DATA_PATHS = (NFTABLES, IPVS)
# What a node says that it has, beside its engine's plugins, where its kernel has IPVS.
HAS_IPVS = EnginePlugin(type="DataPath", name=IPVS)
