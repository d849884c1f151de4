"""The network of a directory's machines: a bridge in a namespace of its own, and one cable to this host."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

import msgspec

from skep.machine.local import addresses
from skep.machine.local.hosts import LocalHosts
from skep.machine.local.programs import run_program, script

_PREFIX = re.compile(r"(?!0\.)[\d.]+(/\d+)?")  # no word like "default", and not all there is


class _Way(msgspec.Struct):
    """A line of `ip -json route`."""

    dst: str = "default"
    dev: str = ""


async def ensure_network(hosts: LocalHosts, wanted: str) -> ipaddress.IPv4Network:
    """Returns the network, which is there then; whoever calls it is the one that is `adding`. Errors:
    `Conflict`, `Invalid`, `Unavailable`, `Corrupt`."""
    network = hosts.network()
    if network is None:
        network = addresses.choose_network(wanted, await _ways())
        hosts.save_network(network)
    else:
        await _check_there(wanted, network, hosts.directory)
    values = addresses.network_environment(hosts.directory, network)
    await run_program([*script("network.sh"), "up"], "the machines' network cannot be made", values)
    return network


async def remove_network(hosts: LocalHosts) -> None:
    """Errors: `Unavailable`."""
    network = hosts.network()
    if network is not None:
        values = addresses.network_environment(hosts.directory, network)
        await run_program([*script("network.sh"), "down"], "the machines' network cannot be removed", values)


async def check_network(directory: Path, wanted: str) -> None:
    """Looks whether machines can have it, and changes nothing. Errors: as of `ensure_network`."""
    network = LocalHosts(directory).network()
    if network is None:
        addresses.choose_network(wanted, await _ways())
    else:
        await _check_there(wanted, network, directory)


async def _check_there(wanted: str, network: ipaddress.IPv4Network, directory: Path) -> None:
    """Errors: `Conflict` where it is not what is asked for, or is somebody else's by now."""
    addresses.check_network_stays(wanted, network, str(directory))
    own = addresses.network_environment(directory, network)["UPLINK"]
    addresses.check_network_is_ours(network, await _ways(besides=own), str(directory))


async def _ways(besides: str = "") -> list[ipaddress.IPv4Network]:
    """Returns where this host's routes lead, of all tables, without the default and those by that device."""
    said = await run_program(["ip", "-json", "-4", "route", "show", "table", "all"], "ip route")
    ways = msgspec.json.decode(said or "[]", type=list[_Way])
    found = [each.dst for each in ways if not besides or each.dev != besides]
    return [ipaddress.IPv4Network(each, strict=False) for each in found if _PREFIX.fullmatch(each)]
