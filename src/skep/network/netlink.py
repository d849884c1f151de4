"""Devices, addresses, routes and neighbours, by netlink: what of them is the mesh's, read and changed.

pyroute2 is known here (and `conntrack`) only. Each call is blocking, and belongs into a thread: its socket
runs a loop of its own. What is ours is known by names (`skb…`, `skv…`) and by a protocol number.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.ndmsg import NTF_MASTER, NTF_SELF, NUD_NOARP, NUD_PERMANENT

from skep.model.mesh import BRIDGE_PREFIX, TUNNEL_PREFIX
from skep.network.host import Route
from skep.network.marks import NUMBER_MASK, OURS, OURS_MASK
from skep.network.objects import (
    Bridge,
    Forward,
    Gateway,
    Hairpin,
    Neighbour,
    Object,
    Port,
    PortForward,
    ReturnRoute,
    ReturnRule,
    SubnetRoute,
    Sysctl,
    Tunnel,
)
from skep.runtime.errors import Unavailable

PROTOCOL = 0x5A  # of routes and rules: `ip route show proto 90`; iproute2 gives names to none near
TABLES = 0x5A_0000  # the table of node 1 is one more; others use small numbers
PRIORITY = 7700  # of rules: before the main table, 32766
# Behind the route that the kernel makes of the bridge's own address, and nobody else's: those of DHCP clients
# and network managers are round numbers.
METRIC = 7791
SYSCTLS = Path("/proc/sys/net")
_MASK = OURS_MASK | NUMBER_MASK
_OURS = re.compile(f"{BRIDGE_PREFIX}[0-9]+")
_TUNNEL = re.compile(f"{TUNNEL_PREFIX}[0-9]+")
# ENOENT, ESRCH, ENODEV, EOPNOTSUPP (a tunnel whose bridge is gone), EADDRNOTAVAIL; EEXIST
_GONE, _THERE = (2, 3, 19, 95, 99), (17,)
_SCOPE_LINK, _MAIN, _LOCAL = 253, 254, 255
_BROADCAST = 3  # RTN_BROADCAST


def make_bridge(name: str, mtu: int) -> None:
    """Makes a bridge that is not there, for an engine that is about to use it: one that the engine makes goes
    with the engine's network. The rest of it is `Netlink`'s. Errors: `Unavailable`."""
    with Netlink() as netlink:
        netlink.make_bridge(name, mtu)


class Netlink:
    """One look at the kernel, and what is done about it. Errors: `Unavailable`, where that is not allowed."""

    def __init__(self) -> None:
        try:
            self._ip = IPRoute()
            self._links = {link["index"]: link for link in self._ip.get_links()}
        except (OSError, NetlinkError) as error:
            raise Unavailable(f"the kernel's netlink does not answer: {error}") from error
        self._indexes = {str(_of(link, "IFLA_IFNAME")): index for index, link in self._links.items()}

    def __enter__(self) -> Netlink:
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
            str(_of(each, "IFA_LOCAL") or _of(each, "IFA_ADDRESS")): self._name(each["index"])
            for each in found
        }

    def broadcasts(self) -> set[str]:
        """Returns the addresses that mean all hosts of a network of this one's, as the kernel sees it."""
        return {
            str(_of(route, "RTA_DST"))
            for route in self._ip.get_routes(family=socket.AF_INET, table=_LOCAL)
            if route["type"] == _BROADCAST
        }

    def default_devices(self) -> set[str]:
        """Returns the devices by which the world is reached."""
        return {
            self._name(_of(route, "RTA_OIF") or 0)
            for route in self._ip.get_routes(family=socket.AF_INET)
            if route["dst_len"] == 0 and _of(route, "RTA_TABLE") == _MAIN  # ours are defaults, too, of others
        }

    def routes(self) -> set[Route]:
        """Returns the main table's routes, but for those by devices that have just come."""
        found = set()
        for each in self._ip.get_routes(family=socket.AF_INET, table=_MAIN):
            hops = [(_of(each, "RTA_OIF"), _of(each, "RTA_GATEWAY"))]
            hops += [(hop["oif"], _of(hop, "RTA_GATEWAY")) for hop in _of(each, "RTA_MULTIPATH") or ()]
            devices = tuple(self._name(index) for index, _ in hops if index)
            if all(devices):
                gateways = tuple(str(gateway) for _, gateway in hops if gateway)
                to = f"{_of(each, 'RTA_DST') or '0.0.0.0'}/{each['dst_len']}"
                found.add(Route(to, devices, gateways))
        return found

    def bridges(self) -> set[str]:
        """Returns our bridges."""
        return {name for name in self._indexes if _OURS.fullmatch(name)}

    def ports(self) -> set[Port]:
        """Returns the ports of our bridges, but for tunnels."""
        found = {
            Port(self._name(index), self._name(_of(link, "IFLA_MASTER") or 0))
            for index, link in self._links.items()
            if _kind(link) != "vxlan"
        }
        return {each for each in found if _OURS.fullmatch(each.bridge)}

    def is_nowhere(self, port: Port) -> bool:
        """True where the device is there, and on no bridge."""
        index = self._indexes.get(port.name)
        return index is not None and _of(self._links[index], "IFLA_MASTER") is None

    def gateways(self) -> set[Gateway]:
        """Returns the addresses of our bridges."""
        found = {
            Gateway(self._name(each["index"]), f"{_of(each, 'IFA_ADDRESS')}/{each['prefixlen']}")
            for each in self._ip.get_addr(family=socket.AF_INET)
        }
        return {each for each in found if _OURS.fullmatch(each.bridge)}

    def tunnels(self) -> set[str]:
        """Returns the addresses at which our tunnels end here."""
        return {self._tunnel(link, "").local for link in self._links.values() if _is_ours(link)}

    # What there is

    def found(self, sysctls: Iterable[Sysctl]) -> Iterator[Object]:
        """Yields what of ours there is; of settings, those that are asked for."""
        for index, link in self._links.items():
            name, kind = self._name(index), _kind(link)
            if kind == "bridge" and _OURS.fullmatch(name):
                yield Bridge(name, str(_of(link, "IFLA_ADDRESS")), int(_of(link, "IFLA_MTU")), _is_up(link))
                yield from self._neighbours(index, name)
            elif _is_ours(link):
                yield self._tunnel(link, name)
                yield from self._forwards(index, name)
        yield from self.gateways()
        for port in self.ports():
            yield port
            data = _of(_of(self._links[self._indexes[port.name]], "IFLA_LINKINFO"), "IFLA_INFO_SLAVE_DATA")
            if _of(data, "IFLA_BRPORT_MODE"):
                yield Hairpin(port.name)
        yield from self._routes()
        yield from self._rules()
        for each in sysctls:
            yield Sysctl(each.path, _setting(each))

    def _tunnel(self, link: Any, name: str) -> Tunnel:
        data = _of(_of(link, "IFLA_LINKINFO"), "IFLA_INFO_DATA")
        return Tunnel(
            name,
            self._name(_of(link, "IFLA_MASTER") or 0),
            int(_of(data, "IFLA_VXLAN_ID")),
            str(_of(data, "IFLA_VXLAN_LOCAL")),
            int(_of(data, "IFLA_VXLAN_PORT")),
            int(_of(link, "IFLA_MTU")),
            _is_up(link),
        )

    def _neighbours(self, index: int, name: str) -> Iterator[Neighbour]:
        for each in self._ip.get_neighbours(family=socket.AF_INET, ifindex=index):
            if each["state"] == NUD_PERMANENT and each["ifindex"] == index:
                yield Neighbour(name, str(_of(each, "NDA_DST")), str(_of(each, "NDA_LLADDR")))

    def _forwards(self, index: int, name: str) -> Iterator[Object]:
        for each in self._ip.get_neighbours(family=socket.AF_BRIDGE, ifindex=index):
            if each["ifindex"] != index:
                continue
            mac, remote = str(_of(each, "NDA_LLADDR")), _of(each, "NDA_DST")
            if remote is not None:
                yield Forward(name, mac, str(remote))
            elif each["state"] == NUD_NOARP:
                yield PortForward(name, mac)

    def _routes(self) -> Iterator[Object]:
        for each in self._ip.get_routes(family=socket.AF_INET, proto=PROTOCOL):
            table = int(_of(each, "RTA_TABLE") or each["table"])
            bridge, to = self._name(_of(each, "RTA_OIF") or 0), _of(each, "RTA_DST")
            if not _OURS.fullmatch(bridge):
                continue  # somebody else uses the number, too
            if to is None and table > TABLES:
                yield ReturnRoute(table - TABLES, str(_of(each, "RTA_GATEWAY")), bridge)
            elif to is not None:
                yield SubnetRoute(f"{to}/{each['dst_len']}", bridge)

    def _rules(self) -> Iterator[ReturnRule]:
        for each in self._ip.get_rules(family=socket.AF_INET):
            is_ours = _of(each, "FRA_PROTOCOL") == PROTOCOL and _of(each, "FRA_PRIORITY") == PRIORITY
            if is_ours and _of(each, "FRA_FWMASK") == _MASK:
                yield ReturnRule(int(_of(each, "FRA_FWMARK")) & ~OURS)

    # What is done

    def put(self, each: Object) -> None:
        """Makes an object, or has it as it is to be. Errors: `Unavailable`, with the kernel's words."""
        self._do(each, "made", _THERE if isinstance(each, ReturnRule) else (), self._puts()[type(each)])

    def drop(self, each: Object) -> None:
        """Takes an object away; that it is gone already is as well."""
        self._do(each, "removed", _GONE, self._drops()[type(each)])

    def _do(self, each: Object, what: str, passed: tuple[int, ...], call: Callable[[Any], object]) -> None:
        try:
            call(each)
        except NetlinkError as error:
            if error.code not in passed:
                raise Unavailable(f"{_said(each)} could not be {what}: {error}") from error
        except (OSError, LookupError) as error:
            if what != "removed":  # what is on a device that is gone is gone
                raise Unavailable(f"{_said(each)} could not be {what}: {error!r}") from error

    def _puts(self) -> dict[type, Callable[[Any], object]]:
        return {
            Bridge: self._put_bridge,
            Tunnel: self._put_tunnel,
            Port: lambda o: self._ip.link(
                "set", index=self._indexes[o.name], master=self._indexes[o.bridge], state="up"
            ),
            Gateway: self._put_gateway,
            Hairpin: lambda o: self._ip.brport("set", index=self._indexes[o.port], mode=1),
            Sysctl: _set,
            SubnetRoute: self._put_subnet,
            Neighbour: lambda o: self._ip.neigh("replace", state=NUD_PERMANENT, **self._neighbour(o)),
            Forward: self._put_forward,
            PortForward: lambda o: self._ip.fdb("replace", state=NUD_NOARP, **self._behind(o)),
            ReturnRoute: lambda o: self._ip.route("replace", **self._return(o)),
            ReturnRule: lambda o: self._ip.rule("add", **_rule(o)),
        }

    def _drops(self) -> dict[type, Callable[[Any], object]]:
        return {
            Bridge: lambda o: self._ip.link("del", index=self._indexes[o.name]),
            Tunnel: lambda o: self._ip.link("del", index=self._indexes[o.name]),
            SubnetRoute: lambda o: self._ip.route("del", **self._subnet(o)),
            Neighbour: lambda o: self._ip.neigh("del", **self._neighbour(o)),
            Forward: lambda o: self._ip.fdb("del", dst=o.remote, **self._at_tunnel(o)),
            PortForward: lambda o: self._ip.fdb("del", **self._behind(o)),
            ReturnRoute: lambda o: self._ip.route("del", **self._return(o)),
            ReturnRule: lambda o: self._ip.rule("del", **_rule(o)),
        }

    def make_bridge(self, name: str, mtu: int) -> None:
        """Makes a bridge that is not there. Errors: `Unavailable`."""
        if name in self._indexes:
            return
        try:
            self._ip.link("add", ifname=name, kind="bridge", mtu=mtu, br_mcast_snooping=0)
        except NetlinkError as error:
            if error.code not in _THERE:  # somebody was faster by a moment
                raise Unavailable(f"bridge {name} could not be made: {error}") from error
        self._learn(name)

    def _put_bridge(self, each: Bridge) -> None:
        self.make_bridge(each.name, each.mtu)
        index = self._indexes[each.name]
        # Only what differs: a MAC address that is set again, to what it is, costs the neighbours.
        if str(_of(self._links[index], "IFLA_ADDRESS")) != each.mac:
            self._ip.link("set", index=index, address=each.mac)
        if int(_of(self._links[index], "IFLA_MTU")) != each.mtu:
            self._ip.link("set", index=index, mtu=each.mtu)
        self._ip.link("set", index=index, state="up")

    def _put_tunnel(self, each: Tunnel) -> None:
        if each.name in self._indexes:  # where it ends, and its number, cannot be changed
            self._ip.link("del", index=self._indexes[each.name])
        self._ip.link(
            "add",
            ifname=each.name,
            kind="vxlan",
            vxlan_id=each.vni,
            vxlan_local=each.local,
            vxlan_port=each.data_port,
            vxlan_learning=False,
            vxlan_proxy=True,
            mtu=each.mtu,
            master=self._indexes[each.bridge],
        )
        self._learn(each.name)
        _set(Sysctl(f"ipv6/conf/{each.name}/disable_ipv6", "1"))
        self._ip.link("set", index=self._indexes[each.name], state="up")

    def _put_subnet(self, each: SubnetRoute) -> None:
        for known in self._routes():  # by a bridge of before
            if isinstance(known, SubnetRoute) and known.subnet == each.subnet:
                self._ip.route("del", **self._subnet(known))
        self._ip.route("add", priority=METRIC, **self._subnet(each))  # never in another route's place

    def _put_gateway(self, each: Gateway) -> None:
        address, _, length = each.address.partition("/")
        index = self._indexes[each.bridge]
        self._ip.addr("replace", index=index, address=address, prefixlen=int(length))

    def _put_forward(self, each: Forward) -> None:
        # A second remote would be added beside the first.
        for known in self._forwards(self._indexes[each.tunnel], each.tunnel):
            if isinstance(known, Forward) and known.mac == each.mac and known.remote != each.remote:
                self._ip.fdb("del", dst=known.remote, **self._at_tunnel(known))
        self._ip.fdb("replace", dst=each.remote, state=NUD_PERMANENT, **self._at_tunnel(each))

    def _learn(self, name: str) -> None:
        (link,) = self._ip.get_links(ifname=name)
        self._links[link["index"]] = link
        self._indexes[name] = link["index"]

    # How objects are named to the kernel

    def _subnet(self, each: SubnetRoute) -> dict[str, Any]:
        return {
            "dst": each.subnet,
            "oif": self._indexes[each.bridge],
            "proto": PROTOCOL,
            "scope": _SCOPE_LINK,
        }

    def _return(self, each: ReturnRoute) -> dict[str, Any]:
        return {
            "dst": "default",
            "gateway": each.via,
            "oif": self._indexes[each.bridge],
            "table": TABLES + each.number,
            "proto": PROTOCOL,
            "flags": ["onlink"],
        }

    def _neighbour(self, each: Neighbour) -> dict[str, Any]:
        return {"dst": each.address, "lladdr": each.mac, "ifindex": self._indexes[each.bridge]}

    def _at_tunnel(self, each: Forward) -> dict[str, Any]:
        return {"ifindex": self._indexes[each.tunnel], "lladdr": each.mac, "flags": NTF_SELF}

    def _behind(self, each: PortForward) -> dict[str, Any]:
        # Without the flag the tunnel's own table is meant for some commands, and the bridge's for others.
        return {"ifindex": self._indexes[each.tunnel], "lladdr": each.mac, "flags": NTF_MASTER}

    def _name(self, index: int) -> str:
        link = self._links.get(index)
        return "" if link is None else str(_of(link, "IFLA_IFNAME"))


