"""Single containers of this node on the swarm's networks, as the local engine knows them.

What marks one is an option of its endpoint, which the engine keeps with the container and which may be added
to a container that runs. So nothing of it is stored here, and whatever happens to the container is seen.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from skep.agent.executor import podman
from skep.agent.executor.bridges import Bridges, endpoint_on, node_of
from skep.agent.executor.calls import EngineCalls
from skep.agent.executor.container_config import TASK_LABEL
from skep.agent.executor.engine import EngineClient, Json
from skep.agent.executor.interfaces import InUse, Prepared
from skep.agent.executor.resolving import Resolving
from skep.model.network import COPY_LABEL
from skep.model.task import TaskAddress
from skep.rpc.checking import NAMES_MAX_BYTES, names_bytes
from skep.rpc.messages import TaskNetwork

SHORT_ID = 12  # characters, as the docker client shows it


class SingleContainers:
    """Fulfils `executor.port.Containers`."""

    def __init__(
        self,
        engine: EngineClient,
        calls: EngineCalls,
        bridges: Bridges,
        resolving: Resolving,
        node_id: Callable[[], str],
    ) -> None:
        self._engine = engine
        self._calls = calls
        self._bridges = bridges
        self._resolving = resolving
        self._node_id = node_id

    async def prepare(self, network: TaskNetwork, address: TaskAddress) -> Prepared:
        if await self._calls.look(self._engine.is_podman):
            podman.refuse_single(network.name)
        self._bridges.hold(network.id)
        name = await self._bridges.ensure(network, address.gateway)
        return Prepared(name, self._resolving.place_single(network))

    async def in_use(self) -> list[InUse]:
        found = []
        for copy in await self._bridges.listed():
            for listed in await self._calls.look(lambda copy=copy: self._engine.containers_on(copy)):  # type: ignore[misc]
                if TASK_LABEL not in (listed.get("Labels") or {}):
                    has = await self._has(copy, str(listed["Id"]))
                    if has is not None:
                        found.append(has)
        return found

    def hold(self, network_ids: frozenset[str]) -> None:
        self._bridges.hold_only(network_ids)

    async def _has(self, copy: Json, container: str) -> InUse | None:
        inspected = await self._calls.look(lambda: self._engine.inspect(container))
        if node_of(copy, inspected) != self._node_id():
            return None
        endpoint = endpoint_on(copy, inspected)
        given = endpoint.get("IPAMConfig") or {}
        text = given.get("IPv4Address") or given.get("IPv6Address")
        if not text:  # somebody put it there past skepd: the engine chose, and no manager knows of it
            return None
        if inspected is not None:
            self._resolving.adopt(inspected)
        pool = copy["IPAM"]["Config"][0]
        length = ipaddress.ip_network(pool["Subnet"]).prefixlen
        address = TaskAddress(copy["Labels"][COPY_LABEL], f"{text}/{length}", f"{pool['Gateway']}/{length}")
        return InUse(address, _names(inspected or {}, endpoint))


def _names(inspected: Json, endpoint: Json) -> tuple[str, ...]:
    """Returns what leads to a container on a network, as the engine's own DNS has it: its name, its id's
    begin, its aliases there."""
    own = [str(inspected.get("Name", "")).removeprefix("/"), str(inspected.get("Id", ""))[:SHORT_ID]]
    found = dict.fromkeys(own + [str(each) for each in endpoint.get("Aliases") or ()])
    names = [each for each in found if each and each.isprintable()]
    while names_bytes(names) > NAMES_MAX_BYTES:  # no manager takes more
        names.pop()
    return tuple(names)
