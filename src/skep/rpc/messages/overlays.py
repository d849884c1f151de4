"""Overlay networks: what a node must know of those that its own tasks and containers are on."""

from __future__ import annotations

from msgspec import Struct

from skep.model.overlay import OverlayEndpoint, OverlayNetwork, OverlayService
from skep.rpc.messages.session import Lead

OVERLAY = "overlay"  # a feature: the node understands these; what it cannot do, it says with `MeshApplied`
# A feature: the manager answers `OverlayAsk`, the node asks for what it is not told of large networks.
RESOLVE = "resolve"


class OverlayTold(Struct, frozen=True, tag="overlay", omit_defaults=True):
    """What is new of one network. `complete`: there is nothing else of it. `nodes` are where tunnels end, by
    node id, of all that have somebody on it, the node itself among them. A service comes whole, or
    what has changed of it. `more`: the next message belongs to it, and nothing is done before. `endpoints`
    are, of a large network, the node's own and those it asked for, whatever is told of services, and
    `senders` (`model.overlay.packed`) where the tunnels of all nodes on it end: those that are new."""

    network: OverlayNetwork
    complete: bool = False
    nodes: list[tuple[str, str]] = []
    gone_nodes: list[str] = []
    services: list[OverlayService] = []
    gone_services: list[str] = []
    lead: Lead | None = None
    more: bool = False
    endpoints: list[OverlayEndpoint] = []
    gone_endpoints: list[str] = []
    senders: bytes = b""
    gone_senders: bytes = b""


class OverlaysHeld(Struct, frozen=True, tag="overlays-held"):
    """The networks that the node is told of, all of them: others it has no more. In a session the first one
    comes after all these were told, and before the first `MeshTold`."""

    network_ids: list[str]
    lead: Lead | None = None


class OverlayAsk(Struct, frozen=True, tag="overlay-ask", omit_defaults=True):
    """A node asks what it was not told of a large network: who has a name (in small letters; a service's, an
    alias, or a container's) or an address (a container's, or a service's own), and for `services` that it
    knows from the session before, by id. What is found comes as `OverlayTold`, before the answer, and is
    told of from then on as it changes, until the manager says that it is gone, or has to make room."""

    number: int
    network_id: str
    names: list[str] = []
    addresses: list[str] = []
    services: list[str] = []


class OverlayAnswered(Struct, frozen=True, tag="overlay-answered", omit_defaults=True):
    """All that was asked with this number is told by now, but for these, which nobody has."""

    number: int
    unknown_names: list[str] = []
    unknown_addresses: list[str] = []
    unknown_services: list[str] = []
