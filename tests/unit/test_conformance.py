"""docs/conformance.md has a row for each of the API's endpoints, and what it names as evidence is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.differential.scenarios import SCENARIOS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/conformance.md").read_text()
ROWS = [
    tuple(row.removeprefix("|").removesuffix("|").strip().split(" | "))
    for row in (line.removesuffix("| |") for line in TEXT.splitlines())
    if row.startswith("|") and not row.startswith("|---") and not row.endswith("shown by |")
]
_FILE = re.compile(r"`([^`]+)`")
_SCENARIO = re.compile(r"\*([^*]+)\*")


def test_the_endpoints_are_those_of_the_api() -> None:
    table = TEXT.split("<!-- endpoints -->\n")[1].split("<!-- end endpoints -->")[0]
    rows = [row.split(" | ")[0].removeprefix("| ") for row in table.strip().splitlines()[2:]]
    paths = json.loads((ROOT / "docs/openapi.json").read_text())["paths"]
    routes = {
        f"{method.upper()} {path}"
        for path, found in paths.items()
        for method in found
        if not path.startswith("/skep/")
    }
    assert len(rows) == len(set(rows))
    assert set(rows) == routes


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_what_a_row_names_is_there(row: tuple[str, ...]) -> None:
    evidence = row[2] if len(row) == 3 else ""
    files, scenarios = _FILE.findall(evidence), _SCENARIO.findall(evidence)
    named = ", ".join([*(f"*{each}*" for each in scenarios), *(f"`{each}`" for each in files)])
    assert sorted(evidence.split(", ")) == sorted(named.split(", ")), "only tests, with commas between"
    assert set(scenarios) <= {each.name for each in SCENARIOS}
    for each in files:
        path, _, function = each.partition("::")
        text = (ROOT / "tests" / path).read_text()
        assert not function or f"def {function}(" in text
    assert evidence or row[1].startswith(("no", "partly")), "nothing shows it"
