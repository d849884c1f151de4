"""Settings: words that are on or off, and addresses."""

from __future__ import annotations

import pytest

from skep.runtime.errors import Invalid
from skep.runtime.settings import load_settings, metrics_address


@pytest.mark.parametrize(
    ("text", "is_on"), [("on", True), ("1", True), (" Yes ", True), ("off", False), ("", False)]
)
def test_a_word_that_is_on_or_off(text: str, is_on: bool) -> None:
    assert load_settings({}, None, {"SKEPD_NAME": "x", "SKEPD_SAFE_MODE": text}).safe_mode is is_on


@pytest.mark.parametrize("text", ["maybe", "2", "tru"])
def test_any_other_word_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match=f"SKEPD_SAFE_MODE must be on or off .*'{text}'"):
        load_settings({}, None, {"SKEPD_NAME": "x", "SKEPD_SAFE_MODE": text})


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9323", ("127.0.0.1", 9323)),
        ("0.0.0.0:9323", ("0.0.0.0", 9323)),
        (":9323", ("", 9323)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:9323", ("::1", 9323)),
        ("[fe80::1%eth0]:9323", ("fe80::1%eth0", 9323)),
    ],
)
def test_where_metrics_are_served(text: str, address: tuple[str, int]) -> None:
    assert metrics_address(text) == address
    assert load_settings({"name": "x", "metrics_addr": text}, None, {}).metrics_addr == text


@pytest.mark.parametrize(
    "text", ["9323", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "h:65536", "h:-1", "::1:9323", "[::1]9323"]
)
def test_what_is_no_address_for_metrics_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match=r"--metrics-addr must be HOST:PORT .*'"):
        load_settings({"name": "x"}, None, {"SKEPD_METRICS_ADDR": text})
