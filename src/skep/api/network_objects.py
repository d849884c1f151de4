"""Networks in Docker's JSON (Engine API 1.51): as `/networks` shows them, and inside a task."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, field

from skep.api.objects import reply_time
from skep.model.network import IPAM, ConfigFrom, IPAMConfig, Network
from skep.model.task import container_name
from skep.store.view import View

Json = dict[str, Any]


class IpamJson(Struct, rename="pascal"):
    driver: str
    options: dict[str, str] | None
    config: list[IPAMConfig] | None


class NetworkJson(Struct, rename="pascal"):
    """The answer of `GET /networks/{id}`; what only a node knows of it (`Containers`) is added there."""

    name: str
    id: str
    created: str
    scope: str
    driver: str
    enable_ipv4: bool = field(name="EnableIPv4")
    enable_ipv6: bool = field(name="EnableIPv6")
    ipam: IpamJson = field(name="IPAM")
    internal: bool
    attachable: bool
    ingress: bool
    config_from: Json
    config_only: bool
    containers: Json | None
    options: dict[str, str] | None
    labels: dict[str, str] | None
    peers: list[Json] | msgspec.UnsetType = msgspec.UNSET
    services: dict[str, Json] | msgspec.UnsetType = msgspec.UNSET


def network_json(network: Network, view: View | None = None) -> NetworkJson:
    """Returns the network; with a view also who is on it (`docker network inspect --verbose`)."""
    spec = network.spec
    ipam = spec.ipam or IPAM()
    found = NetworkJson(
        name=spec.name,
        id=network.id,
        created=reply_time(network.created_at),
        scope="swarm",
        driver=spec.driver,
        enable_ipv4=spec.enable_ipv4 is not False,
        enable_ipv6=spec.enable_ipv6,
        ipam=IpamJson(
            # The swarm gives out no addresses of a network of the node's own kinds.
            driver="default" if network.is_overlay else "",
            options=(ipam.options or None) if network.is_overlay else None,
            config=[
                IPAMConfig(subnet=p.subnet, ip_range=p.ip_range, gateway=p.gateway) for p in network.pools
            ],
        ),
        internal=spec.internal,
        attachable=spec.attachable,
        ingress=spec.ingress,
        config_from={"Network": (spec.config_from or ConfigFrom()).network},
        config_only=spec.config_only,
        containers=None,
        options=network.options or spec.options or None,
        labels=spec.labels or None,
    )
    services = _services_on(view, network) if view is not None else {}
    if services:
        found.services, found.peers = services, _peers(services)
    return found


def _services_on(view: View, network: Network) -> dict[str, Json]:
    """Returns services by name, as Docker's agents tell it; ours know no index of a load balancer yet."""
    found: dict[str, Json] = {}
    for service in view.services.values():
        vips = service.endpoint.vips if service.endpoint is not None else []
        vip = next((each.addr for each in vips if each.network_id == network.id), "")
        tasks = [
            {
                "Name": container_name(service.spec.name, task.slot, task.node_id, task.id),
                "EndpointID": "",
                "EndpointIP": address.address.partition("/")[0],
                "Info": {"Host IP": view.nodes[task.node_id].addr},
            }
            for task in view.tasks_of_service(service.id)
            if task.result is None and task.node_id in view.nodes
            for address in task.addresses
            if address.network_id == network.id
        ]
        if vip or tasks:
            ports = service.endpoint.ports if service.endpoint is not None and network.spec.ingress else []
            found[service.spec.name] = {
                "VIP": vip.partition("/")[0],
                "Ports": [f"Target: {p.target_port}, Publish: {p.published_port}" for p in ports],
                "LocalLBIndex": 0,
                "Tasks": tasks,
            }
    return found


def _peers(services: dict[str, Json]) -> list[Json]:
    """Returns the nodes that have a task on the network."""
    hosts = sorted({task["Info"]["Host IP"] for each in services.values() for task in each["Tasks"]})
    return [{"Name": host, "IP": host} for host in hosts]
