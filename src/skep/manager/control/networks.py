"""Create and remove networks: one small transaction each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog
from msgspec.structs import replace

from skep.manager.allocator import subnets
from skep.manager.control.validate_network import check_encryption, validate_network
from skep.manager.quarantine import is_unreadable_network
from skep.manager.term import Term
from skep.model.network import OVERLAY, VXLAN_OPTION, Network, NetworkSpec, ingress_of
from skep.model.node import DOWN
from skep.model.service import Service
from skep.model.states import RUNNING
from skep.runtime.errors import Conflict, Denied, Invalid, NotFound
from skep.store import codec
from skep.store.host_networks import KnownHostNetworks
from skep.store.interfaces import Delete
from skep.store.view import View

log = structlog.get_logger()

INGRESS = "ingress"
_IN_USE = "rpc error: code = FailedPrecondition desc ="


class NetworkControl:
    """`lock` is held by whoever writes networks, or services that use them: a network that is being removed
    gets no new service, and no subnet is given twice. `refresh` finds out which single containers are still
    on a network."""

    def __init__(
        self,
        term: Term,
        lock: asyncio.Lock,
        refresh: Callable[[str], Awaitable[None]],
    ) -> None:
        self._term = term
        self._view = term.view
        self._lock = lock
        self._refresh = refresh
        self._last_subnet = ""  # of the pools; soft: a new leader begins anew
        self._last_vxlan = 0  # as well

    async def create(self, spec: NetworkSpec) -> Network:
        """Returns the stored network. Errors: `Invalid`, `Conflict` (name in use), `Denied` (its subnet is
        another's), `NotFound` (no such driver), `Unsupported`."""
        validate_network(spec)
        check_encryption(spec, self._view.nodes.values())
        async with self._lock:
            return await self._create(spec, self._view.hosts)

    async def _create(self, spec: NetworkSpec, hosts: KnownHostNetworks) -> Network:
        if spec.name in self._view.network_ids:
            raise Conflict(f"network with name {spec.name} already exists")
        present = ingress_of(self._view.networks.values()) if spec.ingress else None
        if present is not None:
            raise Conflict(
                f"rpc error: code = AlreadyExists desc = ingress network ({present.id}) is already present"
            )
        now = self._term.clock.now()
        network = Network(id=self._term.new_id(), spec=spec, created_at=now, updated_at=now)
        if network.is_overlay:
            network = self._with_subnets(network, hosts)
        try:
            network = await self._term.create(network, codec.network_name_key(spec.name))
        except Conflict as error:
            raise Conflict(f"network with name {spec.name} already exists") from error
        self._term.hub.emit("network", "create", network.id, name=spec.name)
        self._term.hub.emit(
            "network", "update", network.id, name=spec.name
        )  # Docker's subnets come a moment later
        return network

    def _with_subnets(self, network: Network, hosts: KnownHostNetworks) -> Network:
        if is_unreadable_network(self._view):
            raise Conflict(
                "a network's record in the store cannot be read, so that nobody knows which subnets are free"
                " (skep store ls --quarantined)"
            )
        cluster = self._view.cluster
        pools, size = (cluster.default_addr_pool, cluster.subnet_size) if cluster is not None else ([], 0)
        last = self._last_subnet, self._last_vxlan
        networks = self._view.networks.values()
        nodes = [each for each in self._view.nodes if self._view.node_state(each).state != DOWN]
        given = subnets.give(network.spec, networks, pools, size, *last, hosts, self._name_of, nodes)
        if VXLAN_OPTION not in network.spec.options:
            self._last_vxlan = subnets.ids_of(given.options[VXLAN_OPTION])[-1]
        if network.spec.ipam is None or not network.spec.ipam.config:
            self._last_subnet = given.pools[0].subnet
        return replace(network, pools=given.pools, options=given.options)

    async def remove(self, network_id: str) -> None:
        """Errors: `NotFound`, `Denied` (predefined), `Invalid` (in use)."""
        await self._refresh(network_id)
        async with self._lock:
            network = self._known(network_id)
            if network.is_predefined:
                raise Denied(f"{network.spec.name} is a pre-defined network and cannot be removed")
            in_use = why_in_use(self._view, network)
            if in_use:
                raise Invalid(in_use)
            key = codec.network_key(network.id)
            gone = (Delete(key), Delete(codec.network_name_key(network.spec.name)))
            await self._term.remove(key, lambda: self._known(network_id), lambda _: gone)
            self._view.drop_network(network.id)
            self._term.hub.emit("network", "remove", network.id, name=network.spec.name)

    def _name_of(self, node_id: str) -> str:
        node = self._view.nodes.get(node_id)
        return (node.description.hostname if node is not None else "") or node_id

    def _known(self, network_id: str) -> Network:
        """Errors: `NotFound`."""
        network = self._view.networks.get(network_id)
        if network is None:
            raise NotFound(f"network {network_id} not found")
        return network

    async def _create_ingress(self, spec: NetworkSpec) -> None:
        try:
            await self._create(spec, self._view.hosts)
        except Invalid as error:
            log.warning("ingress.overlaps_host", reason=str(error))
            await self._create(spec, KnownHostNetworks())

    async def found_ingress(self) -> None:
        """A swarm begins with a routing-mesh network; one that its users removed is not made again. Where the
        first host has networks of its own in all of the pools, it gets one of those all the same: other nodes
        may have room for it, and this one says that it has not."""
        cluster = self._view.cluster
        if cluster is None or cluster.has_had_ingress:
            return
        async with self._lock:
            if ingress_of(self._view.networks.values()) is None and INGRESS not in self._view.network_ids:
                spec = NetworkSpec(name=INGRESS, driver=OVERLAY, scope="swarm", ingress=True)
                await self._create_ingress(spec)
            await self._term.update(cluster, replace(cluster, has_had_ingress=True))


def networks_of(service: Service) -> Iterable[str]:
    """Returns what the service's tasks are to be attached to (ids, by now)."""
    spec = service.spec
    return [each.target for each in spec.task_template.networks or spec.networks]


def why_in_use(view: View, network: Network) -> str:
    """Returns Docker's sentence naming who needs the network; an empty text where nobody does."""
    for service in view.services.values():
        if network.spec.ingress and has_ingress_ports(service):
            return f"{_IN_USE} ingress network cannot be removed because service {service.id} depends on it"
        if network.id in networks_of(service):
            return f"{_IN_USE} network {network.id} is in use by service {service.id}"
    book = view.allocations.books.get(network.id)
    for holder in book.holders.values() if book is not None else ():
        task = view.tasks.get(holder)
        if task is not None and task.result is None and view.desired_of(task) <= RUNNING:
            return f"{_IN_USE} network {network.id} is in use by task {task.id}"
    for node_id, attached in view.attached.items():
        for each in attached.values():
            if each.address.network_id == network.id:
                node = view.nodes.get(node_id)
                where = node.description.hostname if node is not None else node_id
                whose = f"task {each.id} (a container on node {where})"
                return f"{_IN_USE} network {network.id} is in use by {whose}"
    return ""


def has_ingress_ports(service: Service) -> bool:
    """True where the routing mesh is to publish a port of the service."""
    endpoint = service.spec.endpoint_spec
    return endpoint is not None and any(p.publish_mode in ("", "ingress") for p in endpoint.ports)
