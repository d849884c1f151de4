"""Chains and jumps as nftables' text, and back from its listing. Pure.

Anonymous maps and sets only, within rules: what nft's releases write for named ones differs, and a listing
of theirs does not load again. Two named maps lead from ports, and from services' addresses, to chains, so
that a change of a service touches its own chain; the third has the marks of ports that IPVS leads on. Named
sets have ports and addresses as elements that count bytes (`counting`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from skep.network.diff import Changes
from skep.network.objects import (
    BYTES,
    FWMARKS,
    PORT_KINDS,
    PORTS,
    TABLE,
    VIP,
    VIPS,
    Chain,
    ChainCounter,
    FirewallMark,
    Object,
    PortJump,
    Table,
    Traffic,
    VipJump,
)
from skep.runtime.errors import Corrupt

LIST = f"list table ip {TABLE}"
# What is counted, and nothing of the rules beside it.
LIST_COUNTED = (
    f"list counters table ip {TABLE}",
    *(f"list set ip {TABLE} {name}" for name in BYTES.values()),
)
LIST_CHAINS, EMPTY = "list chains", '{"nftables": []}'
Element = PortJump | VipJump | FirewallMark
_COUNTED = (*((kind, "inet_service") for kind in PORT_KINDS), (VIP, "ipv4_addr"))
_WAYS = ("original", "reply")  # of `Traffic`, as conntrack calls them
_IPTABLES = ("ip", "filter")  # iptables' own, in nftables: `network.iptables` sees to it


def transaction(changes: Changes, with_rules: bool = False) -> str:
    """Returns what carries out the changes of chains and jumps, all at once; an empty text for none.
    `with_rules`: the library takes chains with their rules (`Nftables.takes_rules`), which costs a service's
    change 1 ms, where it reads all chains and sets before it adds a rule, 4 ms with 1,000 services."""
    if any(isinstance(each, Table) for each in changes.drops):
        return f"delete table ip {TABLE}\n"
    is_made = any(isinstance(each, Table) for each in changes.puts)
    lines: list[str] = []
    # Who is jumped to must be there, and all chains before their rules, as what these count with.
    lines += [
        f"add counter ip {TABLE} {each.name}" for each in changes.puts if isinstance(each, ChainCounter)
    ]
    lines += _traffic("add", [each for each in changes.puts if isinstance(each, Traffic)])
    lines += [line for each in changes.puts if isinstance(each, Chain) for line in _made(each)]
    lines += [
        f"delete element ip {TABLE} {_map(each)} {{ {_key(each)} }}"
        for each in changes.drops
        if isinstance(each, Element)
    ]
    for each in changes.puts:
        lines += _filled(each, with_rules)
    for each in changes.drops:
        if isinstance(each, Chain):
            lines += [f"flush chain ip {TABLE} {each.name}", f"delete chain ip {TABLE} {each.name}"]
    lines += [
        f"delete counter ip {TABLE} {each.name}" for each in changes.drops if isinstance(each, ChainCounter)
    ]
    uncounted = [each for each in changes.drops if isinstance(each, Traffic)]
    lines += _traffic("add", [each for each in uncounted if not each.is_whole])  # what is not there cannot go
    lines += _traffic("delete", uncounted)
    # A table of an earlier skep has no maps of the later kinds.
    lines = [*_maps(), *lines] if lines or is_made else []
    return "".join(f"{line}\n" for line in lines)


def _maps() -> list[str]:
    return [
        f"add table ip {TABLE}",
        f"add map ip {TABLE} {PORTS} {{ type inet_proto . inet_service : verdict; }}",
        f"add map ip {TABLE} {VIPS} {{ type ipv4_addr : verdict; }}",
        f"add map ip {TABLE} {FWMARKS} {{ type inet_proto . inet_service : mark; }}",
        *(f"add set ip {TABLE} {BYTES[kind]} {{ type ct_dir . {of}; counter; }}" for kind, of in _COUNTED),
    ]


def _traffic(verb: str, those: Sequence[Traffic]) -> Iterator[str]:
    """Yields one command for all elements of a set. What is there already stays, and goes on counting."""
    for kind in sorted({each.kind for each in those}):
        named = ", ".join(f"{way} . {each.of}" for each in those if each.kind == kind for way in _WAYS)
        yield f"{verb} element ip {TABLE} {BYTES[kind]} {{ {named} }}"


def _made(each: Chain) -> Iterator[str]:
    yield f"add chain ip {TABLE} {each.name} {{ {_hook(each)}}}"
    yield f"flush chain ip {TABLE} {each.name}"


def _hook(each: Chain) -> str:
    if each.hook is None:
        return ""
    kind, where, priority = each.hook
    return f"type {kind} hook {where} priority {priority}; policy accept; "


def _filled(each: Object, with_rules: bool) -> Iterator[str]:
    if isinstance(each, Chain):
        rules = [f'{rule} comment "{stamp}"' for rule, stamp in zip(each.rules, each.stamps, strict=True)]
        if with_rules and rules:
            yield f"add chain ip {TABLE} {each.name} {{ {_hook(each)}{'; '.join(rules)}; }}"
        else:
            yield from (f"add rule ip {TABLE} {each.name} {rule}" for rule in rules)
    elif isinstance(each, Element):
        # Whatever is there under the key: adding another value for it would fail, so it goes first.
        value = each.mark if isinstance(each, FirewallMark) else f"goto {each.chain}"
        yield f"add element ip {TABLE} {_map(each)} {{ {_key(each)} : {value} }}"


def _map(element: Element) -> str:
    if isinstance(element, FirewallMark):
        return FWMARKS
    return PORTS if isinstance(element, PortJump) else VIPS


def _key(element: Element) -> str:
    return element.address if isinstance(element, VipJump) else f"{element.protocol} . {element.port}"


def found(listing: str) -> Iterable[Object]:
    """Returns the table, chains, counters, counted bytes, jumps and marks of a JSON listing of our table.
    Errors: `Corrupt` for one that cannot be understood, or is not ours."""
    try:
        entries: list[dict[str, Any]] = msgspec.json.decode(listing)["nftables"]
        if not any(entry.get("map", {}).get("name") == PORTS for entry in entries):
            raise Corrupt(
                f"the nftables table ip {TABLE} of this host is not skepd's, which needs that name: rename it"
            )
        return [Table(), *_chains(entries), *_counters(entries), *_counted(entries), *_elements(entries)]
    except (msgspec.MsgspecError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise Corrupt(f"what nftables lists of table {TABLE} cannot be understood: {error!r}") from error


def counted(listings: Iterable[str]) -> list[Object]:
    """Returns counters and counted bytes of JSON listings (`LIST_COUNTED`). Errors: `Corrupt`."""
    try:
        entries = [each for listing in listings for each in msgspec.json.decode(listing)["nftables"]]
        return [*_counters(entries), *_counted(entries)]
    except (msgspec.MsgspecError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise Corrupt(f"what nftables counts in table {TABLE} cannot be understood: {error!r}") from error


def dropping(listing: str) -> list[str]:
    """Returns others' tables, as `inet filter`, of a JSON listing of all chains, that drop what is forwarded
    unless a rule of theirs accepts it. Errors: `Corrupt`."""
    try:
        chains = [entry["chain"] for entry in msgspec.json.decode(listing)["nftables"] if "chain" in entry]
        names = {
            (str(each["family"]), str(each["table"]))
            for each in chains
            if each.get("hook") == "forward" and each.get("policy") == "drop"
        }
    except (msgspec.MsgspecError, LookupError, TypeError, AttributeError) as error:
        raise Corrupt(f"what nftables lists of chains cannot be understood: {error!r}") from error
    of_ipv4 = {each for each in names if each[0] in ("ip", "inet")} - {_IPTABLES}
    return [" ".join(each) for each in sorted(of_ipv4)]


def has_chains(listing: str, table: tuple[str, str]) -> bool:
    """Returns whether a JSON listing of all chains has some of the table's. Errors: `Corrupt`."""
    try:
        entries = msgspec.json.decode(listing)["nftables"]
        return any((e["chain"]["family"], e["chain"]["table"]) == table for e in entries if "chain" in e)
    except (msgspec.MsgspecError, LookupError, TypeError) as error:
        raise Corrupt(f"what nftables lists of chains cannot be understood: {error!r}") from error


