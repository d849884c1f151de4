"""What firewalld's own table says: its listing as 1.3.3 (Debian 12) has it, and what makes no sense."""

from __future__ import annotations

import json
from typing import Any

import pytest

from skep.network.diff import diff
from skep.network.objects import Trusted
from skep.network.ruleset import has_chains
from skep.network.zones import TABLE, is_bound, keeps_out

ACCEPT: dict[str, Any] = {"accept": None}
REJECT: dict[str, Any] = {"reject": {"type": "icmpx", "expr": "admin-prohibited"}}
SSH = ("filter_IN_public_allow", "tcp dport 22", ACCEPT)
PUBLIC = [("filter_INPUT_ZONES", "", {"goto": {"target": "filter_IN_public"}}), SSH]
PUBLIC += [("filter_IN_public", "l4proto icmp", ACCEPT), ("filter_IN_public", "", REJECT)]


def _match(text: str, right: object = None) -> dict[str, Any]:
    words = text.split()
    if words[0] in ("iifname", "l4proto"):
        left: dict[str, Any] = {"meta": {"key": words[0]}}
    else:
        left = {"payload": {"protocol": words[0], "field": words[1]}}
    value = right if right is not None else int(words[-1]) if words[-1].isdigit() else words[-1]
    return {"match": {"op": "==", "left": left, "right": value}}


def _listing(*rules: tuple[Any, ...]) -> str:
    entries: list[dict[str, Any]] = [{"metainfo": {}}]
    for name, match, verdict in rules:
        matches = [match] if isinstance(match, dict) else [_match(match)] if match else []
        entries.append({"rule": {"chain": name, "expr": [*matches, verdict]}})
    return json.dumps({"nftables": entries})


def _to(zone: str, match: str) -> tuple[str, str, dict[str, Any]]:
    return ("filter_INPUT_ZONES", match, {"goto": {"target": f"filter_IN_{zone}"}})


def test_a_port_that_no_rule_lets_in_is_kept_out_by_the_default_zone() -> None:
    assert keeps_out(_listing(*PUBLIC), "eth0", 4789) == "public"


@pytest.mark.parametrize(
    "match",
    [
        "udp dport 4789",
        _match("udp dport", {"range": [4000, 5000]}),
        _match("udp dport", {"set": [53, {"range": [4780, 4790]}]}),
        "ip saddr 10.0.0.2",  # a rich rule: who is meant is not looked at
        "",
    ],
)
def test_a_port_that_some_rule_may_let_in_is_not_said_to_be_kept_out(match: Any) -> None:
    assert keeps_out(_listing(*PUBLIC, ("filter_IN_public_allow", match, ACCEPT)), "eth0", 4789) == ""


@pytest.mark.parametrize(
    "match",
    ["udp dport 4790", _match("udp dport", {"range": [1, 99]}), "tcp dport 4789", "ip6 saddr x"],
)
def test_rules_for_something_else_let_nothing_in(match: Any) -> None:
    assert keeps_out(_listing(*PUBLIC, ("filter_IN_public_allow", match, ACCEPT)), "eth0", 4789) == "public"


def test_the_devices_own_zone_counts_and_no_other_devices() -> None:
    internal = [_to("internal", "iifname eth0"), ("filter_IN_internal_allow", "udp dport 4789", ACCEPT)]
    assert keeps_out(_listing(*internal, *PUBLIC), "eth0", 4789) == ""
    assert keeps_out(_listing(*internal, *PUBLIC), "eth1", 4789) == "public"
    trusted = [_to("trusted", "iifname skb*"), ("filter_IN_trusted", "", ACCEPT)]
    assert keeps_out(_listing(*trusted, *PUBLIC), "eth0", 4789) == "public"
    wide = [_to("trusted", "iifname eth*"), ("filter_IN_trusted", "", ACCEPT)]
    assert keeps_out(_listing(*wide, *PUBLIC), "eth0", 4789) == ""


def test_a_zone_of_some_senders_may_let_them_in() -> None:
    nodes = [_to("nodes", "ip saddr 10.0.0.0"), ("filter_IN_nodes_allow", "udp dport 4789", ACCEPT)]
    assert keeps_out(_listing(*nodes, *PUBLIC), "eth0", 4789) == ""


@pytest.mark.parametrize("listing", ["", "{}", '{"nftables": [{"rule": {}}]}', '{"nftables": []}'])
def test_what_makes_no_sense_keeps_nothing_out(listing: str) -> None:
    assert keeps_out(listing, "eth0", 4789) == ""


def test_bridges_are_bound_by_whomever() -> None:
    assert not is_bound(_listing(*PUBLIC))
    assert not is_bound(_listing(_to("docker", "iifname skb4097"), *PUBLIC)), "further ones would not be"
    assert is_bound(_listing(_to("internal", "iifname skb*"), *PUBLIC))


def test_a_zone_goes_with_the_last_network() -> None:
    assert diff([Trusted()], []).puts == (Trusted(),)
    assert diff([], [Trusted()]).drops == (Trusted(),)


def test_firewalld_is_known_by_its_table() -> None:
    chains = [{"metainfo": {}}, {"chain": {"family": "inet", "table": "firewalld", "name": "x"}}]
    assert has_chains(json.dumps({"nftables": chains}), TABLE)
    assert not has_chains('{"nftables": [{"chain": {"family": "ip", "table": "firewalld"}}]}', TABLE)
