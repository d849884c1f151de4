"""/nodes (Engine API 1.51)."""

from __future__ import annotations

import msgspec
from aiohttp import web

from skep.api.decode import query_bool, query_version, read_body
from skep.api.filters import known_values, matches_any, matches_labels, parse_filters, spec_labels
from skep.api.interfaces import SwarmNode
from skep.api.node_objects import NodeJson, node_json
from skep.api.resolve import find_node
from skep.api.route import LeaderRoute, Route
from skep.api.routes.reply import reply, reply_list
from skep.api.tls_info import node_tls_info
from skep.model.node import Node, NodeSpec
from skep.model.normal_form import lower_case
from skep.store.view import View

FILTERS = frozenset({"id", "label", "node.label", "membership", "name", "role"})
_ROLES = ("worker", "manager")
_AVAILABILITIES = ("active", "pause", "drain")
_MEMBERSHIPS = ("accepted", "pending")


class GivenNodeSpec(NodeSpec, frozen=True, kw_only=True):
    """The whole spec, as an update gives it: what it leaves out has no default."""

    role: str = ""
    availability: str = ""


class NodeRoutes:
    def __init__(self, node: SwarmNode) -> None:
        self._node = node

    def routes(self) -> list[Route]:
        return [
            LeaderRoute("GET", "/nodes", self.list_all, answer=list[NodeJson], filters=FILTERS),
            LeaderRoute("GET", "/nodes/{id}", self.inspect, answer=NodeJson),
            LeaderRoute("DELETE", "/nodes/{id}", self.remove, query=("force",)),
            LeaderRoute("POST", "/nodes/{id}/update", self.update, body=NodeSpec, query=("version",)),
        ]

    async def list_all(self, request: web.Request) -> web.StreamResponse:
        view = self._node.manager().view
        filters = parse_filters(request, FILTERS)
        roles = known_values(filters, "role", _ROLES)
        memberships = known_values(filters, "membership", _MEMBERSHIPS)
        ids, names = filters.get("id", []), filters.get("name", [])
        engine_labels, labels = (spec_labels(filters.get(k, [])) for k in ("label", "node.label"))

        def is_wanted(node: Node) -> bool:
            return (
                matches_any(ids, node.id)
                and matches_any(names, node.description.hostname)
                and matches_labels(engine_labels, node.description.engine.labels)
                and matches_labels(labels, node.spec.labels)
                and (not roles or node.spec.role in roles)
                and (not memberships or "accepted" in memberships)
            )

        nodes = list(view.nodes.values())
        return await reply_list(request, (self._json(view, n) if is_wanted(n) else None for n in nodes))

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        view = self._node.manager().view
        node = find_node(view, request.match_info["id"])
        return reply(self._json(view, node))

    async def remove(self, request: web.Request) -> web.StreamResponse:
        manager = self._node.manager()
        node = find_node(manager.view, request.match_info["id"])
        await manager.nodes.remove(node.id, query_bool(request, "force"))
        return web.Response()

    async def update(self, request: web.Request) -> web.StreamResponse:
        spec, _ = await read_body(request, GivenNodeSpec)
        version = query_version(request, "node")
        manager = self._node.manager()
        node = find_node(manager.view, request.match_info["id"])
        spec = msgspec.structs.replace(
            spec,
            role=lower_case(spec.role, _ROLES),
            availability=lower_case(spec.availability, _AVAILABILITIES),
        )
        await manager.nodes.update(node.id, version, NodeSpec(**msgspec.structs.asdict(spec)))
        return web.Response()

    def _json(self, view: View, node: Node) -> NodeJson:
        return node_json(view, node, self._node.local().node_id, node_tls_info(view, node.id))
