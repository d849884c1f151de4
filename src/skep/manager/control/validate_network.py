"""What a new network must satisfy, in Docker's words (Engine API 1.51; swarmkit's controlapi). Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator

from skep.manager.control.validate import check_dns_name
from skep.manager.control.validate_size import check_size
from skep.model.bounds import AUXILIARY_MAX, NETWORK_MAX_BYTES
from skep.model.network import ENCRYPTED_OPTION, IPAM, OVERLAY, IPAMConfig, NetworkSpec
from skep.model.node import Node
from skep.model.overlay import MTU_MAX, MTU_MIN, MTU_OPTION, is_mtu
from skep.model.overlay_keys import ESP
from skep.runtime.errors import Denied, Invalid, NotFound, Unsupported

# Drivers of the node's own networks that the swarm may have a name for (`--scope swarm`).
NODE_LOCAL = ("bridge", "host", "ipvlan", "macvlan")
RESERVED = ("none", "default")
_PREFIX = re.compile(r"[0-9A-Fa-f.:]+/(0|[1-9][0-9]{0,2})")
# Addresses that lead to no other machine: Docker takes them, and no task on them starts.
_NOBODYS = {
    "0.0.0.0/8": "these are addresses of this host",
    "127.0.0.0/8": "these are each host's own addresses",
    "169.254.0.0/16": "these are addresses of one link, where clouds have their metadata",
    "224.0.0.0/3": "these are for multicast, or reserved",
}
SUBNETS_MAX = 64  # of one network; a bridge has one, and a body must not ask for thousands

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def validate_network(spec: NetworkSpec) -> None:
    """Errors: `Denied`, `Invalid`, `NotFound` for a driver nobody has, `Unsupported` for an
    encrypted mesh, and for IPv6."""
    if not spec.name:
        raise Invalid("invalid name: name is empty")
    if spec.name in RESERVED:
        raise Denied(f"operation is not permitted on predefined {spec.name} network ")
    if spec.config_from is not None and spec.config_from.network:
        _only_from_configuration(spec)
    check_dns_name(spec.name)
    if spec.scope == "local" and spec.driver == OVERLAY:
        raise Denied("cannot downgrade network scope for overlay networks")
    if spec.ingress and spec.driver != OVERLAY:
        raise Denied("Ingress network can only be global scope network")
    if spec.ingress and spec.attachable:
        raise Invalid("rpc error: code = InvalidArgument desc = ingress network cannot be attachable")
    if spec.enable_ipv4 is False:
        raise Invalid("IPv4 cannot be disabled in a Swarm scoped network")
    if spec.driver != OVERLAY and spec.driver not in NODE_LOCAL:
        raise NotFound(f'plugin "{spec.driver}" not found')
    if spec.ingress and spec.is_encrypted:
        raise Unsupported(
            "the routing mesh's own network cannot be encrypted: every node has a part in it, also those"
            f" that cannot encrypt. Leave out --opt {ENCRYPTED_OPTION}"
        )
    _check_family(spec)
    _check_mtu(spec)
    check_size("the network's spec", spec, NETWORK_MAX_BYTES // 2)  # its subnets are kept twice
    if spec.ipam is None:
        return
    if spec.ipam.driver not in ("", "default"):
        raise Invalid(
            f"rpc error: code = InvalidArgument desc = error during lookup of plugin {spec.ipam.driver}"
        )
    if len(spec.ipam.config) > SUBNETS_MAX:
        raise Invalid(f"a network has at most {SUBNETS_MAX} subnets, {len(spec.ipam.config)} are asked for")
    auxiliary = sum(len(each.auxiliary_addresses) for each in spec.ipam.config)
    if auxiliary > AUXILIARY_MAX:
        raise Invalid(f"a network has at most {AUXILIARY_MAX} auxiliary addresses, {auxiliary} are given")
    _check_pools(spec.ipam, spec.enable_ipv6)


def check_encryption(spec: NetworkSpec, nodes: Iterable[Node]) -> None:
    """Errors: `Unsupported`, where the network is to be encrypted, and no node can."""
    if spec.is_encrypted and not any(each.description.has(ESP) for each in nodes):
        raise Unsupported(
            "no node of this swarm can encrypt what it sends to others: that needs IPsec (ESP, AES-GCM) in"
            " the kernel and the program ip; the log of each skepd says what is missing"
            " (encryption.unavailable). Leave out --opt"
            f" {ENCRYPTED_OPTION}, or have the nodes on a network of their own"
        )


def _check_family(spec: NetworkSpec) -> None:
    """Errors: `Unsupported`. Tunnels lead IPv4 only."""
    subnets = spec.ipam.config if spec.ipam is not None else []
    if spec.driver == OVERLAY and (spec.enable_ipv6 or any(":" in each.subnet for each in subnets)):
        raise Unsupported(
            "IPv6 is not supported on overlay networks yet: by it containers would not reach those of other"
            " nodes. Leave out --ipv6 and subnets of IPv6 (enable_ipv6 in a stack file)"
        )


def _check_mtu(spec: NetworkSpec) -> None:
    """Errors: `Invalid`. Docker finds it on each node, where tasks fail for it."""
    text = spec.options.get(MTU_OPTION, "") if spec.driver == OVERLAY else ""
    if text and not is_mtu(text):
        raise Invalid(f"invalid MTU value: {text[:100]} (a number from {MTU_MIN} to {MTU_MAX})")


def _only_from_configuration(spec: NetworkSpec) -> None:
    """What a network takes from its configuration it does not have of its own (libnetwork's network.go)."""
    ipam = spec.ipam or IPAM()
    no = "are not supported if the network depends on a configuration network"
    is_own = spec.enable_ipv6 or spec.labels or ipam.options or ipam.config
    if is_own or ipam.driver not in ("", "default"):
        raise Denied(f"user specified configurations {no}")
    if spec.options:
        raise Denied(f"network driver options {no}")


def _check_pools(ipam: IPAM, is_ipv6: bool) -> None:
    """Errors: `Invalid`, which says all that is wrong (moby's ValidateIPAM, since engine 25)."""
    wrong = [text for config in ipam.config for text in _wrong_in(config, is_ipv6)]
    if wrong:
        listed = wrong[0] if len(wrong) == 1 else "\n".join(f"* {text}" for text in wrong)
        raise Invalid(f"invalid network config:\n{listed}")


def _wrong_in(config: IPAMConfig, is_ipv6: bool) -> Iterator[str]:
    interface = _prefix(config.subnet)
    if interface is None:
        yield f"invalid subnet {config.subnet}: invalid CIDR block notation"
        return
    subnet = interface.network
    if subnet.version == 6 and not is_ipv6:
        return  # it is kept, and nothing is given out of it
    if interface.ip != subnet.network_address:
        yield f"invalid subnet {config.subnet}: it should be {subnet}"
    for taken, whose in _NOBODYS.items():
        if subnet.overlaps(ipaddress.ip_network(taken)):
            yield f"invalid subnet {config.subnet}: {whose} ({taken}), and no container can have one"
    if config.ip_range:
        yield from _wrong_in_range(config, subnet)
    named = [(f"gateway {config.gateway}", config.gateway)]
    named += [(f"auxiliary address {name}", text) for name, text in config.auxiliary_addresses.items()]
    for what, text in named:
        wrong = _wrong_in_address(what, text, config.subnet, subnet) if text else ""
        if wrong:
            yield wrong


def _wrong_in_range(config: IPAMConfig, subnet: Subnet) -> Iterator[str]:
    what = f"invalid ip-range {config.ip_range}:"
    interface = _prefix(config.ip_range)
    if interface is None:
        yield f"{what} invalid CIDR block notation"
        return
    within = interface.network
    if within.version != subnet.version:
        yield f"{what} parent subnet is an IPv{subnet.version} block"
        return
    if within.prefixlen < subnet.prefixlen:
        yield f"{what} CIDR block is bigger than its parent subnet {config.subnet}"
    if interface.ip != within.network_address:
        yield f"{what} it should be {within}"
    if not within.overlaps(subnet):
        yield f"{what} parent subnet {config.subnet} doesn't contain ip-range"


def _wrong_in_address(what: str, text: str, parent: str, subnet: Subnet) -> str:
    """Returns an empty text where nothing is."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return f"invalid {what}: invalid address"
    if address.version != subnet.version:
        return f"invalid {what}: parent subnet is an IPv{subnet.version} block"
    if address not in subnet:
        return f"invalid {what}: parent subnet {parent} doesn't contain this address"
    return ""


def _prefix(text: str) -> Interface | None:
    """Returns an address with its prefix's length, as Go's netip.ParsePrefix reads it; None for others."""
    if not _PREFIX.fullmatch(text):
        return None  # Python takes masks and leading zeros, too
    try:
        return ipaddress.ip_interface(text)
    except ValueError:
        return None
