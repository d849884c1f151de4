"""The routing mesh as a node is told of it: which nodes there are, which ports, and who answers them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from .data_path import NFTABLES
from .overlay import Overlay, OverlayNetwork, merged
from .overlay_keys import OverlayKeys

BRIDGE_PREFIX, TUNNEL_PREFIX = (
    "skb",
    "skv",
)  # of devices' names: with a VNI of 24 bits they are no longer than may be
TCP, UDP = "tcp", "udp"
PROTOCOLS = (TCP, UDP)  # SCTP's checksums and many addresses per end are no matter of one rule
# Of one service's tasks, so many are told to a node that knows no parts: the message has 100 kB, a node's
# rule 3,000 entries. Which ones is spread evenly.
ENDPOINTS_MAX = 3000

# Services of which a node says to a new leader to which part it leads: each has hundreds of tasks, or more.
PARTS_SAID_MAX = 1024

IP_MAX_BYTES = 45  # an IPv6 address that ends in an IPv4 one, written in full


def is_numeric(host: str) -> bool:
    """True for an address, false for a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_host_address(text: str) -> bool:
    """True for an IP address that can be one host's, as any other host writes it: without a scope."""
    if len(text) > IP_MAX_BYTES or "%" in text:
        return False
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    is_nowhere = address.is_unspecified or (address.version == 4 and address.packed[0] == 0)
    return not (is_nowhere or address.is_multicast or text == "255.255.255.255")


def not_published(port: int, protocol: str, service: str) -> str:
    """Returns how a node's sentence about a port begins that it cannot publish."""
    return f"port {port}/{protocol} of service {service} is not published here"


def concerns(said: str, service: str) -> bool:
    """True for what a node says of its mesh that matters to the service: of a port of its, or of no port."""
    return " is not published here" not in said or f" of service {service} is not published here" in said


def bridge_name(vni: int) -> str:
    """Returns the name of a network's bridge on each node."""
    return f"{BRIDGE_PREFIX}{vni}"


def tunnel_name(vni: int) -> str:
    """Returns the name of a network's tunnel on each node."""
    return f"{TUNNEL_PREFIX}{vni}"


class MeshPort(Struct, frozen=True, array_like=True):
    protocol: str
    published: int
    target: int


class MeshEndpoint(Struct, frozen=True, array_like=True, gc=False):
    """A task's address on the mesh's network, without a prefix length. One that takes no new connections is
    about to end, or has not begun to serve: those that it has go on."""

    address: str
    node_id: str
    takes_new: bool = True


class MeshService(Struct, frozen=True, array_like=True):
    """`is_alone`: its tasks are on the mesh's network only, so that all they send leaves by it.

    It is told whole, or, with `gone`, what has changed of it: `endpoints` are those that are new or others,
    `gone` the addresses of those that are no more; the rest of them is as it was."""

    id: str
    name: str
    ports: tuple[MeshPort, ...]
    endpoints: tuple[MeshEndpoint, ...] = ()
    is_alone: bool = True
    gone: tuple[str, ...] | None = None

    def since(self, before: MeshService) -> MeshService:
        """Returns what has changed of it, or all of it, where that is shorter."""
        known = {each.address: each for each in before.endpoints}
        changed = tuple(each for each in self.endpoints if known.get(each.address) != each)
        gone = tuple(known.keys() - {each.address for each in self.endpoints})
        if 2 * (len(changed) + len(gone)) > len(self.endpoints):
            return self
        return replace(self, endpoints=changed, gone=gone)

    def on(self, before: MeshService | None) -> MeshService:
        """Returns all of a service of which this was told."""
        if self.gone is None:
            return self
        known = before.endpoints if before is not None else ()
        return replace(self, endpoints=merged(known, self.endpoints, self.gone), gone=None)


class MeshPart(Struct, frozen=True, array_like=True):
    """Of a service with very many tasks: part `number` of `count`, to which a node leads connections, and
    where the tunnels of its tasks' nodes end. Told whole, or what has changed of it, as the service says."""

    service: MeshService
    number: int
    count: int
    nodes: tuple[tuple[str, str], ...] = ()

    def on(self, before: MeshPart | None) -> MeshPart:
        """Returns all of a part of which this was told, and of the nodes those that its tasks are on."""
        is_whole = self.service.gone is None or before is None
        service = self.service.on(None if before is None else before.service)
        known = dict(self.nodes) if is_whole or before is None else dict((*before.nodes, *self.nodes))
        on_it = dict.fromkeys([each.node_id for each in service.endpoints])
        nodes = tuple([(node_id, known[node_id]) for node_id in on_it if node_id in known])
        return replace(self, service=service, nodes=nodes)


class Mesh(Struct, frozen=True):
    """All that a node was told. `nodes` are the addresses that nodes' tunnels end at, by node id, `returns`
    those of nodes by which connections to its tasks may come, whichever they are, `managers`
    hosts of managers that it knows: their addresses, or names. `overlays` are the networks that its own tasks
    and containers are on, by id, `keys` those by which encrypted ones are, `data_path`
    what leads connections to published ports on."""

    network: OverlayNetwork | None = None
    nodes: dict[str, str] = {}
    services: dict[str, MeshService] = {}
    returns: frozenset[str] = frozenset()
    managers: tuple[str, ...] = ()
    overlays: dict[str, Overlay] = {}
    keys: OverlayKeys = OverlayKeys()
    data_path: str = NFTABLES

    def told(
        self,
        network: OverlayNetwork | None,
        nodes: Iterable[tuple[str, str]],
        gone_nodes: Iterable[str],
        services: Iterable[MeshService],
        gone_services: Iterable[str],
        data_path: str = "",
    ) -> Mesh:
        """Returns the mesh with what has changed; no network, no data path: as before."""
        all_nodes, all_services = dict(self.nodes), dict(self.services)
        all_nodes.update(nodes)
        for service in services:
            all_services[service.id] = service.on(all_services.get(service.id))
        for node_id in gone_nodes:
            all_nodes.pop(node_id, None)
        for service_id in gone_services:
            all_services.pop(service_id, None)
        return replace(
            self,
            network=network or self.network,
            nodes=all_nodes,
            services=all_services,
            data_path=data_path or self.data_path,
        )
