"""/info, /version, /_ping: the engine's own answers with the swarm's part added."""

from __future__ import annotations

import os
import platform
from typing import Any

from aiohttp import web

from skep import __version__
from skep.api.decode import read_bytes
from skep.api.engine import LocalEngine
from skep.api.interfaces import SwarmNode
from skep.api.route import Route
from skep.api.routes.reply import reply
from skep.api.routes.swarm import cluster_json
from skep.api.versions import MIN_VERSION, show_version
from skep.model.aside import NODE, SERVICE
from skep.model.node import Node
from skep.runtime.errors import NoLeader, Unavailable
from skep.store.view import View

NAMED_MAX = 5  # ids in a warning


WARNINGS = "SkepWarnings"  # of the leader, in what it tells other managers
SAFE_MODE = "skepd runs in safe mode: nothing is decided, no node is served (start it without --safe-mode)"


def _of_asides(view: View) -> list[str]:
    """What the leader has set aside, one sentence a kind."""
    found = []
    for kind in (SERVICE, NODE):
        ids = sorted(each.id for each in view.asides.values() if each.kind == kind)
        if ids:
            more = f" and {len(ids) - NAMED_MAX} more" if len(ids) > NAMED_MAX else ""
            names = ", ".join(ids[:NAMED_MAX])
            found.append(f"nothing is decided about {kind} {names}{more} (GET /skep/v1/asides says why)")
    if view.quarantine:
        count = len(view.quarantine)
        found.append(f"{count} stored values cannot be read: skep store ls --quarantined")
    return found


class SystemRoutes:
    def __init__(self, node: SwarmNode, engine: LocalEngine, hostname: str) -> None:
        self._node = node
        self._engine = engine
        self._hostname = hostname

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/_ping", self.ping),
            Route("HEAD", "/_ping", self.ping),
            Route("GET", "/info", self.info),
            Route("GET", "/version", self.version),
            Route("GET", "/_ping", self.ping, is_internal=True),
            Route("GET", "/skep/v1/health", self.health, is_internal=True),
            Route("GET", "/skep/v1/seen", self.seen, is_internal=True),
            Route("GET", "/skep/v1/swarm", self.swarm, is_internal=True),
            Route("POST", "/skep/v1/enrol", self.enrol, is_internal=True),
        ]

    async def ping(self, request: web.Request) -> web.StreamResponse:
        local = self._node.local()
        state = local.state
        if state == "active":
            state = "active/manager" if local.is_manager else "active/worker"
        headers = {
            "Cache-Control": "no-cache, no-store, must-revalidate",
            "Pragma": "no-cache",
            "Swarm": state,
            "Builder-Version": "1",
        }
        if request.method == "HEAD":
            return web.Response(headers=headers, content_type="text/plain", charset="utf-8")
        return web.Response(text="OK", headers=headers)

    async def info(self, request: web.Request) -> web.StreamResponse:
        """Clients ask it before most of the swarm's commands: it answers within a second, and says what the
        engine does not."""
        info, why = ({}, "") if self._engine.socket_path is None else await self._engine.latest("/info")
        info = info or _info_without_engine(self._hostname)
        if why:
            info["Warnings"] = [*(info.get("Warnings") or []), f"WARNING: {why}"]
        info["Name"] = self._hostname
        swarm = info["Swarm"] = await self._swarm()
        said = [*([SAFE_MODE] if self._node.local().safe_mode else []), *swarm.pop(WARNINGS, ())]
        warnings = [f"WARNING: {each}" for each in dict.fromkeys(said)]
        if warnings:
            info["Warnings"] = [*(info.get("Warnings") or []), *warnings]
        return reply(info)

    async def _swarm(self) -> dict[str, Any]:
        local = self._node.local()
        swarm: dict[str, Any] = {
            "NodeID": local.node_id,
            "NodeAddr": local.addr,
            "LocalNodeState": local.state,
            "ControlAvailable": local.is_manager,
            "Error": local.error,
            "RemoteManagers": [{"NodeID": i, "Addr": a} for i, a in local.managers] or None,
        }
        try:
            if self._node.leader_socket() is not None:
                swarm.update(await self._node.leader_says())
            else:
                swarm.update(self._of_leader())
        except NoLeader as error:
            swarm["Error"] = swarm["Error"] or str(error)
        except (Unavailable, TimeoutError):
            pass  # a worker, or a leader that went a moment ago
        return swarm

    def _of_leader(self) -> dict[str, Any]:
        """What only the leader can say. Errors: `NotManager`."""
        manager = self._node.manager()
        view = manager.view
        nodes: list[Node] = list(view.nodes.values())
        found: dict[str, Any] = {
            "Nodes": len(nodes),
            "Managers": sum(1 for n in nodes if n.spec.role == "manager"),
        }
        if view.cluster is not None:
            found["Cluster"] = cluster_json(view.cluster)
        held = manager.why_nodes_are_held
        waits = manager.data_key.why_late
        warnings = [
            *([SAFE_MODE] if manager.safe_mode else []),
            *_of_asides(view),
            *([f"nodes that are not heard of are not given up: {held}"] if held else []),
            *([f"the swarm's data key is to be changed, which waits: {waits}"] if waits else []),
        ]
        if warnings:
            found[WARNINGS] = warnings
        return found

    # What managers ask each other

    async def health(self, request: web.Request) -> web.StreamResponse:
        await self._node.check_health()
        return web.Response(text="OK")

    async def seen(self, request: web.Request) -> web.StreamResponse:
        return reply(self._node.seen_nodes())

    async def swarm(self, request: web.Request) -> web.StreamResponse:
        return reply(self._of_leader())

    async def enrol(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=await self._node.enrol_for(await read_bytes(request)))

    async def version(self, request: web.Request) -> web.StreamResponse:
        own = {"Name": "skep", "Version": __version__, "Details": {"Python": platform.python_version()}}
        api = show_version(await self._engine.max_version())
        found, _ = ({}, "") if self._engine.socket_path is None else await self._engine.latest("/version")
        found = found or _version_without_engine()
        found["Platform"] = {"Name": f"skep {__version__}"}
        found["ApiVersion"] = api
        found["MinAPIVersion"] = show_version(MIN_VERSION)
        found["Components"] = [*(found.get("Components") or []), own]
        return reply(found)


def _go_arch() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _version_without_engine() -> dict[str, Any]:
    return {
        "Version": __version__,
        "Os": "linux",
        "Arch": _go_arch(),
        "KernelVersion": platform.release(),
        "GoVersion": "",
        "GitCommit": "",
        "BuildTime": "",
    }


def _info_without_engine(hostname: str) -> dict[str, Any]:
    """What there is to say of a node whose engine is simulated, or does not answer."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "ID": "",
        "Containers": 0,
        "Images": 0,
        "Driver": "none",
        "Name": hostname,
        "ServerVersion": f"skep {__version__}",
        "OperatingSystem": "skep",
        "OSType": "linux",
        "Architecture": platform.machine(),
        "KernelVersion": platform.release(),
        "NCPU": os.cpu_count() or 1,
        "MemTotal": pages,
        "Plugins": {"Volume": [], "Network": [], "Log": []},
        "SecurityOptions": [],
    }
