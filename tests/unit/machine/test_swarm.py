"""What hosts say of their swarm: it goes to others, and into commands."""

from __future__ import annotations

from typing import Any

import pytest

from skep.machine.record import EngineWish, Machine, SshPlace
from skep.machine.swarm import (
    CHOOSES,
    MANAGERS_MAX,
    NodeMembership,
    Tokens,
    advertised,
    check_advertise,
    read_membership,
    read_tokens,
)
from skep.runtime.errors import Invalid, Unavailable

URL = "tcp://192.0.2.1:2376"


def info(**swarm: Any) -> dict[str, Any]:
    return {"Swarm": {"LocalNodeState": "active", "NodeID": "n", "ControlAvailable": True, **swarm}}


def test_a_manager_says_where_the_others_are() -> None:
    said = info(RemoteManagers=[{"NodeID": "n", "Addr": "10.0.0.1:2377"}, {"Addr": "[fd00::1]:2377"}])
    assert read_membership(said, URL) == NodeMembership(
        "active", "n", True, ("10.0.0.1:2377", "[fd00::1]:2377")
    )
    assert read_membership({"Swarm": {"LocalNodeState": "inactive"}}, URL) == NodeMembership()


@pytest.mark.parametrize(
    "managers",
    [
        [{"Addr": "$(reboot):2377"}],
        [{"Addr": "a b"}],
        [{"Addr": "x" * 301}],
        [{"Addr": "h:1"}] * (MANAGERS_MAX + 1),
    ],
)
def test_what_is_no_address_is_told_nobody(managers: list[dict[str, str]]) -> None:
    with pytest.raises(Unavailable, match="managers are where none can be"):
        read_membership(info(RemoteManagers=managers), URL)


@pytest.mark.parametrize("said", [None, [], {}, {"Swarm": None}, {"Swarm": []}, info(RemoteManagers=7)])
def test_what_is_no_answer_is_no_traceback(said: Any) -> None:
    with pytest.raises(Unavailable, match="no Docker Engine"):
        read_membership(said, URL)


def test_what_a_host_says_is_printable() -> None:
    found = read_membership(info(LocalNodeState="er\x1b[2Jror", Error="x" * 10_000), URL)
    assert found.state.isprintable()
    assert len(found.error) < 1000


def test_a_token_is_one() -> None:
    """It stands in the commands of `skep machine cloud-init`."""
    good = {"JoinTokens": {"Worker": "SWMTKN-1-a-b", "Manager": "SWMTKN-1-a-c"}}
    assert read_tokens(good, "mg0") == Tokens("SWMTKN-1-a-b", "SWMTKN-1-a-c")
    for wrong in ("SWMTKN-1-a; reboot", "x", "SWMTKN-1-" + "a" * 300):
        with pytest.raises(Unavailable, match="tokens that are none"):
            read_tokens({"JoinTokens": {**good["JoinTokens"], "Worker": wrong}}, "mg0")
    for odd in (None, {}, {"JoinTokens": None}, {"JoinTokens": []}):
        with pytest.raises(Unavailable):
            read_tokens(odd, "mg0")


@pytest.mark.parametrize(
    ("address", "wanted", "told"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        ("fd00::1", "", "fd00::1"),
        ("mg0.example", "", ""),
        ("192.0.2.1", CHOOSES, ""),
        ("192.0.2.1", "eth0", "eth0"),
        ("192.0.2.1", "10.0.0.5:2377", "10.0.0.5:2377"),
    ],
)
def test_a_machine_behind_nat_is_told_by_another_address(address: str, wanted: str, told: str) -> None:
    machine = Machine(name="mg0", driver="generic", ssh=SshPlace(address=address), engine=EngineWish())
    assert advertised(machine, wanted) == told


def test_an_address_is_one_machines() -> None:
    for one in ("10.0.0.5", "10.0.0.5:2377", "[fd00::1]:2377", "fd00::1"):
        assert check_advertise(one, 1) == one
        with pytest.raises(Invalid, match="is one machine's, and these are 2"):
            check_advertise(one, 2)
    for several in ("", CHOOSES, "eth0", "eth0:2377", "br-lan", "eth0.7"):
        assert check_advertise(several, 2000) == several
    for none in ("eth0; reboot", "a b", "$(x)"):
        with pytest.raises(Invalid, match="it is an address, an interface"):
            check_advertise(none, 1)
