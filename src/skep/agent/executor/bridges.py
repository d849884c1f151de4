"""The swarm's networks on this node: each a bridge network of the local engine, for as long as tasks need it.

The engine's network has the swarm's subnet, this node's own address there as its gateway, and labels that say
what it stands for. Nodes that share an engine share it. What is here now is on one host only; joining the
bridges of several hosts is `skep.network`'s work.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from msgspec.structs import replace

from skep.agent.executor.calls import EngineCalls
from skep.agent.executor.container_config import NODE_LABEL, TASK_LABEL
from skep.agent.executor.engine import EngineClient, Json
from skep.agent.executor.interfaces import TaskContext
from skep.agent.executor.refusals import EngineError, is_name_taken, is_overlap
from skep.agent.executor.resolving import Resolving, gateway_of
from skep.agent.executor.routes import clash_with_host
from skep.model.attachment import NODE_OPTION
from skep.model.network import COPY_LABEL, COPY_NAME_LABEL, OVERLAY
from skep.model.overlay import MTU_OPTION, mtu_of
from skep.network.netlink import make_bare_bridge, make_bridge
from skep.rpc.messages import TaskNetwork
from skep.runtime.errors import Conflict, SkepError
from skep.runtime.supervise import in_thread

log = structlog.get_logger()

LINGER_S = 2.0  # an unused bridge stays so long: the task that follows the last one need not make it anew
OVERLAP_TRIES, OVERLAP_WAIT_S = 10, 0.2  # an engine makes a bridge in less than a second
BRIDGE_OPTION = "com.docker.network.bridge.name"
_SINGLE = "single containers"  # who holds a bridge, beside tasks
LIVE = ("created", "running", "paused", "restarting")  # states in which a container needs its networks

Aside = Callable[[Coroutine[Any, Any, None]], None]


class Bridges:
    """`aside` runs what nobody waits for."""

    def __init__(
        self,
        engine: EngineClient,
        calls: EngineCalls,
        aside: Aside,
        node_id: Callable[[], str],
        resolving: Resolving | None = None,
    ) -> None:
        self._engine = engine
        self._node_id = node_id
        self._calls = calls
        self._aside = aside
        self._resolving = resolving if resolving is not None else Resolving()
        self._users: dict[str, set[str]] = {}  # network -> tasks here that are on it
        self._joined: dict[str, tuple[str, ...]] = {}  # task -> its networks
        self._locks: dict[str, asyncio.Lock] = {}

    async def prepare(self, context: TaskContext) -> list[tuple[str, Json]]:
        """Returns the engine's networks for a task, there by now, each with the task's endpoint on it.

        Errors: `EngineError` where a bridge cannot be made; the text says why.
        """
        task = context.task
        addresses = {address.network_id: address for address in task.addresses}
        networks = [n for n in context.template.networks if n.driver != OVERLAY or n.id in addresses]
        self._join(task.id, tuple(n.id for n in networks if not _is_nodes_own(n)))
        found: list[tuple[str, Json]] = []
        for network in networks:
            if _is_nodes_own(network):
                found.append((network.driver, {}))
                continue
            given = addresses.get(network.id)
            name = await self.ensure(network, given.gateway if given is not None else "")
            endpoint: Json = {}
            if given is not None:
                family = "IPv6Address" if ":" in given.address else "IPv4Address"
                endpoint["IPAMConfig"] = {family: given.address.partition("/")[0]}
            if network.aliases and not self._resolving.has_names(network):
                endpoint["Aliases"] = network.aliases
            if network.driver_opts:
                endpoint["DriverOpts"] = network.driver_opts
            found.append((name, endpoint))
        return found

    def hold(self, network_id: str) -> None:
        """A single container is to be on the network: its bridge stays until `hold_only` says otherwise."""
        self._join(_SINGLE, tuple({*self._joined.get(_SINGLE, ()), network_id}))

    def hold_only(self, network_ids: frozenset[str]) -> None:
        """Single containers are on these networks, and on no others."""
        for network_id in set(self._joined.pop(_SINGLE, ())) - network_ids:
            self._leave(network_id, _SINGLE)
        self._join(_SINGLE, tuple(sorted(network_ids)))

    def adopt(self, task_id: str, network_ids: tuple[str, ...]) -> None:
        """The container of a task that is there already is on these networks."""
        self._join(task_id, network_ids)

    def leave(self, task_id: str) -> None:
        """The task needs its networks no more; bridges that nobody here needs go."""
        for network_id in self._joined.pop(task_id, ()):
            self._leave(network_id, task_id)

    async def remove_leftovers(self) -> None:
        """Removes the bridges of before that no task here needs any more."""
        for copy in await self.listed():
            network_id = copy["Labels"][COPY_LABEL]
            if network_id not in self._users:
                self._aside(self._remove_unused(network_id))

    async def copies(self) -> dict[str, str]:
        """Returns the swarm's network of each engine's network that stands for one."""
        return {copy["Id"]: copy["Labels"][COPY_LABEL] for copy in await self.listed()}

    @property
    def ensured(self) -> frozenset[str]:
        """Returns the swarm's networks that were needed here since the start, and may still have a bridge."""
        return frozenset(self._locks)

    def clear(self) -> None:
        """Forgets who is on what; the bridges stay."""
        self._users.clear()
        self._joined.clear()

    # Inside

    def _join(self, task_id: str, network_ids: tuple[str, ...]) -> None:
        if network_ids:
            self._joined[task_id] = network_ids
            for network_id in network_ids:
                self._users.setdefault(network_id, set()).add(task_id)

    def _leave(self, network_id: str, user: str) -> None:
        users = self._users.get(network_id, set())
        users.discard(user)
        if not users:
            self._users.pop(network_id, None)
            self._aside(self._remove_unused(network_id))

    async def listed(self, network_id: str = "") -> list[Json]:
        """Returns the engine's networks that stand for the swarm's, or for one of them."""
        label = f"{COPY_LABEL}={network_id}" if network_id else COPY_LABEL
        copies = await self._calls.look(lambda: self._engine.networks(label))
        self._resolving.seen(copies)
        return copies

    async def ensure(self, network: TaskNetwork, gateway: str) -> str:
        """Returns the name of the engine's network that stands for the swarm's; it is there by now. Errors:
        `EngineError`."""
        lock = self._locks.setdefault(network.id, asyncio.Lock())
        async with lock:
            copies = await self.listed(network.id)
            if copies and not _is_on_its_bridge(copies[0], network):
                # An earlier skep had it made: it goes as soon as nobody is on it, and until then the mesh
                # says what is to be done (`network.desired`). Or another swarm has the bridge, and it stays.
                if await self._have_bridge(network):
                    await self._remove_copy(copies[0])
                    copies = await self.listed(network.id)
            elif copies and len(self._users.get(network.id, ())) <= 1:  # with others, the bridge is there
                await self._mend_bridge(network, copies[0])
            if not copies:
                await self._create(network, gateway)
                copies = await self.listed(network.id)
                if copies and gateway_of(copies[0]) != gateway.partition("/")[0]:
                    # Another node that shares this engine was faster: what it was to be here it is not.
                    await self._mend_bridge(network, copies[0], is_new=True)
            if not copies:
                raise EngineError(500, f"the bridge of network {network.name} is gone again")
            return str(copies[0]["Name"])

    async def _mend_bridge(self, network: TaskNetwork, copy: Json, is_new: bool = False) -> None:
        """The engine does not look whether the bridge of its network is there, nor whether it has the address
        that containers lead their packets to: somebody may have deleted it meanwhile."""
        address, length = gateway_of(copy), network.subnet.rpartition("/")[2]
        if address:
            await self._have_bridge(network, f"{address}/{length}", is_new)

    async def _have_bridge(self, network: TaskNetwork, address: str = "", is_new: bool = False) -> bool:
        """As `make_bridge`. Returns False where the network is to be on a bridge that the engine names:
        another swarm's on this host has ours. Its containers reach those of this host then, as the mesh says
        (`network.turn`)."""
        if not network.bridge:
            return True
        try:
            mtu = mtu_of(network.options)
            await in_thread(make_bridge, network.bridge, mtu, network.subnet, address, is_new)
        except Conflict as error:
            log.warning("bridge.anothers", network=network.name, error=str(error))
            return False
        except SkepError as error:  # without the right to, it is the engine's to make
            log.info("bridge.left_to_engine", network=network.name, error=str(error))
        return True

    async def _create(self, network: TaskNetwork, gateway: str) -> None:
        if network.subnet:
            clash = await in_thread(clash_with_host, network.subnet)
            if clash:
                raise EngineError(403, _clash(network, network.subnet, clash))
        # An engine that gives a bridge another address takes the one it has away first, and with it the ways
        # to all other nodes (seen with 20.10): it finds the one that it wants there.
        if not await self._have_bridge(network, gateway, is_new=True):
            network = replace(network, bridge="")
        is_podman = bool(network.bridge) and await self._calls.look(self._engine.is_podman)
        if is_podman:  # 5.4 makes no network of addresses that the host has: until then the bridge has none
            await in_thread(make_bare_bridge, network.bridge)
        try:
            await self._create_on(network, gateway)
        finally:
            if is_podman:
                await self._have_bridge(network, gateway, is_new=True)

    async def _create_on(self, network: TaskNetwork, gateway: str) -> None:
        body = _body(network, gateway)
        if network.config_from:
            body.update(_configured(network, await self._configuration(network.config_from)))
        for name in (network.name, f"{network.name}.{network.id[:12]}"):
            create = functools.partial(self._engine.create_network, {**body, "Name": name})
            try:
                await self._calls.to_the_end(create)
                return
            except EngineError as error:
                if await self.listed(network.id):
                    return  # another node that shares this engine was faster
                if is_name_taken(error) and name == network.name:
                    continue  # a network of the engine's own has the name
                if not is_overlap(error):
                    raise
                if await self._came_after_all(network, create):
                    return
                whose = "that of another network of this engine"
                raise EngineError(403, _clash(network, _subnets(body), whose)) from error

    async def _configuration(self, name: str) -> Json:
        """Returns what was made here with `network create --config-only`. Errors: `EngineError`, in the
        engine's words."""
        found = await self._calls.look(lambda: self._engine.configuration(name))
        if found is None:
            raise EngineError(404, f'configuration network "{name}" does not exist')
        return found

    async def _came_after_all(
        self, network: TaskNetwork, create: Callable[[], Coroutine[Any, Any, None]]
    ) -> bool:
        """Waits a little for what the engine has begun to make for another node, and does not list yet, or
        for one that stood for a network of before, and goes."""
        for copy in await self.listed():
            before = copy["Labels"][COPY_LABEL]
            if before != network.id and before not in self._users:
                await self._remove_copy(copy)
        for _ in range(OVERLAP_TRIES):
            await asyncio.sleep(OVERLAP_WAIT_S)
            if await self.listed(network.id):
                return True
            with contextlib.suppress(EngineError):
                await self._calls.to_the_end(create)
        return False

    async def _remove_unused(self, network_id: str) -> None:
        await asyncio.sleep(LINGER_S)
        lock = self._locks.setdefault(network_id, asyncio.Lock())
        async with lock:
            if network_id in self._users:
                return
            copies = await self.listed(network_id)
            self._resolving.stop(network_id)  # not before: what is listed is known from then on
            for copy in copies:
                await self._remove_copy(copy)
        self._locks.pop(network_id, None)

    async def _remove_copy(self, copy: Json) -> None:
        """Unless a node that shares this engine needs it, or a single container, which may be stopped."""
        listed = await self._calls.look(lambda: self._engine.containers_on(copy))
        if any(self._needs_networks(each) for each in listed):
            return
        try:
            await self._calls.call(lambda: self._engine.remove_network(copy["Id"]))
        except SkepError as error:
            log.info("bridge.stays", network=copy["Name"], error=str(error))

    def _needs_networks(self, listed: Json) -> bool:
        labels = listed.get("Labels") or {}
        if TASK_LABEL not in labels:
            return True
        if listed.get("State") == "created" and labels.get(NODE_LABEL) == self._node_id():
            return labels.get(TASK_LABEL) in self._joined  # of ours, and it never came to run
        return listed.get("State") in LIVE


