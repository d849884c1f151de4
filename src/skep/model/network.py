"""Networks: what a user asks for (Docker Engine API 1.51, `POST /networks/create`), and what is stored."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, field

from .wire import Wire

OVERLAY = "overlay"
VXLAN_OPTION = "com.docker.network.driver.overlay.vxlanid_list"  # one id per subnet, separated by commas
ENCRYPTED_OPTION = "encrypted"  # there, whatever its value: packets between nodes are to be encrypted
PREDEFINED_LABEL = "com.docker.swarm.predefined"
# On an engine's network that stands for one of the swarm's: which one.
COPY_LABEL = "com.docker.swarm.network.id"
COPY_NAME_LABEL = "com.docker.swarm.network.name"


class IPAMConfig(Wire, frozen=True, kw_only=True):
    """One subnet."""

    subnet: str = ""
    ip_range: str = field(default="", name="IPRange")
    gateway: str = ""
    auxiliary_addresses: dict[str, str] = {}


class IPAM(Wire, frozen=True, kw_only=True):
    driver: str = ""
    options: dict[str, str] = {}
    config: list[IPAMConfig] = []


class ConfigFrom(Wire, frozen=True, kw_only=True):
    network: str = ""


class NetworkSpec(Wire, frozen=True, kw_only=True):
    """The body of `POST /networks/create`."""

    name: str = ""
    check_duplicate: bool = False
    driver: str = ""
    scope: str = ""
    enable_ipv4: bool | None = field(default=None, name="EnableIPv4")
    enable_ipv6: bool = field(default=False, name="EnableIPv6")
    ipam: IPAM | None = field(default=None, name="IPAM")
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: ConfigFrom | None = None
    options: dict[str, str] = {}
    labels: dict[str, str] = {}

    @property
    def is_encrypted(self) -> bool:
        """True where what goes between nodes is to be encrypted."""
        return self.driver == OVERLAY and ENCRYPTED_OPTION in self.options


class Network(Struct, frozen=True, kw_only=True):
    """A network of the swarm as it is stored. `pools` are its subnets and `options` its driver's options as
    the allocator gave them out; a node-local network (any driver but overlay) has neither."""

    id: str
    spec: NetworkSpec
    created_at: float
    updated_at: float
    pools: list[IPAMConfig] = []
    options: dict[str, str] = {}
    version: int = 0

    @property
    def is_overlay(self) -> bool:
        """True where the swarm gives out its addresses."""
        return self.spec.driver == OVERLAY

    @property
    def is_predefined(self) -> bool:
        """True for the node's own networks, which a service can name as well."""
        return self.spec.labels.get(PREDEFINED_LABEL) == "true"


def ingress_of(networks: Iterable[Network]) -> Network | None:
    """Returns the routing mesh's network; None where it was removed."""
    return next((network for network in networks if network.spec.ingress), None)


def _predefined(network_id: str, name: str) -> Network:
    spec = NetworkSpec(name=name, driver=name, scope="swarm", labels={PREDEFINED_LABEL: "true"})
    return Network(id=network_id, spec=spec, created_at=0.0, updated_at=0.0)


# Each node has them; in the swarm they are names only, so that a service can ask for them. Not stored.
PREDEFINED = (
    _predefined("hostnetworkofthenode00000", "host"),
    _predefined("bridgenetworkofthenode000", "bridge"),
)