def _said(each: Object) -> str:
    """Returns an object as people are told of it."""
    return f"of the routing mesh, {type(each).__name__} {each.key}"


def _rule(each: ReturnRule) -> dict[str, Any]:
    return {
        "priority": PRIORITY,
        "fwmark": OURS | each.number,
        "fwmask": _MASK,
        "table": TABLES + each.number,
        "protocol": PROTOCOL,
    }


def _setting(each: Sysctl) -> str:
    """Returns what a setting is; what is wanted, where this kernel has no such setting."""
    try:
        return (SYSCTLS / each.path).read_text().strip()
    except OSError:
        is_ipv6_off = each.path.startswith("ipv6/") and not (SYSCTLS / "ipv6").exists()
        return each.value if is_ipv6_off else ""


def _set(each: Sysctl) -> None:
    if _setting(each) != each.value:
        (SYSCTLS / each.path).write_text(each.value)


def _of(message: Any, attribute: str) -> Any:
    return None if message is None else message.get_attr(attribute)


def _kind(link: Any) -> str:
    return str(_of(_of(link, "IFLA_LINKINFO"), "IFLA_INFO_KIND"))


def _is_ours(link: Any) -> bool:
    """True for a tunnel of ours."""
    return _kind(link) == "vxlan" and bool(_TUNNEL.fullmatch(str(_of(link, "IFLA_IFNAME"))))


def _is_up(link: Any) -> bool:
    return bool(link["flags"] & 1)
