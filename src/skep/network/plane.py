"""The node's part of the mesh in its kernel: found, compared with what should be, and repaired.

Blocking, one call at a time, in a thread of its own. What stands goes on without this process; whatever was
done to it meanwhile, by whomever, the next look finds. Between looks a change costs what it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import structlog
from msgspec import Struct
from msgspec.structs import replace

from skep.model.mesh import BRIDGE_PREFIX, UDP, Mesh, not_published
from skep.network import iptables
from skep.network.conntrack import forget_tasks, forget_udp
from skep.network.desired import desired, is_used, ports_of, settings
from skep.network.diff import Changes, after, diff
from skep.network.host import Host, nameservers
from skep.network.marks import OURS
from skep.network.netlink import Netlink
from skep.network.nftables import Nftables
from skep.network.objects import Accept, Chain, Object, PortJump, ReturnRoute, Sysctl, Table, Tunnel
from skep.network.ports import HeldPorts
from skep.network.ruleset import EMPTY, LIST, LIST_CHAINS, dropping, found, transaction
from skep.network.turn import Turn
from skep.runtime.errors import SkepError, Unavailable

log = structlog.get_logger()

RESOLV_CONF = Path("/etc/resolv.conf")
_RULES = (Table, Chain, PortJump)


class Applied(Struct, frozen=True):
    """`failures` are sentences for people; none where all of the mesh is as it should be."""

    failures: tuple[str, ...] = ()
    changed: int = 0  # objects


class DataPlane:
    """Of one node. Errors of `apply`: `Unavailable`, `Corrupt`, where nothing could be looked at."""

    def __init__(self, node_id: str, resolv_conf: Path = RESOLV_CONF) -> None:
        self._node_id = node_id
        self._resolv_conf = resolv_conf
        self._turn = Turn()
        self._held = HeldPorts()
        self._nftables: Nftables | None = None
        self._host = Host()
        self._tasks: set[str] = set()  # addresses of those that there were
        self._known: frozenset[Object] | None = None  # what there is, as far as this process did it

    def apply(self, mesh: Mesh, look: bool = True) -> Applied:
        """Has the kernel have what the mesh needs here. Without `look`, what it has is taken for known."""
        ports = ports_of(mesh)
        try:
            others = self._turn.take(mesh.network.id if mesh.network is not None else "")
            if others is not None:
                self._held.close()
                return Applied((others,) if others and ports else ())
            nftables = self._nftables = self._nftables or Nftables()
        except Unavailable:
            if ports:
                raise
            return Applied()  # nothing is wanted of it
        refused = self._held.hold(ports)
        with Netlink() as netlink:
            if look or self._known is None:
                self._host = self._see_host(netlink, nftables, mesh)
                self._known = self._look(netlink, settings(mesh.network) if mesh.network is not None else ())
            host = self._host = self._see_devices(netlink)
            numbers = {each.via: each.number for each in self._known if isinstance(each, ReturnRoute)}
            wanted = desired(mesh, self._node_id, host, refused, numbers)
            if wanted.is_unknown:
                self._known = None
                return Applied(wanted.failures)
            changes = diff(wanted.objects, self._known)
            failures = self._carry_out(netlink, nftables, changes)
            self._known = None if failures else after(self._known, changes)
        if not is_used(mesh) and not failures:
            self._turn.give_back()  # another swarm may have something
            self._known = None
        self._forget_flows(host, mesh, changes)
        failures += wanted.failures
        failures += tuple(
            f"{not_published(port, protocol, ports[protocol, port].name)}: it is taken by {who}"
            for (protocol, port), who in sorted(refused.items())
        )
        return Applied(failures, len(changes.drops) + len(changes.puts))

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
            nftables = self._nftables = self._nftables or Nftables()
            there = self._look(netlink, ())
        except Unavailable:
            if netlink.bridges():
                raise
            return ()  # a node without the library, or the right to use it, never had anything
        return self._carry_out(netlink, nftables, diff((), there))

    def close(self) -> None:
        """Ends the work; what stands goes on."""
        self._held.close()
        self._turn.give_back()
        self._known = None

    def _see_host(self, netlink: Netlink, nftables: Nftables, mesh: Mesh) -> Host:
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
            firewalls=tuple(_firewalls(nftables)) if is_used(mesh) else (),
        )

    def _see_devices(self, netlink: Netlink) -> Host:
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
        )

    def _look(self, netlink: Netlink, wanted: Iterable[Sysctl]) -> frozenset[Object]:
        assert self._nftables is not None
        listing = self._nftables.list(LIST)
        rules = found(listing) if listing is not None else ()
        return frozenset([*netlink.found(wanted), *iptables.found(), *rules])

    def _carry_out(self, netlink: Netlink, nftables: Nftables, changes: Changes) -> tuple[str, ...]:
        """Does what can be done; what cannot is said, and tried again with the next look."""
        if changes:
            log.info("mesh.changes", puts=len(changes.puts), drops=len(changes.drops))
        failures: list[str] = []
        for each in changes.puts:
            _try(failures, self._put, netlink, each)
        try:
            if text := transaction(changes):
                nftables.run(text)
        except SkepError as error:
            failures.append(str(error))
            for each in changes.puts:
                if isinstance(each, Tunnel):  # without rules it is open to anybody
                    _try(failures, self._drop, netlink, each)
        for each in changes.drops:
            _try(failures, self._drop, netlink, each)
        return tuple(failures)

    def _put(self, netlink: Netlink, each: Object) -> None:
        if isinstance(each, Accept):
            iptables.put(each)
        elif not isinstance(each, _RULES):
            netlink.put(each)

    def _drop(self, netlink: Netlink, each: Object) -> None:
        if isinstance(each, Accept):
            iptables.drop(each)
        elif not isinstance(each, _RULES):
            netlink.drop(each)

    def _forget_flows(self, host: Host, mesh: Mesh, changes: Changes) -> None:
        """Of UDP's ports whose tasks are others now, and all that went to tasks that are gone."""
        names = {each.name for each in (*changes.puts, *changes.drops) if isinstance(each, Chain)}
        tasks: dict[int, set[str]] = {
            int(name.removeprefix("udp-")): set() for name in names if name.startswith("udp-")
        }
        for (protocol, port), service in ports_of(mesh).items():
            if protocol == UDP and port in tasks:
                tasks[port] = {each.address for each in service.endpoints if each.takes_new}
        for port, addresses in tasks.items():
            forget_udp(port, host.addresses, addresses)
        now = {each.address for service in mesh.services.values() for each in service.endpoints}
        before, self._tasks = self._tasks, now
        if before - now:
            forget_tasks(before - now)


def _firewalls(nftables: Nftables) -> Iterator[str]:
    """Yields others' tables that drop what is forwarded and know nothing of the mesh."""
    for table in dropping(nftables.list(LIST_CHAINS) or EMPTY):
        try:
            listing = nftables.list(f"list table {table}") or ""
        except Unavailable:
            continue  # of a newer nft, which this library cannot read
        if str(OURS) not in listing and BRIDGE_PREFIX not in listing:
            yield table


def _try(
    failures: list[str], call: Callable[[Netlink, Object], None], netlink: Netlink, each: Object
) -> None:
    try:
        call(netlink, each)
    except SkepError as error:
        failures.append(str(error))
