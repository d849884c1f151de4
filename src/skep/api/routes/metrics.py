"""What there is in numbers: the leader's in JSON, by any manager; each daemon's for Prometheus."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

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
from skep.api.swarm_series import mesh_series, node_series, service_series
from skep.runtime.errors import NotManager
from skep.runtime.metrics import LabelledGauge, Metric
from skep.runtime.stall import StallWatch
from skep.runtime.supervise import in_thread

# Who asks again within as long gets the same: 2,300 nodes are 20 ms of work, and who asks may be anybody.
KEPT_S = 1.0
# What nodes use of their hosts may be as old for who has no password: they are asked once for each scrape
# of a Prometheus as it comes (15 s), whoever else scrapes. 2,300 nodes are some 150 ms of the manager's time.
SCRAPED_S = 10.0
# What a node has led to services: counters are read from its kernel, 120 ms of work with 1,000 services.
MESH_KEPT_S = 5.0
NOT_LEADER = b"# This daemon does not lead the swarm: the manager that does has these.\n"

Of = TypeVar("Of")


class MetricRoutes:
    """`stall` is of this daemon's loop."""

    def __init__(self, node: SwarmNode, stall: StallWatch) -> None:
        self._node = node
        self._process = stall.metrics
        self._nodes = _Kept(_of_nodes, KEPT_S)
        self._services = _Kept(_of_services, KEPT_S)
        self._mesh = _Kept(_of_mesh, MESH_KEPT_S)

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
            Route("GET", "/metrics/mesh", self.mesh),
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

    async def mesh(self, request: web.Request) -> web.StreamResponse:
        """What this node has led to services' tasks, whoever leads the swarm."""
        return _text(await self._mesh.text(self._node))

    async def _series(self, kept: _Kept[Manager]) -> web.StreamResponse:
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


async def _of_nodes(manager: Manager) -> list[ManySamples]:
    return node_series(manager.view, manager.usage)


async def _of_services(manager: Manager) -> list[ManySamples]:
    return service_series(manager.view)


async def _of_mesh(node: SwarmNode) -> list[ManySamples]:
    return mesh_series(await node.carried())


class _Kept(Generic[Of]):
    """An answer of very many lines, for a moment. It is written in a thread: the first one takes a tenth of a
    second."""

    def __init__(self, series: Callable[[Of], Awaitable[list[ManySamples]]], kept_s: float) -> None:
        self._series = series
        self._kept_s = kept_s
        self._lock = asyncio.Lock()
        self._at = 0.0  # loop time
        self._of: Callable[[], Of | None] = lambda: None  # a leader that has ended is let go of
        self._said = b""

    async def text(self, of: Of) -> bytes:
        """Returns what there is of it, at most `kept_s` old. Errors: as the series'."""
        now = asyncio.get_running_loop().time
        async with self._lock:
            if self._of() is not of or now() - self._at > self._kept_s:
                self._said = await in_thread(exposed_many, await self._series(of))
                self._of, self._at = weakref.ref(of), now()
            return self._said


def _text(body: bytes) -> web.Response:
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})
