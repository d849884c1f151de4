"""What there is in numbers: the leader's, in JSON, whichever manager is asked."""

from __future__ import annotations

import time

from aiohttp import web

from skep.api.interfaces import SwarmNode
from skep.api.metric_objects import MetricsJson, metrics_json
from skep.api.objects import reply_time
from skep.api.route import LeaderRoute, Route
from skep.api.routes.reply import reply
from skep.runtime.metrics import Registry


class MetricRoutes:
    """`process` is what this daemon counts of itself, leader or not."""

    def __init__(self, node: SwarmNode, process: Registry) -> None:
        self._node = node
        self._process = process

    def routes(self) -> list[Route]:
        return [LeaderRoute("GET", "/skep/v1/metrics", self.metrics, answer=MetricsJson)]

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        metrics = self._node.manager().metrics
        return reply(
            MetricsJson(
                leader=self._node.local().node_id,
                at=reply_time(time.time()),
                metrics=[*metrics_json(metrics), *metrics_json(self._process)],
            )
        )