def node_of(copy: Json, inspected: Json | None) -> str:
    """Returns the id of the node that put a single container on a bridge; empty where none did."""
    return str((endpoint_on(copy, inspected).get("DriverOpts") or {}).get(NODE_OPTION, ""))


def endpoint_on(copy: Json, inspected: Json | None) -> Json:
    """Returns a container's endpoint on a bridge; empty where it has none."""
    networks = inspected["NetworkSettings"].get("Networks") or {} if inspected is not None else {}
    return networks.get(copy["Name"]) or {}


def _is_on_its_bridge(copy: Json, network: TaskNetwork) -> bool:
    """True where the engine's network uses the bridge that it is to use, or may have any."""
    return not network.bridge or (copy.get("Options") or {}).get(BRIDGE_OPTION) == network.bridge


def _is_nodes_own(network: TaskNetwork) -> bool:
    """True for what every engine has anyway."""
    return network.driver in ("host", "bridge") and not network.config_from


def _body(network: TaskNetwork, gateway: str) -> Json:
    labels = {COPY_LABEL: network.id, COPY_NAME_LABEL: network.name}
    body: Json = {"CheckDuplicate": True, "Labels": labels, "Internal": network.is_internal}
    if network.driver != OVERLAY:
        body.update(Driver=network.driver, Options=network.options, EnableIPv6=network.is_ipv6)
        return body
    options = {MTU_OPTION: str(mtu_of(network.options))}
    if network.bridge:  # the mesh's: made by whoever needs it first, and looked after by `agent.networking`
        options[BRIDGE_OPTION] = network.bridge
    subnet = str(ipaddress.ip_network(network.subnet, strict=False))
    pool = {"Subnet": subnet, "Gateway": gateway.partition("/")[0]}
    ipam = {"Driver": "default", "Config": [pool]}
    body.update(Driver="bridge", Options=options, IPAM=ipam, EnableIPv6=":" in network.subnet)
    return body


def _configured(network: TaskNetwork, configuration: Json) -> Json:
    """Returns what a network has of its configuration: all that the engine itself would take from there.

    It is copied, and `ConfigFrom` not used: with that the engine takes no labels, and a network without ours
    is not known again.
    """
    labels = {**(configuration.get("Labels") or {}), COPY_LABEL: network.id, COPY_NAME_LABEL: network.name}
    taken = {
        name: configuration[name]
        for name in ("EnableIPv4", "EnableIPv6", "IPAM", "Options")
        if configuration.get(name) is not None
    }
    return {**taken, "Labels": labels}


def _subnets(body: Json) -> str:
    """Returns what a network is to be made with, for people."""
    return ", ".join(pool["Subnet"] for pool in (body.get("IPAM") or {}).get("Config") or ())


def _clash(network: TaskNetwork, subnet: str, whose: str) -> str:
    return (
        f"network {network.name} cannot be made on this node: its subnet {subnet} overlaps {whose}."
        " Choose another one: docker network create --subnet, or swarm init --default-addr-pool"
    )
