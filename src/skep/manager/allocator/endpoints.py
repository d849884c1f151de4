"""What a service is given: published ports and virtual addresses. As Docker gives them (swarmkit's allocator
and controlapi): automatic ports count from 30000, a service keeps what it has for as long as it asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from skep.manager.allocator.tasks import no_address
from skep.model.container import PortConfig
from skep.model.network import ingress_of
from skep.model.node import Node
from skep.model.service import Endpoint, Service, VirtualIP
from skep.model.spec import ServiceSpec
from skep.runtime.errors import Invalid
from skep.store.allocations import PortKey
from skep.store.view import View

AUTOMATIC_FIRST, AUTOMATIC_LAST = 30000, 32767  # Docker's own range
NO_PORT = f"no automatic port is left: all of {AUTOMATIC_FIRST} to {AUTOMATIC_LAST} are published"
_IN_USE = "rpc error: code = InvalidArgument desc = port '{}' is already in use by service '{}' ({}) as {}"
_DATA_PATH = (
    "rpc error: code = InvalidArgument desc = port '{}/udp' is the swarm's own data path (docker swarm init"
    " --data-path-port): the routing mesh cannot publish it"
)
_MANAGERS = (
    "rpc error: code = InvalidArgument desc = port '{}' is where the swarm's managers listen ({} does): the"
    " routing mesh cannot publish it, as no node could become a manager then. Publish another one"
)
_NO_MESH = (
    "rpc error: code = FailedPrecondition desc = service needs ingress network, but no ingress network is"
    " present"
)


def decide(view: View, service_id: str, spec: ServiceSpec, before: Endpoint | None) -> Endpoint | None:
    """Returns what the service is to have, claimed already; None where it needs nothing.

    `before` is what it has. Errors: `Invalid`, in Docker's words, for a port of another service, or where
    nothing is left; then nothing is claimed.
    """
    _check_ports(view, service_id, spec)
    _check_managers(view, spec, before)
    _check_mesh(view, spec, before)
    return _decide(view, service_id, spec, before or Endpoint(), is_lenient=False)


def decide_what_can_be(view: View, service: Service) -> Endpoint | None:
    """As `decide`, for a service whose spec is settled already: it goes without what it cannot have."""
    return _decide(view, service.id, service.spec, service.endpoint or Endpoint(), is_lenient=True)


def _check_ports(view: View, service_id: str, spec: ServiceSpec) -> None:
    """Errors: `Invalid`: a port that is published already, in a mode that excludes this one, or that the
    tunnels between nodes have."""
    cluster = view.cluster
    for port in _ports_of(spec):
        if (
            port.publish_mode == "ingress"
            and cluster
            and cluster.is_data_path(port.protocol, port.published_port)
        ):
            raise Invalid(_DATA_PATH.format(port.published_port))
        holder = _other_holder(view, service_id, port)
        if holder is not None:
            name, holder_id, mode = holder
            what = "an ingress port" if mode == "ingress" else "a host-published port"
            raise Invalid(_IN_USE.format(port.published_port, name, holder_id, what))


def _check_managers(view: View, spec: ServiceSpec, before: Endpoint | None) -> None:
    """Errors: `Invalid` for a port of the routing mesh at which managers listen: each node would hold it,
    also one that is to become a manager. A service that has it by an earlier skep may be changed."""
    wanted = {p.published_port for p in _ports_of(spec) if (p.protocol, p.publish_mode) == ("tcp", "ingress")}
    wanted -= {p.published_port for p in (before.ports if before is not None else ())}
    for node in _managers(view) if wanted - {0} else ():
        port = _manager_port(node)
        if port in wanted:
            raise Invalid(_MANAGERS.format(port, node.description.hostname or node.id))


def _managers(view: View) -> Iterator[Node]:
    """Yields who is one, or is to be: what another node says of itself is nobody's."""
    return (n for n in view.nodes.values() if n.spec.role == "manager" or view.is_member(n.id))


def _manager_port(node: Node) -> int:
    """Returns at which port the node is reached as a manager; -1 where it is none."""
    port = node.manager_addr.rpartition(":")[2]
    return int(port) if port.isdecimal() else -1


def _check_mesh(view: View, spec: ServiceSpec, before: Endpoint | None) -> None:
    """Errors: `Invalid` for ports of the routing mesh where users removed its network. A service that has
    some already, of an earlier skep that did not look, may be changed all the same."""
    cluster = view.cluster
    is_removed = cluster is not None and cluster.has_had_ingress and not ingress_of(view.networks.values())
    if is_removed and _in_mesh(_ports_of(spec)) and not _in_mesh(before.ports if before is not None else ()):
        raise Invalid(_NO_MESH)


def _in_mesh(ports: Iterable[PortConfig]) -> bool:
    return any(port.publish_mode == "ingress" for port in ports)


