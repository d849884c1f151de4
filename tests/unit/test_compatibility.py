"""docs/compatibility.md says what the warnings say."""

from __future__ import annotations

from pathlib import Path

from skep.manager.control.unsupported import NOT_ACTED_ON
from tests.differential.accepted import ACCEPTED

TEXT = (Path(__file__).parents[2] / "docs/compatibility.md").read_text()


def test_the_table_of_fields_is_the_code_s() -> None:
    table = TEXT.split("<!-- fields -->\n")[1].split("<!-- end -->")[0]
    rows = dict(row.strip("| ").replace("`", "").split(" | ") for row in table.strip().splitlines())
    assert rows == NOT_ACTED_ON


def test_the_accepted_differences_are_those_of_the_suite() -> None:
    table = TEXT.split("<!-- accepted -->\n")[1].split("<!-- end accepted -->")[0]
    rows = [tuple(row.strip("| ").split(" | ")) for row in table.strip().splitlines()]
    assert rows == [(each.what, each.why) for each in ACCEPTED]
