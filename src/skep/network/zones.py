"""What firewalld's own table says: whether our bridges have a zone, and whether a port is let in. Pure.

firewalld rejects what it does not know, in its own table, after ours: no verdict of ours keeps it from
that. What comes from a device passes the chain of the device's zone. Its releases arrange these differently:
only what they have in common is read, and what is not understood keeps nothing out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from skep.model.mesh import BRIDGE_PREFIX

TABLE = ("inet", "firewalld")
LIST = f"list table {' '.join(TABLE)}"
BRIDGES = f"{BRIDGE_PREFIX}*"  # all of ours, as nftables has it; firewalld's own word for it ends with a plus
_DISPATCH = ("filter_INPUT_ZONES", "filter_INPUT_POLICIES")  # of firewalld 1 and 2
_OF_ZONE, _OF_POLICY = "filter_IN_", "filter_IN_policy_"

Rule = dict[str, Any]


def is_bound(listing: str) -> bool:
    """True where our bridges have been put in some zone, by whomever."""
    return f'"{BRIDGES}"' in listing


def keeps_out(listing: str, device: str, port: int) -> str:
    """Returns the zone that keeps out what comes by the device for the UDP port; empty where some rule may
    let it in, or nobody can tell."""
    try:
        rules: dict[str, list[list[Rule]]] = {}
        for entry in msgspec.json.decode(listing)["nftables"]:
            if (rule := entry.get("rule")) is not None:
                rules.setdefault(str(rule["chain"]), []).append(rule["expr"])
        zones = list(_zones(rules, device))
        for zone in zones:
            inside = (each for name in rules if name.startswith(_OF_ZONE + zone) for each in rules[name])
            if any(_may_accept(each, port) for each in inside):
                return ""
    except (msgspec.MsgspecError, LookupError, TypeError, AttributeError):
        return ""
    return zones[-1] if zones else ""


def _zones(rules: dict[str, list[list[Rule]]], device: str) -> Iterator[str]:
    """Yields the zones that what comes by the device may pass; the last one is the device's own, or the
    default."""
    for chain in _DISPATCH:
        for expressions in rules.get(chain, ()):
            target = _target(expressions)
            if not target.startswith(_OF_ZONE) or target.startswith(_OF_POLICY):
                continue
            matches = [each["match"] for each in expressions if "match" in each]
            names = [each["right"] for each in matches if each["left"] == {"meta": {"key": "iifname"}}]
            if any(not _is_named(device, name) for name in names):
                continue
            yield target.removeprefix(_OF_ZONE)
            if len(names) == len(matches):
                return  # all of it: no further zone


def _target(expressions: list[Rule]) -> str:
    return next(
        (str((e.get("goto") or e["jump"])["target"]) for e in expressions if "goto" in e or "jump" in e), ""
    )


def _is_named(device: str, name: object) -> bool:
    if isinstance(name, str) and name.endswith("*"):
        return device.startswith(name[:-1])
    return not isinstance(name, str) or name == device


def _may_accept(expressions: list[Rule], port: int) -> bool:
    """False where the rule does not accept, or accepts what is surely something else than IPv4's UDP to the
    port."""
    if not any("accept" in each for each in expressions):
        return False
    return not any(_is_other(each["match"], port) for each in expressions if "match" in each)


def _is_other(match: Rule, port: int) -> bool:
    left, right = match["left"], match["right"]
    if match["op"] != "==":
        return False
    payload = left.get("payload", {})
    if payload.get("protocol") in ("ip6", "tcp", "sctp", "dccp"):
        return True
    if payload.get("field") == "dport":
        return not _holds(right, port)
    if left == {"meta": {"key": "l4proto"}}:
        return not _holds(right, "udp")
    return bool(left == {"meta": {"key": "nfproto"}} and right == "ipv6")


def _holds(right: object, wanted: object) -> bool:
    """False where it is surely another value than the wanted one."""
    if isinstance(right, dict):
        if isinstance(span := right.get("range"), list) and isinstance(wanted, int):
            return bool(span[0] <= wanted <= span[1])
        if isinstance(values := right.get("set"), list):
            return any(_holds(each, wanted) for each in values)
        return True
    return right == wanted
