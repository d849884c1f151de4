"""Settings from the environment that are on or off."""

from __future__ import annotations

import pytest

from skep.runtime.errors import Invalid
from skep.runtime.settings import load_settings


@pytest.mark.parametrize(
    ("text", "is_on"), [("on", True), ("1", True), (" Yes ", True), ("off", False), ("", False)]
)
def test_a_word_that_is_on_or_off(text: str, is_on: bool) -> None:
    assert load_settings({}, None, {"SKEPD_NAME": "x", "SKEPD_SAFE_MODE": text}).safe_mode is is_on


@pytest.mark.parametrize("text", ["maybe", "2", "tru"])
def test_any_other_word_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match=f"SKEPD_SAFE_MODE must be on or off .*'{text}'"):
        load_settings({}, None, {"SKEPD_NAME": "x", "SKEPD_SAFE_MODE": text})
