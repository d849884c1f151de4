"""The routing mesh: what nodes must know to lead connections to tasks, and whether they could."""

from __future__ import annotations

from msgspec import Struct

from skep.model.kernel_net import KernelNet
from skep.model.mesh import MeshPart, MeshService
from skep.model.overlay import OverlayNetwork
from skep.rpc.messages.session import Lead

MESH = "mesh"  # a feature: the node understands `MeshTold`, the manager `MeshApplied`
# A feature: the node takes what has changed of a service for that.
MESH_CHANGES = "mesh-changes"
# A feature: of a service with very many tasks the node takes a part, and its own; and ways back by address.
MESH_PARTS = "mesh-parts"
LOOK = "look"  # a feature: the node answers `MeshLook`


class MeshTold(Struct, frozen=True, tag="mesh", omit_defaults=True):
    """What is new. `complete`: there is nothing else. `nodes` are addresses of tunnels by node id: of the
    node itself, of those that have tasks in the mesh, and, for who has some, of all. A service comes
    whole, or what has changed of it. `more`: the next message belongs to it, and nothing is done before."""

    complete: bool = False
    network: OverlayNetwork | None = None  # None: as before
    nodes: list[tuple[str, str]] = []
    gone_nodes: list[str] = []
    services: list[MeshService] = []
    gone_services: list[str] = []
    lead: Lead | None = None
    more: bool = False
    data_path: str = ""  # empty: as before, with `complete` nftables
    parts: list[MeshPart] = []
    own: list[MeshService] = []
    returns: bytes = b""
    gone_returns: bytes = b""
    returns_whole: bool = False


class MeshApplied(Struct, frozen=True, tag="mesh-applied"):
    """What of it is not so on the node, and why: sentences for people. None: all is."""

    failures: list[str] = []


class MeshLook(Struct, frozen=True, tag="mesh-look"):
    """The manager asks what the node's kernel has of the mesh and of its overlay networks."""

    number: int


class MeshSeen(Struct, frozen=True, tag="mesh-seen"):
    """What the node found, when it was asked with that number."""

    number: int
    seen: KernelNet
