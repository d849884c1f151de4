"""What there is in numbers: the leader's in JSON, by any manager; each daemon's for Prometheus."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable

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

# Who asks again within as long gets the same, for who asks may be anybody: 2,300 nodes are 20 ms of work, and
# what every daemon says is 2 ms.
KEPT_S, MOMENT_S = 1.0, 0.2
# What nodes use of their hosts may be as old for who has no password: they are asked once for each scrape
# of a Prometheus as it comes (15 s), whoever else scrapes. 2,300 nodes are some 150 ms of the manager's time.
SCRAPED_S = 10.0
# What a node has led to services: counters are read from its kernel, 120 ms of work with 1,000 services.
MESH_KEPT_S = 5.0
NOT_LEADER = b"# This daemon does not lead the swarm: the manager that does has these.\n"

Series = Callable[[Manager], list[ManySamples]]
Write = Callable[[Manager | None], Awaitable[bytes]]


class MetricRoutes:
    """`stall` is of this daemon's loop."""

    def __init__(self, node: SwarmNode, stall: StallWatch) -> None:
        self._node = node
        self._process = stall.metrics
        self._all = _Kept(self._write_all, MOMENT_S)
        self._nodes = _Kept(_writing(_of_nodes), KEPT_S)
        self._nodes_asked = _Kept(_writing(_of_nodes, asks=True), KEPT_S)
        self._services = _Kept(_writing(lambda manager: service_series(manager.view)), KEPT_S)
        self._mesh = _Kept(self._write_mesh, MESH_KEPT_S)

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
        return await self._kept(self._all)

    async def nodes(self, request: web.Request) -> web.StreamResponse:
        """With `usage`, nodes are asked first how much of their hosts is used."""
        return await self._kept(self._nodes_asked if query_parsed_bool(request, "usage") else self._nodes)

    async def services(self, request: web.Request) -> web.StreamResponse:
        return await self._kept(self._services)

    async def mesh(self, request: web.Request) -> web.StreamResponse:
        """What this node has led to services' tasks, whoever leads the swarm."""
        return await self._kept(self._mesh)

    async def _kept(self, kept: _Kept) -> web.StreamResponse:
        return web.Response(body=await kept.text(self._leader()), headers={"Content-Type": CONTENT_TYPE})

    async def _write_all(self, manager: Manager | None) -> bytes:
        found = [*self._own(), *node_metrics(self._node.local(), leads=manager is not None)]
        if manager is not None:
            found += [*manager.metrics, *leader_metrics(manager.metrics)]
        return exposed(found)

    async def _write_mesh(self, manager: Manager | None) -> bytes:
        return await in_thread(exposed_many, mesh_series(await self._node.carried()))

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


def _of_nodes(manager: Manager) -> list[ManySamples]:
    return node_series(manager.view, manager.usage)


def _writing(series: Series, asks: bool = False) -> Write:
    """Returns what writes very many lines of a leader: they are read at once, and written in a thread: the
    first time takes a tenth of a second."""

    async def write(manager: Manager | None) -> bytes:
        if manager is None:
            return NOT_LEADER
        if asks:
            await manager.usage.ask_nodes(SCRAPED_S)
        return await in_thread(exposed_many, series(manager))

    return write


class _Kept:
    """An answer that is kept for a moment. Those who ask while it is written get the same."""

    def __init__(self, write: Write, kept_s: float) -> None:
        self._write = write
        self._kept_s = kept_s
        self._lock = asyncio.Lock()
        self._until = 0.0  # loop time
        self._of: Callable[[], Manager | None] = lambda: None  # a leader that has ended is let go of
        self._said = b""

    async def text(self, manager: Manager | None) -> bytes:
        """Returns what there is of the leader, None: that there is none here."""
        now = asyncio.get_running_loop().time
        async with self._lock:
            if self._of() is not manager or now() > self._until or not self._said:
                self._said = await self._write(manager)
                self._of = weakref.ref(manager) if manager is not None else lambda: None
                self._until = now() + self._kept_s
            return self._said
