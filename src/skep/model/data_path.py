"""What leads connections to published ports to tasks, in nodes' kernels: a setting of the swarm's."""

from __future__ import annotations

from msgspec.structs import replace

from .node import EnginePlugin, NodeDescription

NFTABLES, IPVS = "nftables", "ipvs"
DATA_PATHS = (NFTABLES, IPVS)
# What a node says that it has, beside its engine's plugins, where its kernel has IPVS.
_PLUGIN = EnginePlugin(type="DataPath", name=IPVS)


def has_ipvs(description: NodeDescription) -> bool:
    """True for a node whose kernel has IPVS, and whose agent knows how."""
    return _PLUGIN in description.engine.plugins


def as_with_ipvs(description: NodeDescription, has: bool = True) -> NodeDescription:
    """Returns what a node says of itself, with whether it has IPVS, and not whether it had."""
    engine = description.engine
    plugins = [each for each in engine.plugins if each != _PLUGIN]
    return replace(description, engine=replace(engine, plugins=[*plugins, _PLUGIN] if has else plugins))
