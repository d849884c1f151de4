"""What must hold of addresses and published ports, in the store's picture."""

from __future__ import annotations

from skep.model.service import Service
from skep.model.states import RUNNING
from skep.sim.picture import Picture
from skep.sim.violation import Violation


def no_address_is_given_twice(picture: Picture) -> None:
    """On one network, among tasks without a result, services, and nodes. Errors: `Violation`."""
    holders: dict[tuple[str, str], str] = {}

    def has(network_id: str, address: str, holder: str) -> None:
        other = holders.setdefault((network_id, address), holder)
        if other != holder and network_id in picture.networks:
            raise Violation(f"{address} of network {network_id} is given to {other} and {holder}")

    for service in picture.services.values():
        for vip in service.endpoint.vips if service.endpoint is not None else ():
            if vip.addr:
                has(vip.network_id, vip.addr, f"service {service.id}")
    for task in picture.tasks.values():
        if task.result is not None:
            continue
        for given in task.addresses:
            has(given.network_id, given.address, f"task {task.id}")
            has(given.network_id, given.gateway, f"node {task.node_id}")


def no_port_is_published_twice(picture: Picture) -> None:
    """Through the routing mesh. Errors: `Violation`."""
    holders: dict[tuple[str, int], str] = {}
    for service in picture.services.values():
        for port in service.endpoint.ports if service.endpoint is not None else ():
            if port.publish_mode != "ingress":
                continue
            if not port.published_port:
                raise Violation(f"{service.id} has a port without a number")
            other = holders.setdefault((port.protocol, port.published_port), service.id)
            if other != service.id:
                raise Violation(f"port {port.published_port} is published by {other} and {service.id}")


def unaddressed(picture: Picture) -> str:
    """Returns a task that runs without the addresses it should have, or a service whose networks are gone."""
    for service in picture.services.values():
        wanted = {each.target for each in service.spec.task_template.networks}
        gone = wanted - set(picture.networks)
        if gone:
            return f"{service.spec.name} is on networks that are gone: {sorted(gone)}"
        if _is_published(service):
            wanted.update(n.id for n in picture.networks.values() if n.spec.ingress)
        for task in picture.tasks.values():
            if task.service_id != service.id or task.desired_state != RUNNING or task.result is not None:
                continue
            if task.spec_version != service.template.version:
                continue  # it runs on where the one that was to start first has failed for good
            if {given.network_id for given in task.addresses} != wanted:
                return f"task {task.id} of {service.spec.name} has {task.addresses}, not {sorted(wanted)}"
    return ""


def _is_published(service: Service) -> bool:
    endpoint = service.spec.endpoint_spec
    return endpoint is not None and any(port.publish_mode == "ingress" for port in endpoint.ports)
