"""Local machines' network, of a directory's machines, and their addresses there. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from pathlib import PurePath

from skep.runtime.errors import Conflict, Invalid

NETWORK_PREFIX = 24  # the default network's: 253 machines, of some 40 MB each and more
# Where nobody says which: the first of these that is on none of the host's ways.
NETWORKS = tuple(ipaddress.IPv4Network(f"10.{number}.0.0/{NETWORK_PREFIX}") for number in range(218, 250))


def network_of(text: str) -> ipaddress.IPv4Network:
    """Errors: `Invalid`."""
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise Invalid(f"--local-network {text}: {error}") from error
    if not 16 <= network.prefixlen <= 29:
        raise Invalid(f"--local-network {text}: it is from /16 to /29, as 10.218.0.0/24")
    return network


def choose_network(wanted: str, taken: Iterable[ipaddress.IPv4Network]) -> ipaddress.IPv4Network:
    """Returns the network of a directory's machines. `taken`: where the host's own ways lead, without the
    default. Errors: `Conflict`, `Invalid`."""
    ways = list(taken)
    if wanted:
        network = network_of(wanted)
        if way := next((each for each in ways if each.overlaps(network)), None):
            raise Conflict(f"--local-network {wanted}: this host has a way to {way} already")
        return network
    for network in NETWORKS:
        if not any(each.overlaps(network) for each in ways):
            return network
    raise Conflict(
        "this host has ways to all networks that machines could have: name another, --local-network"
    )


def choose_address(network: ipaddress.IPv4Network, taken: Iterable[str]) -> str:
    """Returns the lowest that nobody has; the first is this host's. Errors: `Conflict`."""
    used = {ipaddress.IPv4Address(each) for each in taken}
    for address in list(network.hosts())[1:]:
        if address not in used:
            return str(address)
    raise Conflict(
        f"all addresses of {network} are taken: the machines of another --local-directory have others"
    )


def gateway_of(network: ipaddress.IPv4Network) -> str:
    return str(network[1])


def mac_of(address: str) -> str:
    """Returns the same for the same address: nobody's table of neighbours is wrong after a power cycle."""
    return "02:5b:" + ":".join(f"{part:02x}" for part in ipaddress.IPv4Address(address).packed)


def tag_of(directory: PurePath, network: ipaddress.IPv4Network) -> str:
    """Returns what devices of a directory's machines are known by among those of others: 6 characters. The
    same path may be there twice, in roots that share this host's network."""
    return hashlib.sha256(f"{directory} {network}".encode()).hexdigest()[:6]


def network_environment(directory: PurePath, network: ipaddress.IPv4Network) -> dict[str, str]:
    """Returns what `network.sh` is told."""
    tag = tag_of(directory, network)
    return {
        "LAN": str(directory / "bridge"),  # a file; after a boot it stands for nothing
        "UPLINK": f"skepm{tag}",
        "GATEWAY": gateway_of(network),
        "PREFIX": str(network.prefixlen),
        "SUBNET": str(network),
        "TAG": f"skep-machines-{tag}",
    }


def check_network_stays(wanted: str, there: ipaddress.IPv4Network, directory: str) -> None:
    """Errors: `Conflict` where a directory's machines have another network than the one that is asked for."""
    if wanted and network_of(wanted) != there:
        raise Conflict(
            f"the machines of {directory} have the network {there}: others can have {wanted} in another"
            " --local-directory"
        )


def check_network_is_ours(
    network: ipaddress.IPv4Network, taken: Iterable[ipaddress.IPv4Network], directory: str
) -> None:
    """Errors: `Conflict` where the host's other ways lead into the machines' network: another directory's
    machines took it while all of these were off. Before a way to more than it (a VPN's) their own goes."""
    if way := next((each for each in taken if each.subnet_of(network)), None):
        raise Conflict(
            f"the machines of {directory} have the network {network}, and this host has another way to {way}"
            f" by now: ip route show {way} says which, and that has to go first"
        )