def _chains(entries: list[dict[str, Any]]) -> Iterator[Chain]:
    stamps: dict[str, list[str]] = {}
    for entry in entries:
        if (rule := entry.get("rule")) is not None:
            stamps.setdefault(rule["chain"], []).append(str(rule.get("comment", "")))
    for entry in entries:
        if (each := entry.get("chain")) is not None:
            hook = (each["type"], each["hook"], int(each["prio"])) if "hook" in each else None
            yield Chain(each["name"], hook, tuple(stamps.get(each["name"], ())))


def _counters(entries: list[dict[str, Any]]) -> Iterator[ChainCounter]:
    for entry in entries:
        if (each := entry.get("counter")) is not None:
            yield ChainCounter(str(each["name"]), int(each["packets"]), int(each["bytes"]))


def _counted(entries: list[dict[str, Any]]) -> Iterator[Traffic]:
    listed = {
        each["name"]: each.get("elem", ()) for entry in entries if (each := entry.get("set")) is not None
    }
    for kind, name in BYTES.items():
        octets: dict[str, dict[str, int]] = {}
        for element in listed.get(name, ()):
            way, of = element["elem"]["val"]["concat"]
            octets.setdefault(str(of), {})[str(way)] = int(element["elem"]["counter"]["bytes"])
        for of, each in octets.items():
            received, sent = (each.get(way, 0) for way in _WAYS)
            yield Traffic(kind, of, received, sent, len(each) == len(_WAYS))


def _elements(entries: list[dict[str, Any]]) -> Iterator[Element]:
    for entry in entries:
        each = entry.get("map")
        if each is None or each["name"] not in (PORTS, VIPS, FWMARKS):
            continue
        for key, value in each.get("elem", ()):
            if each["name"] == VIPS:
                yield VipJump(str(key), str(value["goto"]["target"]))
                continue
            protocol, port = key["concat"]
            if each["name"] == FWMARKS:
                yield FirewallMark(str(protocol), int(port), int(value))
            else:
                yield PortJump(str(protocol), int(port), str(value["goto"]["target"]))
