"""The node's part of the mesh and its networks in its kernel: found, compared with what should be, repaired.

Blocking, one call at a time, and `forget` beside it, in threads. What stands goes on without this process;
whatever was done to it meanwhile, by whomever, the next look finds. Between looks a change costs what it
changes.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from msgspec.structs import replace

from skep.model.data_path import IPVS
from skep.model.kernel_net import Carried, KernelNet
from skep.model.mesh import BRIDGE_PREFIX, Mesh, bridge_name, not_published, tunnel_name
from skep.model.overlay import Overlay
from skep.network import iptables, xfrm, zones
from skep.network.applied import Applied
from skep.network.arrivals import Arrivals
from skep.network.carrying import carry_out
from skep.network.desired import Desired, desired, is_used, ports_of, settings_of
from skep.network.diff import Changes, Known, diff, diff_parts
from skep.network.fast_path import with_counts
from skep.network.fast_path_kernel import FastPaths, remove_earlier
from skep.network.flows import Flows
from skep.network.host import RESOLV_CONF, HostFacts, nameservers
from skep.network.ipvs import Ipvs, is_likely
from skep.network.lingering import Lingering
from skep.network.marks import OURS
from skep.network.modules import filters_bridges
from skep.network.netlink import Netlink
from skep.network.nftables import Nftables
from skep.network.objects import EspPolicy, EspState, Object, Port, ReturnRoute, Trusted, Tunnel, VipJump
from skep.network.ports import HeldPorts
from skep.network.ruleset import (
    EMPTY,
    LIST,
    LIST_CHAINS,
    LIST_COUNTED,
    counted,
    dropping,
    found,
    has_chains,
)
from skep.network.seen_kernel import carried, kernel_net
from skep.network.segment import is_encrypted, is_published
from skep.network.steering import is_steered, steering_settings
from skep.network.turn import Turn
from skep.runtime.errors import SkepError, Unavailable

NOT_OF_THE_OTHER = (
    "network {} ends at this host: another skepd here, of the same swarm, has its networks in hand, and no"
    " task on this one. Give each node a host (or network namespace) of its own"
)


class DataPlane:
    """Of one node of a swarm. Errors of `apply`: `Unavailable`, `Corrupt`, where nothing could be looked
    at."""

    def __init__(self, node_id: str, swarm_id: str = "", resolv_conf: Path = RESOLV_CONF) -> None:
        self._node_id = node_id
        self._swarm_id = swarm_id
        self._resolv_conf = resolv_conf
        self._turn = Turn()
        self._held = HeldPorts()
        self._nftables: Nftables | None = None
        self._host = HostFacts()
        self._seen_for = (False, False, False)  # what of the host was looked at last depends on this
        self._lingering = Lingering()
        self._flows = Flows()
        self._known: Known | None = None  # what there is, as far as this process did it
        self._wanted = Desired()  # the last time
        self._ipvs = Ipvs()
        self._fast_paths = FastPaths()
        self._may_encrypt = True  # there may be what encrypts, also of a process before
        self._refused: dict[tuple[str, int], str] = {}  # ports that somebody else has, and who

    def apply(self, mesh: Mesh, look: bool = True, gone: Collection[str] = ()) -> Applied:
        """Has the kernel have what the mesh needs here. Without `look`, what it has is taken for known.
        `gone` are addresses of large networks that nobody has."""
        ports = ports_of(mesh)
        try:
            others = self._turn.take(self._swarm_id)
            if others is not None:
                self._held.close()
                return Applied(self._left_to_another(others, mesh))
            nftables = self._rules()
        except Unavailable:
            if is_used(mesh):
                raise
            return Applied()  # nothing is wanted of it
        refused = self._refused = self._held.hold(ports)
        with Netlink() as netlink:
            if self._known is None or look or self._is_for_more(mesh):
                look = True
                self._host = self._see_host(netlink, nftables, mesh)
                self._known = Known(rest=self._look(netlink, mesh))
                self._fast_paths.sweep(time.monotonic())
            known, self._known = self._known, None  # until all of it is done
            before = self._wanted
            numbers = _numbers(known.rest) if look else before.numbers
            host = self._host = self._see_devices(netlink)
            wanted = desired(mesh, self._node_id, host, refused, numbers, before, self._ipvs.marks)
            if wanted.is_unknown:
                return Applied(wanted.failures)
            lingering = self._lingering.of(_unneeded(host, mesh), time.monotonic())
            changes = diff_parts(wanted.parts, known, lingering)
            failures = carry_out(netlink, nftables, self._fast_paths, changes)
            self._ipvs.done(wanted.fwmarks, is_whole=not failures)
            self._wanted, vips = wanted, wanted.vips
            if failures:
                vips = frozenset(each.address for each in known.objects if isinstance(each, VipJump))
            else:
                self._known = Known(wanted.parts, frozenset(changes.stays))
        if not is_used(mesh) and not failures:
            self._turn.give_back()  # another swarm may have something
            self._known = None
        self._flows.forget(host, mesh, changes, gone)
        failures += wanted.failures
        failures += tuple(
            f"{not_published(port, protocol, ports[protocol, port].name)}: it is taken by {who}"
            for (protocol, port), who in sorted(refused.items())
        )
        changed = len(changes.drops) + len(changes.puts)
        flows = self._flows
        return Applied(failures, changed, bool(lingering), vips, flows.unsure, flows.has_lost)

    def forget(self) -> None:
        """Forgets connections to tasks that are gone; to be done after `apply`, also beside the next one.
        Errors: `Unavailable`."""
        self._flows.forget_lost()

    def arrivals(self, addresses: Collection[str]) -> Arrivals:
        """Returns which connections begin to these addresses from now on. Does not block."""
        return Arrivals(addresses)

    def _left_to_another(self, others: str, mesh: Mesh) -> tuple[str, ...]:
        """Returns what of this node's is not done by the skepd that works here, for people."""
        if others:
            return (others,) if is_used(mesh) else ()
        own = mesh.nodes.get(self._node_id, "")
        return tuple(
            NOT_OF_THE_OTHER.format(overlay.network.name)
            for _, overlay in sorted(mesh.overlays.items())
            if (overlay.network.is_large or any(each != own for each in overlay.nodes.values()))
            and not _is_there(overlay)
        )

    def seen(self, mesh: Mesh) -> KernelNet:
        """Returns what the kernel has beside what it should have; changes nothing. Errors: as `apply`."""
        others = self._turn.take(self._swarm_id)
        try:
            return self._seen(mesh, others)
        finally:
            if not is_used(mesh):
                self._turn.give_back()

    def carried(self) -> list[Carried]:
        """Returns what this node has led to tasks; reads what is counted, and nothing else of the kernel.
        Empty where this process has not worked at it. Errors: `Unavailable`, `Corrupt`."""
        if self._nftables is None:
            return []
        listings = [self._nftables.list(each) for each in LIST_COUNTED]
        rules = counted(each for each in listings if each is not None)
        return carried(with_counts(rules, self._fast_paths.counts()))

    def _seen(self, mesh: Mesh, others: str | None) -> KernelNet:
        if others is not None:
            return KernelNet(
                failures=[others or "another skepd on this host has the swarm's networks in hand"]
            )
        nftables = self._rules()
        with Netlink() as netlink:
            self._host = self._see_host(netlink, nftables, mesh)
            host = self._host = self._see_devices(netlink)
            there = self._look(netlink, mesh)
        wanted = desired(mesh, self._node_id, host, self._refused, _numbers(there), marks=self._ipvs.marks)
        if wanted.is_unknown:
            return kernel_net(there, Changes(), wanted.failures)
        lingering = self._lingering.of(_unneeded(host, mesh), time.monotonic())
        return kernel_net(there, diff(wanted.objects, there, lingering), wanted.failures)

    def clear(self) -> tuple[str, ...]:
        """Takes all of it away, and lets the ports go; also what a process of before has made. Returns what
        is still there, for people. Another skepd that works here has its own, and takes away what it does
        not want: nothing is touched then. A bridge that containers are on stays with them."""
        failures: tuple[str, ...] = ()
        try:
            with Netlink() as netlink:
                failures = self._clear(netlink)
        except SkepError as error:
            failures = (str(error),)
        self.close()
        return failures

    def _clear(self, netlink: Netlink) -> tuple[str, ...]:
        try:
            if self._turn.take("") is not None:
                return ()
            nftables = self._rules()
            self._may_encrypt = True
            there = self._look(netlink, Mesh())
        except Unavailable:
            if netlink.bridges():
                raise
            return ()  # a node without the library, or the right to use it, never had anything
        failures = carry_out(netlink, nftables, self._fast_paths, diff((), there))
        self._ipvs.done({}, is_whole=not failures)
        return failures

    def why_not_encrypted(self) -> str:
        """Returns why this host cannot encrypt what goes to others, for people; empty where it can."""
        return xfrm.why_not()

    def may_have_ipvs(self) -> bool:
        """True where this host's kernel has IPVS, as far as can be told before it is wanted."""
        return is_likely()

    def close(self) -> None:
        """Ends the work; what stands goes on."""
        self._held.close()
        self._turn.give_back()
        self._fast_paths.close()
        self._known, self._wanted = None, Desired()

    def _is_for_more(self, mesh: Mesh) -> bool:
        """True where the host was not looked at yet with an eye to published ports, or to overlays."""
        return any(now and not then for now, then in zip(_for(mesh), self._seen_for, strict=True))

    def _see_host(self, netlink: Netlink, nftables: Nftables, mesh: Mesh) -> HostFacts:
        self._seen_for = _for(mesh)
        addresses = netlink.addresses()
        own = addresses.get(mesh.nodes.get(self._node_id, ""), "")
        uplinks = {*netlink.default_devices(), own} - {""}
        return replace(
            self._host,
            addresses=frozenset(addresses),
            devices=addresses,
            broadcasts=frozenset(netlink.broadcasts()),
            uplinks=frozenset(uplinks),
            routes=frozenset(netlink.routes()),
            nameservers=frozenset(nameservers(self._resolv_conf)),
            accept_in=iptables.accept_in(),
            firewalls=tuple(_firewalls(nftables, (str(OURS), BRIDGE_PREFIX))) if is_published(mesh) else (),
            filters_bridges=bool(mesh.overlays) and filters_bridges(),
            has_fast_path=bool(mesh.overlays) and self._fast_paths.is_possible,
            why_no_ipvs=self._ipvs.why_not() if mesh.data_path == IPVS else "",
            overlay_firewalls=tuple(_firewalls(nftables, (BRIDGE_PREFIX,))) if mesh.overlays else (),
        )

    def _rules(self) -> Nftables:
        if self._nftables is None:
            self._nftables = Nftables()
            remove_earlier(self._nftables)
        return self._nftables

    def _see_devices(self, netlink: Netlink) -> HostFacts:
        """Returns the host with our devices as they are. Whose bridge somebody deleted is put back on it."""
        ports, gateways = netlink.ports(), netlink.gateways()
        lost = {each for each in self._host.ports - ports if netlink.is_nowhere(each)}
        bridges = {each.bridge for each in lost}
        gateways |= {each for each in self._host.gateways if each.bridge in bridges}
        return replace(
            self._host,
            bridges=frozenset(netlink.bridges()),
            ports=frozenset(ports | lost),
            gateways=frozenset(gateways),
            tunnels=frozenset(netlink.tunnels()),
            crossing=frozenset(netlink.crossing()),
            fwmarks_taken=self._ipvs.taken,
        )

    def _look(self, netlink: Netlink, mesh: Mesh) -> frozenset[Object]:
        assert self._nftables is not None
        listing = self._nftables.list(LIST)
        rules = list(found(listing)) if listing is not None else []
        settings = list(settings_of(mesh))
        if is_wanted := is_published(mesh) and is_steered(mesh, self._host):
            settings += steering_settings()
        rules += self._ipvs.look(rules, is_wanted)
        esp = self._look_at_esp(mesh)
        self._host = replace(self._host, esp=frozenset(e for e in esp if isinstance(e, EspState)))
        trusted = self._look_at_firewalld(self._nftables, mesh)
        devices = list(netlink.found(settings))
        tunnels = [each for each in devices if isinstance(each, Tunnel)]
        fast = list(self._fast_paths.found(tunnels, [each for each in devices if isinstance(each, Port)]))
        counted = with_counts(rules, self._fast_paths.counts())
        return frozenset([*devices, *fast, *iptables.found(), *trusted, *esp, *counted])

    def _look_at_firewalld(self, nftables: Nftables, mesh: Mesh) -> list[Trusted]:
        """Without firewalld this costs a listing of chains."""
        listing = None
        if has_chains(nftables.list(LIST_CHAINS) or EMPTY, zones.TABLE):
            with contextlib.suppress(Unavailable):  # of a newer nft, which this library cannot read
                listing = nftables.list(zones.LIST)
        own, shut = mesh.nodes.get(self._node_id, ""), ""
        if listing is not None and _has_others(mesh, own):
            shut = zones.keeps_out(listing, self._host.devices.get(own, ""), _data_port(mesh))
        self._host = replace(self._host, has_firewalld=listing is not None, shut_zone=shut)
        return [Trusted()] if listing is not None and zones.is_bound(listing) else []

    def _look_at_esp(self, mesh: Mesh) -> list[EspPolicy | EspState]:
        """Errors: `Unavailable`, where something is to be encrypted."""
        if not (self._may_encrypt or is_encrypted(mesh)):
            return []
        self._may_encrypt = True  # until nothing of it is found
        try:
            found = xfrm.found()
        except Unavailable:
            if is_encrypted(mesh):
                raise
            return []
        self._may_encrypt = bool(found) or is_encrypted(mesh)
        return found


