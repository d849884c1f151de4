"""Numbers as Go writes them: a ratio is a float32, and 0 is not 0.0."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.api.decode import decode_body
from skep.model.spec import UpdateConfig
from skep.model.wire import as_go_float


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("0", "0"),
        ("0.0", "0"),
        ("-0.0", "0"),
        ("1.0", "1"),
        ("1", "1"),
        ("0.1", "0.1"),
        ("0.123456789", "0.12345679"),
        ("0.99999999", "1"),
        ("0.30000001192092896", "0.3"),
    ],
)
def test_a_ratio_is_shown_as_go_shows_it(given: str, shown: str) -> None:
    config, _ = decode_body(f'{{"MaxFailureRatio":{given}}}'.encode(), UpdateConfig)
    assert f'"MaxFailureRatio":{shown},' in msgspec.json.encode(config).decode()
    # Also what an earlier skep has stored.
    stored = msgspec.msgpack.encode({"MaxFailureRatio": float(given)})
    assert msgspec.msgpack.decode(stored, type=UpdateConfig) == config


def test_a_ratio_that_nobody_gave_is_shown_as_zero() -> None:
    assert '"MaxFailureRatio":0,' in msgspec.json.encode(UpdateConfig()).decode()


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_what_is_shown_is_the_same_float32(value: float) -> None:
    if abs(value) < 3.4e38:
        assert struct.pack("f", as_go_float(value)) == struct.pack("f", value) or value == 0
