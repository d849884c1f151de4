"""What there is in numbers: the leader's in JSON, by any manager; each daemon's for Prometheus."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable

from aiohttp import web

from skep import __version__
from skep.api.decode import query_parsed_bool
from skep.api.docker_metrics import leader_metrics, node_metrics
from skep.api.exposition import CONTENT_TYPE, ManySamples, exposed, exposed_many
from skep.api.interfaces import Manager, SwarmNode
from skep.api.metric_objects import MetricsJson, metrics_json
from skep.api.objects import reply_time
from skep.api.route import LeaderRoute, Route
from skep.api.routes.reply import reply
from skep.api.swarm_series import node_series, service_series
from skep.runtime.errors import NotManager
from skep.runtime.metrics import LabelledGauge, Metric
from skep.runtime.stall import StallWatch
from skep.runtime.supervise import in_thread

# Who asks again within as long gets the same: 2,300 nodes are 20 ms of work, and who asks may be anybody.
KEPT_S = 1.0
# What nodes use of their hosts may be as old for who asks without a password: they are asked once for each scrape
# of a Prometheus as it comes (15 s), whoever else scrapes. 2,300 nodes are some 150 ms of the manager's time.
SCRAPED_S = 10.0
NOT_LEADER = b"# This daemon does not lead the swarm: the manager that does has these.\n"

Series = Callable[[Manager], list[ManySamples]]


class MetricRoutes:
    """`stall` is of this daemon's loop."""

    def __init__(self, node: SwarmNode, stall: StallWatch) -> None:
        self._node = node
        self._process = stall.metrics
        self._nodes = _Kept(lambda manager: node_series(manager.view, manager.usage))
        self._services = _Kept(lambda manager: service_series(manager.view))

    def routes(self) -> list[Route]:
        return [
            LeaderRoute("GET", "/skep/v1/metrics", self.metrics, answer=MetricsJson),
            *self.scraped(),
        ]

    def scraped(self) -> list[Route]:
        """Returns those for Prometheus, of which each daemon has its own."""
        return [
            Route("GET", "/metrics", self.exposition),
            Route("GET", "/metrics/nodes", self.nodes, query=("usage",)),
            Route("GET", "/metrics/services", self.services),
        ]

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        metrics = self._node.manager().metrics
        return reply(
            MetricsJson(
                leader=self._node.local().node_id,
                at=reply_time(time.time()),
                metrics=metrics_json([*metrics, *self._own()]),
            )
        )

    async def exposition(self, request: web.Request) -> web.StreamResponse:
        manager = self._leader()
        found = [*self._own(), *node_metrics(self._node.local(), leads=manager is not None)]
        if manager is not None:
            found += [*manager.metrics, *leader_metrics(manager.metrics)]
        return _text(exposed(found))

    async def nodes(self, request: web.Request) -> web.StreamResponse:
        """With `usage`, nodes are asked first how much of their hosts is used."""
        if query_parsed_bool(request, "usage") and (manager := self._leader()) is not None:
            await manager.usage.ask_nodes(SCRAPED_S)
        return await self._series(self._nodes)

    async def services(self, request: web.Request) -> web.StreamResponse:
        return await self._series(self._services)

    async def _series(self, kept: _Kept) -> web.StreamResponse:
        manager = self._leader()
        return _text(NOT_LEADER if manager is None else await kept.text(manager))

    def _leader(self) -> Manager | None:
        try:
            return self._node.manager()
        except NotManager:
            return None

    def _own(self) -> list[Metric]:
        """What this daemon counts, leader or not."""
        help, labels = "Always 1; the version is in the label.", ("version",)
        version = LabelledGauge("skep_build_info", help, labels, lambda: {(__version__,): 1})
        return [version, *self._process, *self._node.metrics]


class _Kept:
    """An answer of very many lines, for a moment. It is read at once, and written in a thread: the first one
    takes a tenth of a second."""

    def __init__(self, series: Series) -> None:
        self._series = series
        self._lock = asyncio.Lock()
        self._at = 0.0  # loop time
        self._of: Callable[[], Manager | None] = lambda: None  # a leader that has ended is let go of
        self._said = b""

    async def text(self, manager: Manager) -> bytes:
        """Returns what there is of the leader, at most `KEPT_S` old."""
        now = asyncio.get_running_loop().time
        async with self._lock:
            if self._of() is not manager or now() - self._at > KEPT_S:
                self._said = await in_thread(exposed_many, self._series(manager))
                self._of, self._at = weakref.ref(manager), now()
            return self._said


def _text(body: bytes) -> web.Response:
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})
