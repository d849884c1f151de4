"""What a simulated node knows of published ports: all that it is told. It has no kernel."""

from __future__ import annotations

from collections import Counter

from skep.agent.mesh_known import KnownMesh
from skep.agent.session import Session
from skep.cli.simulated_overlays import KnownByNodes
from skep.model.mesh import Mesh
from skep.rpc import messages
from skep.rpc.messages import MESH, MESH_CHANGES, MESH_PARTS, MeshTold

# A task of another node is a neighbour on the bridge, its node two ways of the tunnel; with tasks of its own,
# a node has those ways to each node that it knows, and a neighbour, a route and a rule: a way back.
OBJECTS_OF_ENDPOINT, OBJECTS_OF_NODE, OBJECTS_OF_RETURN = 1, 2, 3


class SimulatedMesh:
    """A subject of the session of one node."""

    def __init__(self, node_id: str, session: Session) -> None:
        self._node_id = node_id
        self._known = KnownMesh()
        self._bytes = 0
        self._largest_objects = 0
        self._session = session
        session.on(MeshTold, self._told, MESH)
        session.knows(MESH_CHANGES)
        session.knows(MESH_PARTS)
        session.says_parts(lambda: self._known.parts)

    def known(self) -> KnownByNodes:
        found: Counter[str] = Counter()
        for service in self._known.mesh.services.values():
            found.update(each.node_id for each in service.endpoints if each.takes_new)
        return KnownByNodes(self._bytes, self._bytes, self._largest_objects, 0, dict(found))

    def _told(self, said: MeshTold) -> None:
        self._bytes += len(messages.encode(said))
        self._known.told(said, keeps_returns=self._session.manager_knows(MESH_PARTS))
        if not said.more:  # else nothing is done before the next
            self._largest_objects = max(self._largest_objects, objects_of(self._known.mesh, self._node_id))


def objects_of(mesh: Mesh, node_id: str) -> int:
    """Returns how many objects of the kernel grow with tasks and nodes."""
    endpoints = [each for service in mesh.services.values() for each in service.endpoints]
    there = [each for each in endpoints if each.node_id != node_id]
    if len(there) == len(endpoints):
        return OBJECTS_OF_ENDPOINT * len(there) + OBJECTS_OF_NODE * len({each.node_id for each in there})
    own = mesh.nodes.get(node_id, "")
    others = mesh.returns.union(mesh.nodes.values()) - {own}
    return OBJECTS_OF_ENDPOINT * len(there) + (OBJECTS_OF_NODE + OBJECTS_OF_RETURN) * len(others)
