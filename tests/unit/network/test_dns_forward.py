"""Whom questions may go to that nothing is known of here."""

from __future__ import annotations

import pytest

from skep.network.dns_forward import may_be_asked


@pytest.mark.parametrize("text", ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "10.0.0.1"])
def test_others_may_be_asked(text: str) -> None:
    assert may_be_asked(text)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "127.0.0.53",
        "0.0.0.0",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "::ffff:0.0.0.0",
        "ns.example",
        "",
    ],
)
def test_neither_a_name_nor_the_host_itself_may_be(text: str) -> None:
    assert not may_be_asked(text)
