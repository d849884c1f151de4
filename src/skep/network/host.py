"""What a node's kernel says of it, as far as the mesh must know it."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from skep.network.objects import EspState, Gateway, Port

RESOLV_CONF = Path("/etc/resolv.conf")


class Route(Struct, frozen=True):
    """A route of the host's main table. `devices` and `gateways` are none, one, or those of several ways."""

    destination: str
    devices: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()


class Host(Struct, frozen=True):
    """What this node's kernel says of it: its IPv4 addresses, the devices by which it reaches others (a
    bridge among them is no containers' one), our bridges, with the ports and addresses that they have or had
    before somebody deleted them, where our tunnels end, and the chain of iptables in which the mesh must be
    accepted. `broadcasts` are addresses that mean all hosts of a network of this one's,
    `devices` those that addresses are on, `firewalls` tables of nftables that drop what is forwarded and
    have nothing for the mesh, `overlay_firewalls` those that have nothing for other networks, `nameservers`
    whom this host asks. `filters_bridges`: what goes from port to port of a bridge can pass rules, too.
    `has_fast_path`: devices can have programs of their own; `crossing` are ports that lead into another
    network namespace. `esp` are associations of IPsec that are ours. `why_no_ipvs` is looked at where the
    swarm wants IPVS; `fwmarks_taken` are marks of services of IPVS's that are not ours. `shut_zone` is the
    one of firewalld's that keeps other nodes' tunnels out."""

    addresses: frozenset[str] = frozenset()
    broadcasts: frozenset[str] = frozenset()
    devices: dict[str, str] = {}
    firewalls: tuple[str, ...] = ()
    overlay_firewalls: tuple[str, ...] = ()
    uplinks: frozenset[str] = frozenset()
    bridges: frozenset[str] = frozenset()
    ports: frozenset[Port] = frozenset()
    gateways: frozenset[Gateway] = frozenset()
    tunnels: frozenset[str] = frozenset()
    accept_in: str = ""
    routes: frozenset[Route] = frozenset()
    nameservers: frozenset[str] = frozenset()
    filters_bridges: bool = False
    has_fast_path: bool = False
    crossing: frozenset[str] = frozenset()
    esp: frozenset[EspState] = frozenset()
    why_no_ipvs: str = ""
    fwmarks_taken: frozenset[int] = frozenset()
    has_firewalld: bool = False
    shut_zone: str = ""


def nameservers(resolv_conf: Path) -> tuple[str, ...]:
    """Returns the addresses of whom this host asks for names, in its order; none where it does not say."""
    try:
        lines = [line.split() for line in resolv_conf.read_text(errors="replace").splitlines()]
    except OSError:
        return ()
    found = (words[1] for words in lines if words[:1] == ["nameserver"] and len(words) > 1)
    return tuple(dict.fromkeys(found))
