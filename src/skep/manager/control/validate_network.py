"""What a new network must satisfy, in Docker's words (Engine API 1.51; swarmkit's controlapi). Pure."""

from __future__ import annotations

import ipaddress

from skep.manager.control.validate import check_dns_name
from skep.model.network import IPAM, OVERLAY, IPAMConfig, NetworkSpec
from skep.runtime.errors import Denied, Invalid, NotFound

# Drivers of the node's own networks that the swarm may have a name for (`--scope swarm`).
NODE_LOCAL = ("bridge", "host", "ipvlan", "macvlan")
RESERVED = ("none", "default")
SUBNETS_MAX = 64  # of one network; a bridge has one, and a body must not ask for thousands


def validate_network(spec: NetworkSpec) -> None:
    """Errors: `Denied`, `Invalid`, `NotFound` for a driver nobody has."""
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
    if spec.driver != OVERLAY and spec.driver not in NODE_LOCAL:
        raise NotFound(f'plugin "{spec.driver}" not found')
    if spec.ipam is None:
        return
    if spec.ipam.driver not in ("", "default"):
        raise Invalid(
            f"rpc error: code = InvalidArgument desc = error during lookup of plugin {spec.ipam.driver}"
        )
    if len(spec.ipam.config) > SUBNETS_MAX:
        raise Invalid(f"a network has at most {SUBNETS_MAX} subnets, {len(spec.ipam.config)} are asked for")
    for config in spec.ipam.config:
        _pool(config)


def _only_from_configuration(spec: NetworkSpec) -> None:
    """What a network takes from its configuration it does not have of its own (libnetwork's network.go)."""
    ipam = spec.ipam or IPAM()
    no = "are not supported if the network depends on a configuration network"
    is_own = spec.enable_ipv6 or spec.labels or ipam.options or ipam.config
    if is_own or ipam.driver not in ("", "default"):
        raise Denied(f"user specified configurations {no}")
    if spec.options:
        raise Denied(f"network driver options {no}")


def _pool(config: IPAMConfig) -> None:
    what = "rpc error: code = InvalidArgument desc = ipam configuration:"
    try:
        subnet = ipaddress.ip_network(config.subnet if "/" in config.subnet else "", strict=False)
    except ValueError as error:
        raise Invalid(f"Invalid subnet {config.subnet} : invalid CIDR address: {config.subnet}") from error
    if config.ip_range:
        try:
            within = ipaddress.ip_network(config.ip_range, strict=False)
        except ValueError as error:
            raise Invalid(f"{what} invalid range {config.ip_range}") from error
        if within.network_address not in subnet or within.broadcast_address not in subnet:
            raise Invalid(f"{what} subnet {config.subnet} does not contain range {config.ip_range}")
    named = [("gateway", config.gateway)] if config.gateway else []
    named += [("auxiliary address", text) for text in config.auxiliary_addresses.values()]
    for kind, text in named:
        try:
            address = ipaddress.ip_address(text)
        except ValueError as error:
            raise Invalid(f"{what} invalid {kind} {text}") from error
        if address not in subnet:
            raise Invalid(f"{what} subnet {config.subnet} does not contain {kind} {text}")
