"""Addresses as users write them."""

from __future__ import annotations

import pytest

from skep.daemon.addresses import (
    given_host,
    join_address,
    parse_address,
    resolve_advertise,
    resolve_data_path,
    resolve_listen,
)
from skep.runtime.errors import Invalid


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", ("10.0.0.1", 2377)),
        ("10.0.0.1:99", ("10.0.0.1", 99)),
        ("host.example:1", ("host.example", 1)),
        ("[::1]:5", ("::1", 5)),
        ("[::1]", ("::1", 2377)),
        ("::1", ("::1", 2377)),
    ],
)
def test_what_is_an_address(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text) == expected
    assert parse_address(join_address(*expected)) == expected


@pytest.mark.parametrize("text", ["", ":1", "a:", "a:b", "a:0", "a:70000"])
def test_what_is_not(text: str) -> None:
    with pytest.raises(Invalid):
        parse_address(text)


def test_an_interface_stands_for_its_address() -> None:
    assert resolve_listen("lo:99") == ("127.0.0.1", 99)
    assert resolve_advertise("lo", ("0.0.0.0", 2377)) == ("127.0.0.1", 2377)


def test_a_name_is_nothing_to_listen_on() -> None:
    with pytest.raises(Invalid, match="must be an IP address or network interface"):
        resolve_listen("host.example:99")


@pytest.mark.parametrize("text", ["host.example", "0.0.0.0", "0.0.0.0:99", "[::]:99"])
def test_a_name_or_nowhere_cannot_be_advertised(text: str) -> None:
    with pytest.raises(Invalid, match="must be a non-zero IP address or network interface"):
        resolve_advertise(text, ("0.0.0.0", 2377))


def test_a_data_path_is_an_address_without_a_port() -> None:
    assert [resolve_data_path(text) for text in ("", "lo", "10.0.0.1")] == ["", "127.0.0.1", "10.0.0.1"]
    for text in ("host.example", "0.0.0.0", "224.0.0.1", "10.0.0.1:4789"):
        with pytest.raises(Invalid, match=r"data path address must be .* \(without a port number\)"):
            resolve_data_path(text)


def test_nodes_are_told_an_address_only_where_it_is_one_hosts() -> None:
    told = {"10.0.0.1:2377": "10.0.0.1", "[2001:db8::1]:99": "2001:db8::1", "": "", "host.example:99": ""}
    told |= {"[fe80::1%lo]:99": "", "239.0.0.1:99": ""}
    assert {each: given_host(each) for each in told} == told


def test_where_one_listens_is_what_others_are_told() -> None:
    assert resolve_advertise("", ("10.0.0.7", 99)) == ("10.0.0.7", 99)
