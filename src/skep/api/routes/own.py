"""/skep/v1: what Docker has no word for."""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct, field

from skep.api.decode import read_body
from skep.api.interfaces import Manager, SwarmNode
from skep.api.objects import reply_time
from skep.api.resolve import find_service, find_task_or_named
from skep.api.route import LeaderRoute, Route
from skep.api.routes.reply import reply
from skep.model.aside import NODE, Aside, Unreadable
from skep.model.cluster import Cluster
from skep.model.wire import Wire
from skep.runtime.errors import Invalid, NotFound
from skep.runtime.metrics import Registry
from skep.runtime.stall import StallWatch
from skep.store.view import View


class Stats(Struct):
    """Counts of this manager; what its loop was held for at most since that was last reset: in all, and by
    its own work."""

    nodes: dict[str, int]
    tasks: int
    running: int
    pending: int
    stranded: int  # wanted on nodes that are down: not yet placed again
    etcd_pid: int
    loop_stall_max_s: float
    loop_stall_cpu_max_s: float = 0.0


class ClusterSettings(Wire, frozen=True, kw_only=True):
    """What services may have of their nodes, and be placed by, and what leads connections to published ports
    (`nftables`, `ipvs`); what a request leaves out stays as it is."""

    allow_devices: bool | None = None
    allow_privileged: bool | None = None
    allow_self_reported_constraints: bool | None = None
    data_path: str | None = None


class DataKeyJson(Wire, frozen=True, kw_only=True):
    """How often another data key was wanted, as far as that has come about, and what it waits for."""

    wanted: int
    done: int
    why: str


class AsideJson(Wire, frozen=True, kw_only=True):
    """A service or node that nothing is decided about. `AgainAt` is empty where it is not tried by itself."""

    kind: str
    id: str = field(name="ID")
    name: str
    reason: str
    tries: int
    again_at: str


class AsidesJson(Wire, frozen=True, kw_only=True):
    """All that is set aside, and the keys of the store that cannot be read."""

    asides: list[AsideJson]
    quarantine: list[Unreadable]


def _aside_json(view: View, aside: Aside) -> AsideJson:
    node, service = view.nodes.get(aside.id), view.services.get(aside.id)
    if aside.kind == NODE:
        name = node.description.hostname if node is not None else ""
    else:
        name = service.spec.name if service is not None else ""
    return AsideJson(
        kind=aside.kind,
        id=aside.id,
        name=name,
        reason=aside.reason,
        tries=aside.tries,
        again_at="" if aside.is_unreadable else reply_time(aside.again_at),
    )


def _settings(cluster: Cluster) -> ClusterSettings:
    return ClusterSettings(
        allow_devices=cluster.allow_devices,
        allow_privileged=cluster.allow_privileged,
        allow_self_reported_constraints=cluster.allow_self_reported_constraints,
        data_path=cluster.data_path,
    )


def _data_key(manager: Manager) -> DataKeyJson:
    """Errors: `NotFound`."""
    cluster = manager.view.cluster
    if cluster is None:
        raise NotFound("this store holds no swarm")
    return DataKeyJson(wanted=cluster.data_key_wanted, done=cluster.data_key_done, why=manager.data_key.why)


class OwnRoutes:
    def __init__(self, node: SwarmNode, stall: StallWatch) -> None:
        self._node = node
        self._stall = stall
        self._process = Registry(stall.metrics)

    def routes(self) -> list[Route]:
        return [
            LeaderRoute("GET", "/skep/v1/stats", self.stats, answer=Stats),
            LeaderRoute("GET", "/skep/v1/tasks/{id}/explain", self.explain_task),
            LeaderRoute("GET", "/skep/v1/services/{id}/explain", self.explain_service),
            LeaderRoute("GET", "/skep/v1/asides", self.asides, answer=AsidesJson),
            LeaderRoute("GET", "/skep/v1/cluster/settings", self.settings, answer=ClusterSettings),
            LeaderRoute(
                "POST",
                "/skep/v1/cluster/settings",
                self.change_settings,
                body=ClusterSettings,
                answer=ClusterSettings,
            ),
            LeaderRoute("GET", "/skep/v1/cluster/data-key", self.data_key, answer=DataKeyJson),
            LeaderRoute("POST", "/skep/v1/cluster/data-key/rotate", self.rotate_data_key, answer=DataKeyJson),
            Route("POST", "/skep/v1/stats/reset", self.reset),
        ]

    async def stats(self, request: web.Request) -> web.StreamResponse:
        metrics = self._node.manager().metrics
        states = metrics.by("skep_nodes", "state")
        return reply(
            Stats(
                nodes={state: int(count) for state, count in states.items() if count},
                tasks=int(metrics.total("skep_tasks_known")),
                running=int(metrics.total("skep_tasks_running")),
                pending=int(metrics.total("skep_tasks_pending")),
                stranded=int(metrics.total("skep_tasks_stranded")),
                etcd_pid=self._node.local().etcd_pid,
                loop_stall_max_s=round(self._process.total("skep_loop_stall_max_seconds"), 4),
                loop_stall_cpu_max_s=round(self._process.total("skep_loop_stall_cpu_max_seconds"), 4),
            )
        )

    async def explain_task(self, request: web.Request) -> web.StreamResponse:
        manager = self._node.manager()
        return reply(manager.explain_task(find_task_or_named(manager.view, request.match_info["id"])))

    async def explain_service(self, request: web.Request) -> web.StreamResponse:
        manager = self._node.manager()
        return reply(manager.explain_service(find_service(manager.view, request.match_info["id"])))

    async def asides(self, request: web.Request) -> web.StreamResponse:
        view = self._node.manager().view
        asides = [_aside_json(view, each) for each in view.asides.values()]
        return reply(AsidesJson(asides=asides, quarantine=list(view.quarantine.values())))

    async def settings(self, request: web.Request) -> web.StreamResponse:
        cluster = self._node.manager().view.cluster
        if cluster is None:
            raise NotFound("this store holds no swarm")
        return reply(_settings(cluster))

    async def change_settings(self, request: web.Request) -> web.StreamResponse:
        manager = self._node.manager()
        asked, unknown = await read_body(request, ClusterSettings)
        if unknown:
            raise Invalid(f"the swarm has no setting {', '.join(sorted(unknown))}")
        cluster = await manager.swarm.allow(
            asked.allow_devices,
            asked.allow_privileged,
            asked.allow_self_reported_constraints,
            asked.data_path,
        )
        return reply(_settings(cluster))

    async def rotate_data_key(self, request: web.Request) -> web.StreamResponse:
        manager = self._node.manager()
        await manager.swarm.rotate_data_key()
        return reply(_data_key(manager))

    async def data_key(self, request: web.Request) -> web.StreamResponse:
        return reply(_data_key(self._node.manager()))

    async def reset(self, request: web.Request) -> web.StreamResponse:
        self._stall.reset()
        return web.Response(status=204)
