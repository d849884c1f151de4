"""Lines as InfluxDB and Telegraf read them; `parsed` reads them by the rules that are published."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.monitor.line_protocol import INT_MAX, lines_of
from skep.monitor.points import Point

AT = 1_796_000_000_000_000_000


def line(point: Point) -> str:
    (found,) = lines_of([point], AT)
    return found.decode()


def parsed(text: str) -> tuple[dict[str, str], str]:
    """Returns a line's tags and what follows them: a backslash escapes a comma, an equals sign or a space, and is
    itself before anything else; what is not escaped separates."""
    head, rest = _match(r"((?:\\[, =]|[^ ])*+) (.*)", text)
    parts = re.findall(r"(?:^|,)((?:\\[, =]|[^,])*+)", head, re.DOTALL)
    tags = [_match(r"((?:\\[, =]|[^=])*+)=(.*)", part) for part in parts[1:]]
    return {_plain(name): _plain(value) for name, value in tags}, rest


def _match(pattern: str, text: str) -> tuple[str, str]:
    found = re.fullmatch(pattern, text, re.DOTALL)
    assert found is not None, text
    return found[1], found[2]


def _plain(text: str) -> str:
    return re.sub(r"\\([, =])", r"\1", text)


def test_a_line() -> None:
    point = Point("swarm_node", {"node_id": "a", "node_hostname": "w1"}, {"cpu": 1.5, "memory": 8})
    assert line(point) == f"swarm_node,node_hostname=w1,node_id=a cpu=1.5,memory=8i {AT}"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("my host", r"my\ host"),
        ("a,b=c", r"a\,b\=c"),
        ('say "hi"', r"say\ " + '"hi"'),
        ("c:\\dir", r"c:\dir"),
        ("c:\\,", r"c:\\,"),
        ("ends\\\\", "ends"),  # would escape what follows
        ("two\nlines\r\n", r"two\nlines\r\n"),
        ("bell\a", r"bell\x07"),
        ("wörker-日本", "wörker-日本"),
        ("\u2028", r"\u2028"),
        ("#", "#"),
    ],
)
def test_names(name: str, written: str) -> None:
    assert line(Point("m", {"h": name}, {"n": 1})) == f"m,h={written} n=1i {AT}"


def test_a_tag_without_a_value_is_left_out() -> None:
    assert line(Point("m", {"h": "", "i": "\\"}, {"n": 1})) == f"m n=1i {AT}"


def test_a_measurement_is_escaped() -> None:
    assert line(Point("a b,c", {}, {"n d": 1})) == rf"a\ b\,c n\ d=1i {AT}"


def test_numbers() -> None:
    fields = {"i": -3, "big": 1 << 70, "f": 2.0, "small": 1e-9, "nan": math.nan, "inf": math.inf}
    assert line(Point("m", {}, fields)) == f"m i=-3i,big={INT_MAX}i,f=2.0,small=1e-09 {AT}"
    assert lines_of([Point("m", {}, {"nan": math.nan}), Point("m", {}, {})], AT) == []


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_name_stays_one_tag_of_one_line(one: str, two: str) -> None:
    text = line(Point("m", {"one": one, "two": two}, {"n": 1}))
    assert text.splitlines() == [text]
    tags, rest = parsed(text)
    assert rest == f"n=1i {AT}"
    assert tags.keys() <= {"one", "two"}
    for name, value in (("one", one), ("two", two)):
        if value.isprintable():
            # A lone surrogate is no text: it is written as '?'.
            assert tags.get(name, "") == value.rstrip("\\")
