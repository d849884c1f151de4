"""/swarm (Engine API 1.51)."""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct, field
from msgspec.structs import replace

from skep.api.decode import query_bool, query_parsed_bool, query_version, read_body
from skep.api.interfaces import InitRequest, JoinRequest, SwarmNode, UnlockRequest
from skep.api.objects import Version, reply_time
from skep.api.route import LeaderRoute, Route
from skep.api.routes.reply import reply
from skep.api.tls_info import tls_info
from skep.model.cluster import (
    HEARTBEAT_NS,
    HISTORY_LIMIT,
    NODE_CERT_EXPIRY_NS,
    Cluster,
    DispatcherConfig,
    OrchestrationConfig,
    RaftConfig,
    SwarmSpec,
)
from skep.model.node import NodeTLSInfo
from skep.model.wire import Wire

_UPDATE = ("version", "rotateWorkerToken", "rotateManagerToken", "rotateManagerUnlockKey")


class JoinTokens(Struct, rename="pascal"):
    worker: str
    manager: str


class ClusterJson(Wire, frozen=True, kw_only=True):
    """ClusterInfo; with `JoinTokens` it is the answer of `GET /swarm`."""

    id: str = field(name="ID")
    version: Version
    created_at: str
    updated_at: str
    spec: SwarmSpec
    tls_info: NodeTLSInfo | None = field(name="TLSInfo")
    root_rotation_in_progress: bool = field(default_factory=lambda: False)
    default_addr_pool: list[str] | None = field(
        default_factory=lambda: None
    )  # written as null, as Docker does
    subnet_size: int
    data_path_port: int
    join_tokens: JoinTokens | None = None


def cluster_json(cluster: Cluster, tokens: tuple[str, str] | None = None) -> ClusterJson:
    """Returns the swarm; join tokens only where they may be seen."""
    return ClusterJson(
        id=cluster.id,
        version=Version(cluster.version),
        created_at=reply_time(cluster.created_at),
        updated_at=reply_time(cluster.updated_at),
        spec=_filled(cluster.spec),
        tls_info=tls_info(cluster),
        root_rotation_in_progress=cluster.rotation is not None,
        default_addr_pool=cluster.default_addr_pool or None,
        subnet_size=cluster.subnet_size,
        data_path_port=cluster.data_path_port,
        join_tokens=JoinTokens(*tokens) if tokens is not None else None,
    )


def _filled(spec: SwarmSpec) -> SwarmSpec:
    """Writes out the defaults in force, as Docker stores them."""
    raft = spec.raft
    return replace(
        spec,
        orchestration=OrchestrationConfig(
            task_history_retention_limit=HISTORY_LIMIT
            if spec.orchestration.task_history_retention_limit is None
            else spec.orchestration.task_history_retention_limit
        ),
        raft=RaftConfig(
            snapshot_interval=raft.snapshot_interval or 10000,
            keep_old_snapshots=raft.keep_old_snapshots or 0,
            log_entries_for_slow_followers=raft.log_entries_for_slow_followers or 500,
            election_tick=raft.election_tick or 10,
            heartbeat_tick=raft.heartbeat_tick or 1,
        ),
        dispatcher=DispatcherConfig(heartbeat_period=spec.dispatcher.heartbeat_period or HEARTBEAT_NS),
        ca_config=replace(
            spec.ca_config, node_cert_expiry=spec.ca_config.node_cert_expiry or NODE_CERT_EXPIRY_NS
        ),
    )


class SwarmRoutes:
    def __init__(self, node: SwarmNode) -> None:
        self._node = node

    def routes(self) -> list[Route]:
        return [
            LeaderRoute("GET", "/swarm", self.inspect, answer=ClusterJson),
            Route("POST", "/swarm/init", self.init, body=InitRequest, answer=str),
            Route("POST", "/swarm/join", self.join, body=JoinRequest),
            Route("POST", "/swarm/leave", self.leave, query=("force",)),
            LeaderRoute("POST", "/swarm/update", self.update, body=SwarmSpec, query=_UPDATE),
            LeaderRoute("GET", "/swarm/unlockkey", self.unlock_key),
            Route("POST", "/swarm/unlock", self.unlock, body=UnlockRequest),
        ]

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        cluster = self._node.manager().view.cluster
        assert cluster is not None
        return reply(cluster_json(cluster, self._node.join_tokens(cluster)))

    async def init(self, request: web.Request) -> web.StreamResponse:
        body, _ = await read_body(request, InitRequest)
        return reply(await self._node.init(body))

    async def join(self, request: web.Request) -> web.StreamResponse:
        body, _ = await read_body(request, JoinRequest)
        await self._node.join(body)
        return web.Response()

    async def leave(self, request: web.Request) -> web.StreamResponse:
        await self._node.leave(query_bool(request, "force"))
        return web.Response()

    async def update(self, request: web.Request) -> web.StreamResponse:
        spec, _ = await read_body(request, SwarmSpec)
        version = query_version(request, "swarm")
        worker, manager, key = (
            query_parsed_bool(request, name, says_why=False)
            for name in ("rotateWorkerToken", "rotateManagerToken", "rotateManagerUnlockKey")
        )
        await self._node.manager().swarm.update(
            version, spec, rotate_worker=worker, rotate_manager=manager, rotate_unlock_key=key
        )
        return web.Response()

    async def unlock_key(self, request: web.Request) -> web.StreamResponse:
        cluster = self._node.manager().view.cluster
        return reply({"UnlockKey": cluster.unlock_key if cluster is not None else ""})

    async def unlock(self, request: web.Request) -> web.StreamResponse:
        body, _ = await read_body(request, UnlockRequest)
        await self._node.unlock(body.unlock_key)
        return web.Response()
