"""The page's files: what is vendored is as it came, what is shown goes in as text, what is needed first is named."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

import skep.web

STATIC = Path(skep.web.__file__).parent / "static"
OURS = sorted(path for path in STATIC.glob("*.js") if not path.name.startswith("uPlot"))
LINES_MAX = 260
# What makes markup, or a program, of a text: names, labels and errors are strangers' texts.
MAKES_MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|srcdoc"
    r"|\beval\(|new Function|setAttribute\(\"on|javascript:"
)
IMPORTED = re.compile(r"(?:from|import\() ?\"\./([a-z_]+\.js)\"")


def test_what_is_vendored_is_as_it_came() -> None:
    said = (STATIC / "vendored.txt").read_text()
    sums = dict(reversed(line.split("  ")) for line in re.findall(r"^[0-9a-f]{64}  \S+$", said, re.MULTILINE))
    assert set(sums) == {path.name for path in STATIC.glob("uPlot*")}
    for name, checksum in sums.items():
        assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == checksum, name
    assert "uPlot 1.6.32" in said
    assert b"v1.6.32" in (STATIC / "uPlot.iife.min.js").read_bytes()


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_a_module_makes_no_markup_asks_nobody_else_and_is_small(path: Path) -> None:
    source = path.read_text()
    assert not MAKES_MARKUP.findall(source)
    assert not re.findall(r"https?://|//[a-z]+\.[a-z]+/", source)
    assert len(source.splitlines()) <= LINES_MAX
    for name in IMPORTED.findall(source):
        assert (STATIC / name).is_file(), f"{path.name} imports {name}"


def test_styles_ask_nobody_else() -> None:
    for path in STATIC.glob("*.css"):
        assert not re.findall(r"url\(|@import|https?:", path.read_text()), path.name


def needed_first() -> set[str]:
    """Returns the modules without which nothing is painted: those that main imports, and so on."""
    found, left = set[str](), ["main.js"]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += re.findall(
                r"^import .*?from \"\./([a-z_]+\.js)\";", (STATIC / name).read_text(), re.MULTILINE
            )
    return found


def test_the_page_names_what_it_needs_first() -> None:
    """A module that is found by reading another one comes a round trip later."""
    page = (STATIC / "index.html").read_text()
    named = set(re.findall(r"modulepreload\" href=\"/static/([a-z_]+\.js)\"", page))
    assert named | {"main.js"} == needed_first()
    for name in re.findall(r"/static/([A-Za-z_.]+)", page):
        assert (STATIC / name).is_file(), name
    assert not re.findall(r"<style|<script>| on[a-z]+=| style=", page), "its own headers forbid it"


def test_every_module_is_used() -> None:
    used = {name for path in OURS for name in IMPORTED.findall(path.read_text())} | {"main.js", "early.js"}
    assert {path.name for path in OURS} == used