def _for(mesh: Mesh) -> tuple[bool, bool, bool]:
    return is_published(mesh), bool(mesh.overlays), mesh.data_path == IPVS


def _has_others(mesh: Mesh, own: str) -> bool:
    """True where this node has tunnels."""
    told = [mesh.nodes, *(each.nodes for each in mesh.overlays.values())]
    return any(each != own for nodes in told for each in nodes.values())


def _data_port(mesh: Mesh) -> int:
    """Returns the UDP port of tunnels that are not encrypted, the same for all; 0 where there are none."""
    networks = [each.network for each in mesh.overlays.values() if not each.network.is_encrypted]
    networks += [mesh.network] if mesh.network is not None else []
    return networks[-1].data_port if networks else 0


def _numbers(known: Iterable[Object]) -> dict[str, int]:
    """Returns the numbers of other nodes' addresses that are in use."""
    return {each.via: each.number for each in known if isinstance(each, ReturnRoute)}


def _is_there(overlay: Overlay) -> bool:
    try:
        return bool(socket.if_nametoindex(tunnel_name(overlay.network.vni)))
    except OSError:
        return False


def _unneeded(host: HostFacts, mesh: Mesh) -> set[str]:
    """Returns our bridges that containers are not on, of networks that the node was not told of."""
    networks = [overlay.network for overlay in mesh.overlays.values()]
    networks += [mesh.network] if mesh.network is not None else []
    return set(host.bridges) - {each.bridge for each in host.ports} - {bridge_name(n.vni) for n in networks}


def _firewalls(nftables: Nftables, known: tuple[str, ...]) -> Iterator[str]:
    """Yields others' tables that drop what is forwarded and know nothing of ours."""
    for table in dropping(nftables.list(LIST_CHAINS) or EMPTY):
        try:
            listing = nftables.list(f"list table {table}") or ""
        except Unavailable:
            continue  # of a newer nft, which this library cannot read
        if not any(text in listing for text in known):
            yield table
