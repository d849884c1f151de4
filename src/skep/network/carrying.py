"""Changes, carried out: devices and ways first, then rules, then what goes. Blocking.

Who asks for a service's own address is answered when there are rules for it, and not before: a connection
that begins without them goes on without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

import structlog

from skep.network import firewalld, iptables, ipvs, xfrm
from skep.network.diff import Changes
from skep.network.esp import SEALED_IN, SEALED_OUT
from skep.network.fast_path_kernel import FastPaths
from skep.network.netlink import Entry, Netlink, Return
from skep.network.nftables import Nftables
from skep.network.objects import (
    Accept,
    Chain,
    Counter,
    EspPolicy,
    EspState,
    FastPort,
    FastService,
    FastTunnel,
    FirewallMark,
    Neighbour,
    Object,
    PortJump,
    RealServer,
    Table,
    Traffic,
    Trusted,
    Tunnel,
    VipJump,
    VirtualService,
)
from skep.network.ruleset import transaction
from skep.runtime.errors import SkepError

log = structlog.get_logger()

_RULES = (
    Table,
    Counter,
    Traffic,
    FirewallMark,
    Chain,
    PortJump,
    VipJump,
    FastTunnel,
    FastPort,
    FastService,
)


def carry_out(
    netlink: Netlink, nftables: Nftables, fast_paths: FastPaths, changes: Changes
) -> tuple[str, ...]:
    """Does what can be done; what cannot is said, and tried again with the next look."""
    if changes:
        log.info("mesh.changes", puts=len(changes.puts), drops=len(changes.drops))
    if failures := _seal(netlink, nftables, changes):
        return tuple(failures)
    vips = {each.address for each in changes.puts if isinstance(each, VipJump)}
    answers = {each for each in changes.puts if isinstance(each, Neighbour) and each.address in vips}
    # firewalld's program may wait for firewalld: rules do not wait for that.
    late = {each for each in changes.puts if isinstance(each, Trusted)}
    failures = _puts(netlink, [each for each in changes.puts if each not in answers and each not in late])
    try:
        if text := transaction(changes, nftables.takes_rules):
            nftables.run(text)
        failures += fast_paths.carry_out(changes)
        failures += _puts(netlink, answers)
    except SkepError as error:
        failures.append(str(error))
        # Without rules a tunnel is open to anybody.
        failures += _drops(netlink, [each for each in changes.puts if isinstance(each, Tunnel)])
    failures += _drops(netlink, changes.drops)
    failures += _puts(netlink, late)
    return tuple(failures)


def _seal(netlink: Netlink, nftables: Nftables, changes: Changes) -> list[str]:
    """Does first what keeps encrypted networks' packets from going plain: rules that drop them are there
    before their tunnels are, and go after these. Returns what fails: nothing else is done then."""
    sealing = [
        each for each in changes.puts if isinstance(each, Chain) and each.name in (SEALED_OUT, SEALED_IN)
    ]
    if sealing:
        try:
            nftables.run(transaction(Changes(puts=tuple(sealing)), nftables.takes_rules))
        except SkepError as error:
            return [str(error)]
    if any(isinstance(each, EspPolicy) for each in changes.drops):
        return _drops(netlink, [each for each in changes.drops if isinstance(each, Tunnel)])
    return []


def _puts(netlink: Netlink, objects: Iterable[Object]) -> list[str]:
    done = _done(
        objects, netlink.put, netlink.put_entries, netlink.put_returns, _put_rule, xfrm.put, ipvs.put
    )
    return list(done)


def _drops(netlink: Netlink, objects: Iterable[Object]) -> list[str]:
    done = _done(
        objects, netlink.drop, netlink.drop_entries, netlink.drop_returns, _drop_rule, xfrm.drop, ipvs.drop
    )
    return list(done)


def _put_rule(each: Accept | Trusted) -> None:
    iptables.put(each) if isinstance(each, Accept) else firewalld.put(each)


def _drop_rule(each: Accept | Trusted) -> None:
    iptables.drop(each) if isinstance(each, Accept) else firewalld.drop(each)


def _done(
    objects: Iterable[Object],
    one: Callable[[Object], None],
    many: Callable[[Sequence[Entry]], Iterable[str]],
    ways_back: Callable[[Sequence[Return]], Iterable[str]],
    rule: Callable[[Accept | Trusted], None],
    esp: Callable[[Sequence[EspPolicy | EspState]], Iterable[str]],
    servers: Callable[[Sequence[VirtualService | RealServer]], Iterable[str]],
) -> Iterator[str]:
    """Yields what fails, for people."""
    for kind, group in groupby(objects, type):
        if kind in _RULES:
            continue
        if issubclass(kind, Entry | Return):
            those = list(group)
            try:
                yield from many([each for each in those if isinstance(each, Entry)])
                yield from ways_back([each for each in those if isinstance(each, Return)])
            except SkepError as error:
                yield str(error)
            continue
        if kind is EspPolicy or kind is EspState:
            yield from esp([each for each in group if isinstance(each, EspPolicy | EspState)])
            continue
        if kind is VirtualService or kind is RealServer:
            yield from servers([each for each in group if isinstance(each, VirtualService | RealServer)])
            continue
        for each in group:
            try:
                rule(each) if isinstance(each, Accept | Trusted) else one(each)
            except SkepError as error:
                yield str(error)
