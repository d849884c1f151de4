"""IPv4 addresses as numbers."""

from __future__ import annotations

import ipaddress

import pytest

from skep.model.ipv4 import NONE, is_in, is_ipv4, number_of

NET = ipaddress.IPv4Network("10.1.0.0/24")
WRONG = ["", "10.1", "10.1.0.256", "010.1.0.1", "::1", "10.1.0.1/24", "name", "10.1.0.1 "]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_address_has_no_number_and_is_nowhere(text: str) -> None:
    assert number_of(text) == NONE
    assert not is_ipv4(text)
    assert not is_in(text, NET)
    assert not is_in(text, ipaddress.IPv4Network("0.0.0.0/0"))


def test_an_address_is_of_its_network_from_the_first_to_the_last() -> None:
    assert [text for text in ("10.0.255.255", "10.1.0.0", "10.1.0.255", "10.1.1.0") if is_in(text, NET)] == [
        "10.1.0.0",
        "10.1.0.255",
    ]
    assert sorted(["10.1.0.10", "10.1.0.9"], key=number_of) == ["10.1.0.9", "10.1.0.10"]
