"""/skep/v1: what of their hosts nodes and tasks take."""

from __future__ import annotations

import time

from aiohttp import web

from skep.api.decode import query_parsed_bool
from skep.api.interfaces import SwarmNode
from skep.api.objects import reply_time
from skep.api.route import LeaderRoute, Route
from skep.api.routes.reply import reply
from skep.api.usage_objects import NodesUsageJson, node_usage_json
from skep.runtime.errors import Invalid


class UsageRoutes:
    def __init__(self, node: SwarmNode) -> None:
        self._node = node

    def routes(self) -> list[Route]:
        return [
            LeaderRoute("GET", "/skep/v1/nodes/usage", self.nodes, answer=NodesUsageJson, query=("sample",)),
        ]

    async def nodes(self, request: web.Request) -> web.StreamResponse:
        """What is known of each node: some 250 bytes, and 10 µs."""
        manager, own_id = self._node.manager(), self._node.local().node_id
        if query_parsed_bool(request, "sample"):
            raise Invalid("this skep does not ask nodes what they use: sample=0 has what is known")
        view, usage = manager.view, manager.node_usage
        nodes = [node_usage_json(view, each, own_id, usage.of(each.id)) for each in view.nodes.values()]
        return reply(NodesUsageJson(at=reply_time(time.time()), nodes=nodes))
