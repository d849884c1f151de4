"""The daemon at work: what it is made of, and what it serves."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import random
from functools import partial
from pathlib import Path

import structlog
from msgspec.structs import replace

from skep import __version__
from skep.agent.executor.interfaces import Executor
from skep.agent.plane import Plane
from skep.api.engine import LocalEngine
from skep.api.forward import LeaderForward
from skep.api.metrics_server import MetricsServer
from skep.api.routes import ApiContext, all_routes
from skep.api.routes.metrics import MetricRoutes
from skep.api.server import ApiServer
from skep.daemon.addresses import parse_address
from skep.daemon.given_socket import GivenSocket
from skep.daemon.node import SkepNode
from skep.daemon.state import StateDir
from skep.daemon.this_host import HostSettings, ThisHost
from skep.model.docker_socket import Given
from skep.rpc import streams
from skep.runtime.clock import SystemClock
from skep.runtime.errors import Invalid, SkepError
from skep.runtime.garbage import SetAside
from skep.runtime.ids import system_rng
from skep.runtime.settings import Settings, metrics_address
from skep.runtime.stall import StallWatch
from skep.runtime.supervise import cancel_and_wait, told_to_end
from skep.runtime.tls_files import server_context

log = structlog.get_logger()

API_PORT = 2376
SETTLE_S = 3.0  # a manager that is started again is led by then; a request waits for a leader by itself
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def load(settings: Settings) -> None:
    """Loads what real containers need, a fifth of a second's work: once the loop runs, others would wait."""
    if settings.engine_socket is not None:
        for name in ("agent.executor.docker", "agent.naming", "network.plane"):
            importlib.import_module(f"skep.{name}")


async def serve(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT. Errors: `Invalid`, `Corrupt`, `Unavailable` at the start."""
    state = StateDir(Path(settings.state_dir))
    engine = LocalEngine(settings.engine_socket)
    given = GivenSocket(settings)
    host = make_host(settings, state, given)
    node = SkepNode(host, state)
    garbage, stall = SetAside(), StallWatch()
    garbage.start()
    stall.start()
    internal_context = ApiContext(node, engine, settings.hostname, stall)
    internal = make_api(internal_context)
    api = make_api(replace(internal_context, forward=LeaderForward(node), given=given.current))
    metrics = MetricsServer(MetricRoutes(node, stall).scraped()) if settings.metrics_addr else None
    renewing: asyncio.Future[None] | None = None
    stopped = told_to_end()
    try:
        if metrics is not None:  # first: what cannot be is said before anything is begun
            await listen_for_scrapes(metrics, settings)
        await api.start()
        await internal.start()
        await internal.listen_bound(host.sockets.bind(streams.API))
        # Before tasks are started, which may need it; who connects by now is answered when all is there.
        bound = given.bind(host.sockets)
        await node.start()
        await node.wait_settled(SETTLE_S)
        await listen(api, settings)
        if bound is not None:
            await api.listen_bound(bound)
            renewing = asyncio.ensure_future(given.renew_mounts())
        if settings.safe_mode:
            log.warning("skepd.safe_mode", meaning="nothing is decided while this manager leads")
        log.info("skepd.started", version=__version__, name=settings.hostname, hosts=settings.host)
        await stopped.wait()
        log.info("skepd.stopping")
    finally:
        await cancel_and_wait(renewing)
        stall.stop()
        garbage.stop()
        if metrics is not None:
            await metrics.close()
        await api.close()
        await internal.close()
        with contextlib.suppress(SkepError):
            await node.stop()
        host.close()
        await engine.close()


def make_host(settings: Settings, state: StateDir, given: GivenSocket) -> ThisHost:
    """Returns this machine, as its node uses it."""
    clock, rng = SystemClock(), system_rng()
    return ThisHost(
        state.path,
        HostSettings(settings.hostname, settings.etcd, settings.safe_mode),
        clock,
        rng,
        partial(make_executor, settings, rng, given.current),
        # Simulated containers have no addresses to lead to.
        make_plane=make_plane if settings.engine_socket is not None else None,
    )


def make_executor(settings: Settings, rng: random.Random, given: Given) -> Executor:
    """Returns what runs this node's tasks. Each kind has libraries that the other does not need."""
    clock = SystemClock()
    if settings.engine_socket is None:
        from skep.agent.executor.simulated import SimulatedExecutor, SimulatedSettings

        return SimulatedExecutor(settings.hostname, SimulatedSettings(), rng, clock)
    from skep.agent.executor.docker import DockerExecutor

    return DockerExecutor(settings.engine_socket, settings.hostname, clock, docker_socket=given)


def make_plane(node_id: str, swarm_id: str = "") -> Plane:
    """Returns what programs this node's kernel: with netlink's library, which takes its time to load."""
    from skep.network.plane import DataPlane

    return DataPlane(node_id, swarm_id)


def make_api(context: ApiContext) -> ApiServer:
    """Returns the API for users, or the one for other managers, which passes nothing on."""
    header = f"skep/{__version__} (linux)"
    return ApiServer(context.engine, all_routes(context), header, context.forward)


async def listen_for_scrapes(metrics: MetricsServer, settings: Settings) -> None:
    """Errors: `Invalid`."""
    host, port = metrics_address(settings.metrics_addr)
    log.info("skepd.metrics", host=host, port=await metrics.listen(host, port))


async def listen(api: ApiServer, settings: Settings) -> None:
    """Opens every host. Errors: `Invalid`."""
    for host in settings.host:
        if host.startswith("unix://"):
            await api.listen_unix(Path(host.removeprefix("unix://")))
            continue
        address, port = parse_address(host.removeprefix("tcp://"), API_PORT)
        if not settings.tlsverify:
            if address not in LOOPBACK:
                raise Invalid(
                    f"--host {host} without --tlsverify would give this machine to whoever reaches it:"
                    " only loopback addresses may be served without TLS"
                )
            await api.listen_tcp(address, port, None)
            continue
        context = server_context(Path(settings.tlscacert), Path(settings.tlscert), Path(settings.tlskey))
        await api.listen_tcp(address, port, context)
