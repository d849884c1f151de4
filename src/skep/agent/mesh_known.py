"""The routing mesh as this node knows it: what was told of parts and of its own tasks, put together. Pure.

Of a service with very many tasks a node is told a part, the same as others that lead to it, and its own
tasks. A manager that has just begun to lead does not know all nodes that lead to them yet: those that were
known stay until it says who they all are.
"""

from __future__ import annotations

from msgspec.structs import replace

from skep.model.mesh import PARTS_SAID_MAX, Mesh, MeshPart, MeshService
from skep.model.overlay import merged, unpacked
from skep.rpc.messages import MeshTold


class KnownMesh:
    """What is told in several messages is put together once, when somebody wants to know."""

    def __init__(self) -> None:
        self._mesh = Mesh()
        self._touched: set[str] = set()  # services that are others there
        self._is_stale = False  # something else is
        self._told = Mesh()  # services that are told whole, and nodes that are not told with a part
        self._parts: dict[str, MeshPart] = {}
        self._own: dict[str, MeshService] = {}

    @property
    def mesh(self) -> Mesh:
        """Returns all of it. A service of which nothing was told is the same object as before."""
        if self._is_stale:
            self._put_together()
        return self._mesh

    @property
    def parts(self) -> list[tuple[str, int, int]]:
        """Returns of which services a part is known, and which: (service id, number, count)."""
        found = sorted(self._parts.items())[:PARTS_SAID_MAX]  # a manager takes no more
        return [(service_id, each.number, each.count) for service_id, each in found]

    def told(self, said: MeshTold, keeps_returns: bool = False) -> None:
        """Takes what a manager says. `keeps_returns`: one that says by itself when a way back is no more."""
        if said.complete:
            returns = self._told.returns if keeps_returns else frozenset[str]()
            self._told, self._parts, self._own = Mesh(returns=returns), {}, {}
            self._mesh = replace(self._mesh, services={})
        self._take_services(said)
        for part in said.parts:
            id = part.service.id
            self._parts[id] = part.on(self._parts.get(id))
        for own in said.own:
            now = own.on(self._own.get(own.id))
            self._own[own.id] = now
            if not now.endpoints:
                del self._own[own.id]
        self._take_nodes(said)
        self._is_stale = True
        self._touched.update(said.gone_services)
        self._touched.update([each.service.id for each in said.parts])
        self._touched.update([each.id for each in (*said.own, *said.services)])

    def _take_nodes(self, said: MeshTold) -> None:
        """Takes where others are, the network and what leads to it."""
        if said.network is not None or said.nodes or said.gone_nodes or said.data_path:
            self._told = self._told.told(said.network, said.nodes, said.gone_nodes, (), (), said.data_path)
        if said.returns or said.gone_returns or said.returns_whole:
            before = frozenset[str]() if said.returns_whole else self._told.returns
            returns = before.union(unpacked(said.returns)).difference(unpacked(said.gone_returns))
            self._told = replace(self._told, returns=returns)

    def _take_services(self, said: MeshTold) -> None:
        """One that is told whole is in no parts any more."""
        if said.services or said.gone_services:
            self._told = self._told.told(None, (), (), said.services, said.gone_services)
        for service_id in (*said.gone_services, *(each.id for each in said.services)):
            self._parts.pop(service_id, None)
            self._own.pop(service_id, None)
        in_parts = self._told.services.keys() & {each.service.id for each in said.parts}
        if in_parts:
            self._told = self._told.told(None, (), (), (), in_parts)

    def _put_together(self) -> None:
        touched, self._touched, self._is_stale = self._touched, set(), False
        services = dict(self._mesh.services)
        for service_id in touched:
            service = self._service(service_id)
            if service is None:
                services.pop(service_id, None)
            else:
                services[service_id] = service
        nodes = {node_id: address for part in self._parts.values() for node_id, address in part.nodes}
        nodes.update(self._told.nodes)
        self._mesh = replace(self._told, services=services, nodes=nodes)

    def _service(self, service_id: str) -> MeshService | None:
        own, part = self._own.get(service_id), self._parts.get(service_id)
        if part is None:
            whole = self._told.services.get(service_id)
            return whole if whole is not None else own
        if own is None:
            return part.service
        endpoints = merged(part.service.endpoints, own.endpoints, ())
        return replace(part.service, endpoints=endpoints)