def _decide(
    view: View, service_id: str, spec: ServiceSpec, before: Endpoint, is_lenient: bool
) -> Endpoint | None:
    ports: list[PortConfig] = []
    kept = _kept_numbers(before)
    asked = list(_ports_of(spec))
    own = {(p.protocol, p.published_port) for p in asked}
    free = {p.protocol: _free(view, p.protocol, own) for p in asked}
    for port in asked:
        if is_lenient and _other_holder(view, service_id, port) is not None:
            continue
        if port.publish_mode == "ingress" and not port.published_port:
            number = _kept(port, kept, own) or next(free[port.protocol], 0)
            if not number and is_lenient:
                continue
            if not number:
                raise Invalid(NO_PORT)
            port = replace(port, published_port=number)
            own.add((port.protocol, number))
        ports.append(port)
    vips = _vips(view, service_id, spec, before, is_lenient)
    if not ports and not vips:
        return None
    endpoint = Endpoint(ports=ports, vips=vips)
    view.allocations.claim(service_id, endpoint)
    return endpoint


def _ports_of(spec: ServiceSpec) -> Iterable[PortConfig]:
    """The ports with Docker's defaults in them."""
    for port in spec.endpoint_spec.ports if spec.endpoint_spec is not None else ():
        yield replace(port, protocol=port.protocol or "tcp", publish_mode=port.publish_mode or "ingress")


def _other_holder(view: View, service_id: str, port: PortConfig) -> tuple[str, str, str] | None:
    """Returns (name, id, mode) of a service that has the port already. Several may have it on their hosts."""
    if not port.published_port:
        return None
    for holder, mode in view.allocations.ports.get((port.protocol, port.published_port), {}).items():
        if holder != service_id and "ingress" in (mode, port.publish_mode):
            service = view.services.get(holder)
            return service.spec.name if service is not None else holder, holder, mode
    return None


def _kept_numbers(before: Endpoint) -> dict[tuple[str, str, int], list[int]]:
    """Returns the automatic ports that a service has, by what they are of; the first is last."""
    found: dict[tuple[str, str, int], list[int]] = {}
    for known in reversed(before.ports):
        if known.publish_mode == "ingress" and AUTOMATIC_FIRST <= known.published_port <= AUTOMATIC_LAST:
            key = (known.name, known.protocol, known.target_port)
            found.setdefault(key, []).append(known.published_port)
    return found


def _kept(port: PortConfig, kept: dict[tuple[str, str, int], list[int]], own: set[PortKey]) -> int:
    """Returns the number that an automatic port has already; 0: it is new."""
    numbers = kept.get((port.name, port.protocol, port.target_port), [])
    while numbers:
        number = numbers.pop()  # who passes it over never needs it: `own` only grows
        if (port.protocol, number) not in own:
            return number
    return 0


def _free(view: View, protocol: str, own: set[PortKey]) -> Iterator[int]:
    """Yields the ports of the range that nobody publishes when they are asked for."""
    managers = {_manager_port(node) for node in _managers(view)}
    for number in range(AUTOMATIC_FIRST, AUTOMATIC_LAST + 1):
        if (protocol, number) in view.allocations.ports or (protocol, number) in own:
            continue
        if protocol == "tcp" and number in managers:
            continue
        if view.cluster is None or not view.cluster.is_data_path(protocol, number):
            yield number


def _vips(
    view: View, service_id: str, spec: ServiceSpec, before: Endpoint, is_lenient: bool
) -> list[VirtualIP]:
    endpoint = spec.endpoint_spec
    if endpoint is not None and endpoint.mode == "dnsrr":
        return []
    had = {vip.network_id: vip for vip in before.vips}
    found: list[VirtualIP] = []
    taken: list[VirtualIP] = []
    for network_id in _networks(view, spec):
        book = view.allocations.books.get(network_id)
        if network_id in had:
            found.append(had[network_id])
        elif book is None:
            found.append(VirtualIP(network_id=network_id))
        elif book.free:
            vip = VirtualIP(network_id=network_id, addr=book.next_free())
            book.hold(vip.addr, service_id)
            taken.append(vip)
            found.append(vip)
        elif not is_lenient:
            for vip in taken:
                view.allocations.books[vip.network_id].release(vip.addr, service_id)
            raise Invalid(f"rpc error: code = ResourceExhausted desc = {no_address(view, network_id)}")
    return found


def _networks(view: View, spec: ServiceSpec) -> Iterable[str]:
    """Returns the ids of the networks that the service has an address on, the routing mesh's first."""
    found: dict[str, None] = {}
    if _in_mesh(_ports_of(spec)):
        ingress = ingress_of(view.networks.values())
        if ingress is not None:
            found[ingress.id] = None
    for attached in spec.task_template.networks or spec.networks:
        if attached.target in view.networks:
            found[attached.target] = None
    return found
