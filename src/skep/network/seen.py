"""Devices, addresses, routes and neighbours, by netlink: what there is, of the host and of the mesh.

pyroute2 is known here, in `netlink`, `neighbours` and `conntrack` only. Each call is blocking, and belongs
into a thread: its socket runs a loop of its own. What is ours is known by names (`skb…`, `skv…`) and by a
protocol number.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.ndmsg import NUD_NOARP

from skep.model.mesh import BRIDGE_PREFIX, TUNNEL_PREFIX
from skep.network import neighbours, objects
from skep.network.host import HostRoute
from skep.network.return_rules import TABLES, is_ours
from skep.runtime.errors import Unavailable

PROTOCOL = 0x5A  # of routes and rules: `ip route show proto 90`; iproute2 gives names to none near
SYSCTLS = Path("/proc/sys/net")
# IPv4's own dummy address (RFC 7600), a bridge's for the moment in which it is to have no other: with the
# last one the kernel takes all neighbours and routes away.
DUMMY = "192.0.0.8/32"
_OURS = re.compile(f"{BRIDGE_PREFIX}[0-9]+")
_TUNNEL = re.compile(f"{TUNNEL_PREFIX}[0-9]+")
_MAIN, _LOCAL = 254, 255
_BROADCAST = 3  # RTN_BROADCAST


class Seen:
    """One look at the kernel. Errors: `Unavailable`, where that is not allowed."""

    def __init__(self) -> None:
        try:
            self._ip = IPRoute()
            self._links = {link["index"]: link for link in self._ip.get_links()}
        except (OSError, NetlinkError) as error:
            raise Unavailable(f"the kernel's netlink does not answer: {error}") from error
        self._indexes = {str(of(link, "IFLA_IFNAME")): index for index, link in self._links.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ip.close()

    # The host

    def addresses(self) -> dict[str, str]:
        """Returns the host's IPv4 addresses, each with its device."""
        found = self._ip.get_addr(family=socket.AF_INET)
        return {
            str(of(each, "IFA_LOCAL") or of(each, "IFA_ADDRESS")): self._name(each["index"]) for each in found
        }

    def broadcasts(self) -> set[str]:
        """Returns the addresses that mean all hosts of a network of this one's, as the kernel sees it."""
        return {
            str(of(route, "RTA_DST"))
            for route in self._ip.get_routes(family=socket.AF_INET, table=_LOCAL)
            if route["type"] == _BROADCAST
        }

    def default_devices(self) -> set[str]:
        """Returns the devices by which the world is reached."""
        return {
            self._name(of(route, "RTA_OIF") or 0)
            for route in self._ip.get_routes(family=socket.AF_INET)
            if route["dst_len"] == 0 and of(route, "RTA_TABLE") == _MAIN  # ours are defaults, too, of others
        }

    def routes(self) -> set[HostRoute]:
        """Returns the main table's routes, but for those by devices that have just come."""
        found = set()
        for each in self._ip.get_routes(family=socket.AF_INET, table=_MAIN):
            hops = [(of(each, "RTA_OIF"), of(each, "RTA_GATEWAY"))]
            hops += [(hop["oif"], of(hop, "RTA_GATEWAY")) for hop in of(each, "RTA_MULTIPATH") or ()]
            devices = tuple(self._name(index) for index, _ in hops if index)
            if all(devices):
                gateways = tuple(str(gateway) for _, gateway in hops if gateway)
                to = f"{of(each, 'RTA_DST') or '0.0.0.0'}/{each['dst_len']}"
                found.add(HostRoute(to, devices, gateways))
        return found

    def all_bridges(self) -> set[str]:
        """Returns the host's bridges, whoever made them."""
        return {self._name(index) for index, link in self._links.items() if _kind(link) == "bridge"}

    def bridges(self) -> set[str]:
        """Returns our bridges."""
        return {name for name in self._indexes if _OURS.fullmatch(name)}

    def ports(self) -> set[objects.Port]:
        """Returns the ports of our bridges, but for tunnels."""
        found = {
            objects.Port(self._name(index), self._name(of(link, "IFLA_MASTER") or 0))
            for index, link in self._links.items()
            if _kind(link) != "vxlan"
        }
        return {each for each in found if _OURS.fullmatch(each.bridge)}

    def crossing(self) -> set[str]:
        """Returns the devices whose other end is in another network namespace: containers' are."""
        return {
            self._name(index)
            for index, link in self._links.items()
            if _kind(link) == "veth" and of(link, "IFLA_LINK_NETNSID") is not None
        }

    def is_nowhere(self, port: objects.Port) -> bool:
        """True where the device is there, and on no bridge."""
        index = self._indexes.get(port.name)
        return index is not None and of(self._links[index], "IFLA_MASTER") is None

    def gateways(self) -> set[objects.Gateway]:
        """Returns the addresses of our bridges, without `DUMMY`."""
        found = {
            objects.Gateway(self._name(each["index"]), f"{of(each, 'IFA_ADDRESS')}/{each['prefixlen']}")
            for each in self._ip.get_addr(family=socket.AF_INET)
        }
        return {each for each in found if _OURS.fullmatch(each.bridge) and each.address != DUMMY}

    def tunnels(self) -> set[str]:
        """Returns the addresses at which our tunnels end here."""
        return {self._tunnel(link, "").local for link in self._links.values() if _is_ours(link)}

    # What there is

    def found(self, sysctls: Iterable[objects.Sysctl]) -> Iterator[objects.Object]:
        """Yields what of ours there is; of settings, those that are asked for."""
        for index, link in self._links.items():
            name, kind = self._name(index), _kind(link)
            if kind == "bridge" and _OURS.fullmatch(name):
                mac, mtu = str(of(link, "IFLA_ADDRESS")), int(of(link, "IFLA_MTU"))
                yield objects.Bridge(name, mac, mtu, _is_up(link))
                if of(of(of(link, "IFLA_LINKINFO"), "IFLA_INFO_DATA"), "IFLA_BR_NF_CALL_IPTABLES"):
                    yield objects.Filtered(name)
            elif _is_ours(link):
                yield self._tunnel(link, name)
                yield from self._forwards(index, name)
        yield from self._neighbours()
        yield from self.gateways()
        for port in self.ports():
            yield port
            data = of(of(self._links[self._indexes[port.name]], "IFLA_LINKINFO"), "IFLA_INFO_SLAVE_DATA")
            if of(data, "IFLA_BRPORT_MODE"):
                yield objects.Hairpin(port.name)
        yield from self._routes()
        yield from self._rules()
        for each in sysctls:
            yield objects.Sysctl(each.path, setting(each))

    def _tunnel(self, link: Any, name: str) -> objects.Tunnel:
        data = of(of(link, "IFLA_LINKINFO"), "IFLA_INFO_DATA")
        return objects.Tunnel(
            name,
            self._name(of(link, "IFLA_MASTER") or 0),
            int(of(data, "IFLA_VXLAN_ID")),
            str(of(data, "IFLA_VXLAN_LOCAL")),
            int(of(data, "IFLA_VXLAN_PORT")),
            int(of(link, "IFLA_MTU")),
            _is_up(link),
            bool(of(data, "IFLA_VXLAN_L3MISS")),
        )

    def _neighbours(self) -> Iterator[objects.Neighbour]:
        """Yields those on our bridges and tunnels: of all at once, as the kernel lists them."""
        try:
            found = list(neighbours.permanent())
        except OSError as error:
            raise Unavailable(f"the kernel does not list its neighbours: {error}") from error
        ours = {self._indexes[name]: name for name in self.bridges()}
        ours |= {index: self._name(index) for index, link in self._links.items() if _is_ours(link)}
        for each in found:
            if each.device in ours:
                yield objects.Neighbour(ours[each.device], each.address, each.mac)

    def _forwards(self, index: int, name: str) -> Iterator[objects.Object]:
        for each in self._ip.get_neighbours(family=socket.AF_BRIDGE, ifindex=index):
            if each["ifindex"] != index:
                continue
            mac, remote = str(of(each, "NDA_LLADDR")), of(each, "NDA_DST")
            if remote is not None:
                yield objects.Forward(name, mac, str(remote))
            elif each["state"] == NUD_NOARP:
                yield objects.PortForward(name, mac)

    def _routes(self) -> Iterator[objects.Object]:
        for each in self._ip.get_routes(family=socket.AF_INET, proto=PROTOCOL):
            table = int(of(each, "RTA_TABLE") or each["table"])
            bridge, to = self._name(of(each, "RTA_OIF") or 0), of(each, "RTA_DST")
            if not _OURS.fullmatch(bridge):
                continue  # somebody else uses the number, too
            if to is None and table > TABLES:
                yield objects.ReturnRoute(table - TABLES, str(of(each, "RTA_GATEWAY")), bridge)
            elif to is not None:
                yield objects.SubnetRoute(f"{to}/{each['dst_len']}", bridge)

    def _rules(self) -> Iterator[objects.ReturnRule]:
        for each in self._ip.get_rules(family=socket.AF_INET):
            mark, mask = int(of(each, "FRA_FWMARK") or 0), int(of(each, "FRA_FWMASK") or 0)
            if of(each, "FRA_PROTOCOL") == PROTOCOL and is_ours(mark, mask):
                goto = int(of(each, "FRA_GOTO") or 0)
                table = 0 if goto else int(of(each, "FRA_TABLE") or each["table"])
                yield objects.ReturnRule(int(of(each, "FRA_PRIORITY") or 0), mark, mask, table, goto)

    def _name(self, index: int) -> str:
        link = self._links.get(index)
        return "" if link is None else str(of(link, "IFLA_IFNAME"))


def setting(each: objects.Sysctl) -> str:
    """Returns what a setting is; what is wanted, where this kernel has no such setting."""
    try:
        return (SYSCTLS / each.path).read_text().strip()
    except OSError:
        is_ipv6_off = each.path.startswith("ipv6/") and not (SYSCTLS / "ipv6").exists()
        return each.value if is_ipv6_off else ""


def of(message: Any, name: str) -> Any:
    return None if message is None else message.get_attr(name)


def _kind(link: Any) -> str:
    return str(of(of(link, "IFLA_LINKINFO"), "IFLA_INFO_KIND"))


def _is_ours(link: Any) -> bool:
    """True for a tunnel of ours."""
    return _kind(link) == "vxlan" and bool(_TUNNEL.fullmatch(str(of(link, "IFLA_IFNAME"))))


def _is_up(link: Any) -> bool:
    return bool(link["flags"] & 1)
