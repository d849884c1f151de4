"""Durations as Go's programs take them."""

from __future__ import annotations

import click
import pytest

from skep.cli.durations import Duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5.0), ("500ms", 0.5), ("1m30s", 90.0), ("1.5h", 5400.0), ("2h0m1s", 7201.0), ("100us", 1e-4)],
)
def test_taken(text: str, seconds: float) -> None:
    assert Duration(0.0).convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-5s", "5s ", "5d", "1e3s", "5sx", "٣s"])
def test_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Duration().convert(text, None, None)


def test_too_short() -> None:
    with pytest.raises(click.BadParameter, match="at least 1s"):
        Duration(1.0).convert("999ms", None, None)
