"""Overlay networks: what a node must know of those that its own tasks and containers are on."""

from __future__ import annotations

from msgspec import Struct

from skep.model.overlay import OverlayNetwork, OverlayService
from skep.rpc.messages.session import Lead

OVERLAY = "overlay"  # a feature: the node understands these; what it cannot do, it says with `MeshApplied`


class OverlayTold(Struct, frozen=True, tag="overlay", omit_defaults=True):
    """What is new of one network. `complete`: there is nothing else of it. `nodes` are where tunnels end, by
    node id, of all that have somebody on it, the node itself among them. A service comes whole, or
    what has changed of it. `more`: the next message belongs to it, and nothing is done before."""

    network: OverlayNetwork
    complete: bool = False
    nodes: list[tuple[str, str]] = []
    gone_nodes: list[str] = []
    services: list[OverlayService] = []
    gone_services: list[str] = []
    lead: Lead | None = None
    more: bool = False


class OverlaysHeld(Struct, frozen=True, tag="overlays-held"):
    """The networks that the node is told of, all of them: others it has no more. In a session the first one
    comes after all these were told, and before the first `MeshTold`."""

    network_ids: list[str]
    lead: Lead | None = None
