"""The machine that skepd runs on, as a platform of its node."""

from __future__ import annotations

import asyncio
import importlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from skep.agent.executor.interfaces import Executor
from skep.agent.plane import Plane
from skep.daemon.agent_runner import (
    AgentOwner,
    AgentParts,
    AgentRunner,
    AgentSettings,
    Line,
    TlsLine,
    look_at_host,
)
from skep.daemon.socket_dir import SocketDir
from skep.daemon.state import Membership
from skep.model.host_network import HostNetwork
from skep.rpc.certificates import NodeKeys
from skep.rpc.enrol import Stayed
from skep.runtime.clock import Clock
from skep.runtime.supervise import in_thread

if TYPE_CHECKING:
    from skep.daemon.platform import ManagerParts


class HostSettings(Struct, frozen=True):
    """Of one daemon: `etcd` is the program that managers run; in `safe_mode` a manager decides nothing."""

    hostname: str
    etcd: str = "etcd"
    safe_mode: bool = False


class ThisHost:
    """Fulfils `platform.HostPlatform`. `state_dir` is where etcd's data and the managers' sockets are.
    `make_executor` gives a new executor for each membership, `make_plane` what programs the routing mesh, of
    a node and of a cluster, None where nothing does."""

    def __init__(
        self,
        state_dir: Path,
        settings: HostSettings,
        clock: Clock,
        rng: random.Random,
        make_executor: Callable[[], Executor],
        make_plane: Callable[[str, str], Plane] | None = None,
    ) -> None:
        self.hostname = settings.hostname
        self.safe_mode = settings.safe_mode
        self.clock = clock
        self.rng = rng
        self.sockets = SocketDir(state_dir / "run")
        self._state_dir = state_dir
        self._etcd = settings.etcd
        self._make_executor = make_executor
        self._make_plane = make_plane

    def make_executor(self) -> Executor:
        return self._make_executor()

    def make_plane(self, node_id: str, cluster_id: str = "") -> Plane | None:
        return self._make_plane(node_id, cluster_id) if self._make_plane is not None else None

    def make_agent(
        self, settings: AgentSettings, line: Line, parts: AgentParts, owner: AgentOwner
    ) -> AgentRunner:
        return AgentRunner(settings, line, parts, owner)

    async def own_networks(self) -> list[HostNetwork]:
        return await in_thread(look_at_host) if self._make_plane is not None else []

    def line(self, keys: NodeKeys, stayed: Stayed | None = None) -> Line:
        return TlsLine(keys, stayed)

    async def manager_parts(
        self, membership: Membership, keys: NodeKeys, moved: Callable[[dict[str, str]], None]
    ) -> ManagerParts:
        await load_manager()
        from skep.daemon.manager_parts import manager_parts

        return manager_parts(self._state_dir, self._etcd, self.sockets, membership, keys, moved)

    def close(self) -> None:
        self.sockets.close()


async def load_manager() -> None:
    """Loads what a manager is made of: half a second's work, for which nothing else on this host waits."""
    # Not above: a worker does without numpy and grpc (25 MB).
    for name in ("manager_parts", "manager_runner"):
        await asyncio.to_thread(importlib.import_module, f"skep.daemon.{name}")
