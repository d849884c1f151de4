from __future__ import annotations

import pytest

from tests.words import words


def test_a_line_is_split_as_a_shell_does() -> None:
    assert words("service ps --format '{{.Name}} {{.Node}}' web") == [
        "service",
        "ps",
        "--format",
        "{{.Name}} {{.Node}}",
        "web",
    ]


def test_values_stay_whole_in_their_place_and_the_rest_follows() -> None:
    assert words("run --name a{}b -e X={}-{} sh -c", 1, "x y", "{}", "echo 'z'") == [
        *("run", "--name", "a1b", "-e", "X=x y-{}", "sh", "-c", "echo 'z'")
    ]


def test_a_value_too_few_is_an_error() -> None:
    with pytest.raises(IndexError):
        words("rm {} {}", "a")
