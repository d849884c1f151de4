"""Networks in Docker's JSON (Engine API 1.51): as `/networks` shows them, and inside a task."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, field

from skep.api.objects import reply_time
from skep.model.network import IPAM, ConfigFrom, IPAMConfig, Network

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


def network_json(network: Network) -> NetworkJson:
    spec = network.spec
    ipam = spec.ipam or IPAM()
    return NetworkJson(
        name=spec.name,
        id=network.id,
        created=reply_time(network.created_at),
        scope="swarm",
        driver=spec.driver,
        enable_ipv4=spec.enable_ipv4 is not False,
        enable_ipv6=spec.enable_ipv6,
        ipam=IpamJson(
            driver="default" if network.is_overlay else ipam.driver,
            options=ipam.options or None,
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
