"""What is done about the mesh's devices, addresses, routes and neighbours, by netlink. See `seen`."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.ndmsg import NTF_MASTER, NTF_SELF, NUD_NOARP

from skep.network import neighbours, objects, returns
from skep.network.seen import DUMMY, PROTOCOL, SYSCTLS, Seen, of, setting
from skep.network.seen_kernel import named
from skep.runtime.errors import Conflict, Unavailable

# Behind the route that the kernel makes of the bridge's own address, and nobody else's: those of DHCP clients
# and network managers are round numbers.
METRIC = 7791
# ENOENT, ESRCH, ENODEV, EOPNOTSUPP (a tunnel whose bridge is gone), EADDRNOTAVAIL; EEXIST
_GONE, _THERE = (2, 3, 19, 95, 99), (17,)
_PASSED: dict[type, tuple[int, ...]] = {objects.Hairpin: _GONE}  # a container may just have ended
_SCOPE_LINK = 253
_NO_DEVICE = -1  # the kernel says that there is none


def make_bridge(name: str, mtu: int, subnet: str, address: str = "", is_new: bool = False) -> None:
    """Makes a bridge that is not there, for an engine that is about to use it: one that the engine makes goes
    with the engine's network. `address`, with its prefix length, is what the engine's network has given it,
    and a bridge that has none gets it again; or, where that network `is_new`, what it will, and the bridge
    has no other from now on. The rest of it is `Netlink`'s.

    Errors: `Conflict` for one that has another subnet's addresses, `Unavailable`.
    """
    with Netlink() as netlink:
        netlink.make_bridge(name, mtu)
        there = [each.address for each in netlink.gateways() if each.bridge == name]
        others = [each for each in there if not _is_of(each, subnet)]
        if others:
            raise Conflict(
                f"bridge {name} of this host has address {others[0]} of another network, perhaps of another"
                f" swarm's: this one is {subnet}. Give each swarm hosts (or network namespaces) of its own"
            )
        if address and (is_new or not there):
            netlink.put(objects.Gateway(name, address))
            netlink.bring_up(name)
            netlink.drop_addresses(name, [DUMMY, *(each for each in there if each != address)])


def make_bare_bridge(name: str) -> None:
    """Has a bridge that is there have no address but `DUMMY`, for an engine that makes no network of one that
    the host has. `make_bridge` ends that. Errors: `Unavailable`."""
    with Netlink() as netlink:
        there = [each.address for each in netlink.gateways() if each.bridge == name]
        if there:
            netlink.put(objects.Gateway(name, DUMMY))
            netlink.drop_addresses(name, there)


def _is_of(address: str, subnet: str) -> bool:
    return ipaddress.IPv4Interface(address).ip in ipaddress.IPv4Network(subnet, strict=False)


Entry = objects.Neighbour | objects.PortForward | objects.Forward
Return = objects.ReturnRoute | objects.ReturnRule


class Netlink(Seen):
    """One look at the kernel, and what is done about it. Errors: `Unavailable`, where that is not allowed.
    Entries of tables, and ways back, are put and dropped many at once, all others one by one."""

    def put(self, each: objects.Object) -> None:
        """Makes an object, or has it as it is to be. Errors: `Unavailable`, with the kernel's words."""
        self._do(each, "made", _PASSED.get(type(each), ()), self._puts()[type(each)])

    def drop(self, each: objects.Object) -> None:
        """Takes an object away; that it is gone already is as well."""
        self._do(each, "removed", _GONE, self._drops()[type(each)])

    def put_entries(self, wanted: Sequence[Entry]) -> Iterator[str]:
        """Makes them, or has them as they are to be; containers that have another address in mind for one
        hear of it. Yields for people which could not be made. Errors: `Unavailable`."""
        others = list(self._elsewhere([each for each in wanted if isinstance(each, objects.Forward)]))
        yield from _done_at_once(others, "removed", lambda: neighbours.drop(self._entries(others)), _GONE)
        yield from _done_at_once(wanted, "made", lambda: neighbours.put(self._entries(wanted)), ())
        told: dict[tuple[str, str], list[str]] = {}
        for each in wanted:
            if isinstance(each, objects.Neighbour):
                told.setdefault((each.device, each.mac), []).append(each.address)
        for (device, mac), addresses in told.items():
            bridge = self._bridge_of(device)  # of tunnels only
            with contextlib.suppress(OSError):  # a kernel without packet sockets, or a bridge that is down
                if bridge:
                    neighbours.announce(bridge, mac, addresses)

    def _bridge_of(self, device: str) -> str:
        index = self._indexes.get(device)
        return "" if index is None else self._name(of(self._links[index], "IFLA_MASTER") or 0)

    def drop_entries(self, gone: Sequence[Entry]) -> Iterator[str]:
        """Takes them away; that one is gone already is as well. Yields, errors as `put_entries`."""
        yield from _done_at_once(gone, "removed", lambda: neighbours.drop(self._entries(gone)), _GONE)

    def put_returns(self, wanted: Sequence[Return]) -> Iterator[str]:
        """Makes ways back. Yields, errors as `put_entries`."""
        yield from _done_at_once(wanted, "made", lambda: returns.put(wanted, self._indexes), _THERE)

    def drop_returns(self, gone: Sequence[Return]) -> Iterator[str]:
        """Takes them away; that one is gone already is as well. Yields, errors as `put_entries`."""
        yield from _done_at_once(gone, "removed", lambda: returns.drop(gone, self._indexes), _GONE)

    def _elsewhere(self, wanted: Sequence[objects.Forward]) -> Iterator[objects.Forward]:
        """Yields where else tunnels lead to the same MAC addresses: a second remote would be added to it."""
        remotes = {(each.tunnel, each.mac): each.remote for each in wanted}
        for tunnel in {each.tunnel for each in wanted} & self._indexes.keys():
            for each in self._forwards(self._indexes[tunnel], tunnel):
                if isinstance(each, objects.Forward) and remotes.get(each.key, each.remote) != each.remote:
                    yield each

    def _entries(self, those: Sequence[Entry]) -> list[neighbours.Entry]:
        return [self._entry(each) for each in those]

    def _entry(self, each: Entry) -> neighbours.Entry:
        if isinstance(each, objects.Neighbour):
            return neighbours.Entry(self._indexes.get(each.device, _NO_DEVICE), each.address, each.mac)
        device = self._indexes.get(each.tunnel, _NO_DEVICE)
        # Without a flag the tunnel's own table is meant for some commands, and the bridge's for others.
        if isinstance(each, objects.Forward):
            return neighbours.Entry(device, each.remote, each.mac, socket.AF_BRIDGE, flags=NTF_SELF)
        return neighbours.Entry(device, "", each.mac, socket.AF_BRIDGE, NUD_NOARP, NTF_MASTER)

    def _do(
        self, each: objects.Object, what: str, passed: tuple[int, ...], call: Callable[[Any], object]
    ) -> None:
        try:
            call(each)
        except NetlinkError as error:
            if error.code not in passed:
                raise Unavailable(f"{named(each)} could not be {what}: {error}") from error
        except (OSError, LookupError) as error:
            if what != "removed":  # what is on a device that is gone is gone
                raise Unavailable(f"{named(each)} could not be {what}: {error!r}") from error

    def _puts(self) -> dict[type, Callable[[Any], object]]:
        return {
            objects.Bridge: self._put_bridge,
            objects.Tunnel: self._put_tunnel,
            objects.Port: lambda o: self._ip.link(
                "set", index=self._indexes[o.name], master=self._indexes[o.bridge], state="up"
            ),
            objects.Gateway: self._put_gateway,
            objects.Hairpin: lambda o: self._ip.brport("set", index=self._indexes[o.port], mode=1),
            objects.Filtered: lambda o: self._ip.link(
                "set", index=self._indexes[o.bridge], kind="bridge", br_nf_call_iptables=1
            ),
            objects.Sysctl: _set,
            objects.SubnetRoute: self._put_subnet,
        }

    def _drops(self) -> dict[type, Callable[[Any], object]]:
        return {
            objects.Bridge: lambda o: self._ip.link("del", index=self._indexes[o.name]),
            objects.Tunnel: lambda o: self._ip.link("del", index=self._indexes[o.name]),
            objects.SubnetRoute: lambda o: self._ip.route("del", **self._subnet(o)),
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

    def bring_up(self, name: str) -> None:
        """Has a device up. Errors: `Unavailable`."""
        try:
            self._ip.link("set", index=self._indexes[name], state="up")
        except (NetlinkError, LookupError) as error:
            raise Unavailable(f"{name} could not be brought up: {error}") from error

    def drop_addresses(self, name: str, addresses: Iterable[str]) -> None:
        """Takes addresses from a device that has another one: without any, for a moment only, it would lose
        all its neighbours and routes, permanent ones too. Errors: `Unavailable`."""
        _set(objects.Sysctl(f"ipv4/conf/{name}/promote_secondaries", "1"))
        for each in addresses:
            address, _, length = each.partition("/")
            index = self._indexes[name]
            try:
                self._ip.addr("del", index=index, address=address, prefixlen=int(length))
            except NetlinkError as error:
                if error.code not in _GONE:
                    raise Unavailable(f"{name} keeps its address {each}: {error}") from error

    def _put_bridge(self, each: objects.Bridge) -> None:
        self.make_bridge(each.name, each.mtu)
        index = self._indexes[each.name]
        # Only what differs: a MAC address that is set again, to what it is, costs the neighbours.
        if str(of(self._links[index], "IFLA_ADDRESS")) != each.mac:
            self._ip.link("set", index=index, address=each.mac)
        if int(of(self._links[index], "IFLA_MTU")) != each.mtu:
            self._ip.link("set", index=index, mtu=each.mtu)
        self._ip.link("set", index=index, state="up")

    def _put_tunnel(self, each: objects.Tunnel) -> None:
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
            vxlan_l3miss=each.tells_misses,
            mtu=each.mtu,
            master=self._indexes[each.bridge],
        )
        self._learn(each.name)
        index = self._indexes[each.name]
        # What is behind it is known. By what it answers to containers, the bridge would find its own address.
        self._ip.brport("set", index=index, learning=0)
        _set(objects.Sysctl(f"ipv6/conf/{each.name}/disable_ipv6", "1"))
        self._ip.link("set", index=index, state="up")

    def _put_subnet(self, each: objects.SubnetRoute) -> None:
        for known in self._routes():  # by a bridge of before
            if isinstance(known, objects.SubnetRoute) and known.subnet == each.subnet:
                self._ip.route("del", **self._subnet(known))
        self._ip.route("add", priority=METRIC, **self._subnet(each))  # never in another route's place

    def _put_gateway(self, each: objects.Gateway) -> None:
        address, _, length = each.address.partition("/")
        index = self._indexes[each.bridge]
        self._ip.addr("replace", index=index, address=address, prefixlen=int(length))

    def _learn(self, name: str) -> None:
        (link,) = self._ip.get_links(ifname=name)
        self._links[link["index"]] = link
        self._indexes[name] = link["index"]

    # How objects are named to the kernel

    def _subnet(self, each: objects.SubnetRoute) -> dict[str, Any]:
        return {
            "dst": each.subnet,
            "oif": self._indexes[each.bridge],
            "proto": PROTOCOL,
            "scope": _SCOPE_LINK,
        }


def _done_at_once(
    those: Sequence[objects.Object], what: str, call: Callable[[], list[int]], passed: tuple[int, ...]
) -> Iterator[str]:
    """Yields what fails, for people. `call` returns an error's number for each, or 0."""
    try:
        errors = call() if those else []
    except OSError as error:
        raise Unavailable(f"{named(those[0])} could not be {what}: {error}") from error
    failed = [(o, code) for o, code in zip(those, errors, strict=True) if code and code not in passed]
    for each, code in failed[:1]:  # a device that is not there has thousands
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        yield f"{named(each)}{more} could not be {what}: {os.strerror(code)}"


def _set(each: objects.Sysctl) -> None:
    if setting(each) != each.value:
        (SYSCTLS / each.path).write_text(each.value)
