"""Leaving the mesh, and hosts that several daemons share."""

from __future__ import annotations

import sys

import pytest

from .mesh_hosts import BRIDGE, Lan, MeshHost

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

LISTED = "from skep.network.nftables import Nftables; print(Nftables().list('list table ip skep'))"


@pytest.fixture
def lan(own_lan: Lan) -> Lan:
    return own_lan


NOTHING = {"failures": [], "changed": 0, "lingers": False, "vips": [], "unsure": [], "has_lost": False}


def _assert_nothing_is_left(host: MeshHost) -> None:
    for command in ("ip link", "ip rule", "ip route show table all", "ip neigh", "iptables-save"):
        left = host.run(*command.split())
        assert not any(word in left for word in ("skb", "skv", "0x5a000000", "0x5a000001")), left
    assert host.run(sys.executable, "-c", LISTED).strip() == "None"


def test_leaving_takes_all_of_it_away(lan: Lan) -> None:
    lan.serving()
    host = lan.hosts[2]
    assert host.clear() == []
    _assert_nothing_is_left(host)
    assert lan.client.ask(host.address, 8080) == ["error ConnectionRefusedError"]
    assert len(set(lan.client.ask(lan.hosts[0].address, 8080, 2))) == 2


def test_what_others_have_with_the_same_number_stays(lan: Lan) -> None:
    lan.serving()
    host = lan.hosts[2]
    host.run("ip", "route", "add", "198.51.100.0/24", "via", "10.214.0.254", "proto", "90")
    host.run("ip", "rule", "add", "fwmark", "7", "table", "77", "priority", "77", "protocol", "90")
    assert host.told(lan.mesh(*lan.tasks)) == NOTHING
    assert host.clear() == []
    assert "198.51.100.0/24" in host.run("ip", "route")
    assert "lookup 77" in host.run("ip", "rule")


def test_leaving_after_a_restart_does_so_too(lan: Lan) -> None:
    lan.serving()
    host = lan.hosts[2]
    host.die()
    assert host.clear() == []
    _assert_nothing_is_left(host)


def test_leaving_when_nothing_is_published_any_more_takes_the_bridge_away(lan: Lan) -> None:
    lan.serving()
    host = lan.hosts[2]
    host.told(lan.unused())
    assert BRIDGE in host.run("ip", "link")
    assert host.clear() == []
    _assert_nothing_is_left(host)


TAKING = "from skep.network.turn import Turn; print([Turn().take(each) for each in ('swarm1', 'other')])"


def test_a_second_daemon_on_the_same_network_leaves_it_to_the_first(lan: Lan) -> None:
    lan.serving()
    assert lan.hosts[0].run(sys.executable, "-c", TAKING).startswith("['', 'another skepd on this host")


def test_when_one_of_two_daemons_leaves_the_other_goes_on_with_it(lan: Lan) -> None:
    lan.serving()
    first = lan.hosts[0]
    second = first.fellow()
    try:
        mesh = lan.mesh(*lan.tasks)
        assert second.told(mesh) == NOTHING
        assert second.clear() == []  # the other one has it in hand
        lan.assert_all_answer()
        assert second.told(mesh) == NOTHING
        first.clear()
        assert second.told(mesh)["failures"] == []
        lan.assert_all_answer()
    finally:
        second.die()
