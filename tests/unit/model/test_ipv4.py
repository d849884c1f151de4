"""IPv4 addresses as numbers."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.model.ipv4 import NONE, is_in, is_ipv4, number_of

NET = ipaddress.IPv4Network("10.1.0.0/24")
WRONG = [
    "",
    "10.1",
    "10.1.0.256",
    "010.1.0.1",
    "::1",
    "10.1.0.1/24",
    "name",
    "10.1.0.1 ",
    "+1.1.0.1",
    "1_0.1.0.1",
    "10.1.0.１",
    "10.1.0.-1",
    "9" * 5000,
]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_address_has_no_number_and_is_nowhere(text: str) -> None:
    assert number_of(text) == NONE
    assert not is_ipv4(text)
    assert not is_in(text, NET)
    assert not is_in(text, ipaddress.IPv4Network("0.0.0.0/0"))


@given(st.one_of(st.text("0123456789.", max_size=16), st.text(max_size=16), st.ip_addresses(v=4).map(str)))
def test_it_is_read_as_pythons_own_library_reads_it(text: str) -> None:
    try:
        expected = int(ipaddress.IPv4Address(text))
    except ValueError:
        expected = NONE
    assert number_of(text) == expected


def test_an_address_is_of_its_network_from_the_first_to_the_last() -> None:
    assert [text for text in ("10.0.255.255", "10.1.0.0", "10.1.0.255", "10.1.1.0") if is_in(text, NET)] == [
        "10.1.0.0",
        "10.1.0.255",
    ]
    assert sorted(["10.1.0.10", "10.1.0.9"], key=number_of) == ["10.1.0.9", "10.1.0.10"]
