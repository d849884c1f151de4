"""What others have named or said does nothing to the terminal where it is shown."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from skep.cli.explain import show
from skep.cli.top import command
from skep.cli.top.screen import print_table
from skep.cli.top.tables import NODES, SERVICES, TASKS, Row, Selection, TopTable
from skep.runtime.entry import reason_of
from skep.runtime.errors import Unavailable

TITLE = "\x1b]0;yours\x07\x9b31m\u202ered"


def test_a_refusal_is_said_without_what_a_terminal_obeys() -> None:
    assert reason_of(Unavailable(f"no:\n{TITLE}")) == "no: ]0;yours 31m red"


def test_a_cell_of_a_table() -> None:
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out)
        print_table(TopTable(("NODE",), (Row((f"a{TITLE}\nb",), {}),), 1, 1, 1))
    assert out.getvalue().split() == ["NODE", "a", "]0;yours", "31m", "red", "b"]


def test_a_sentence_of_an_explanation() -> None:
    out = io.StringIO()
    said = {"Name": f"web{TITLE}", "Mode": "global", "ID": "x", "Sentences": [f"a\n{TITLE}"], "Tasks": []}
    show(
        Console(file=out, force_terminal=True, color_system=None, width=80), "service", {**said, "Nodes": []}
    )
    assert not [each for each in out.getvalue() if not each.isprintable() and each != "\n"]
    assert "web ]0;yours" in out.getvalue()


@pytest.mark.parametrize("said", [None, [], {}, {"Nodes": [{}]}, {"Nodes": 1}, {"Nodes": [], "Asked": "x"}])
@pytest.mark.parametrize("kind", [NODES, SERVICES, TASKS])
async def test_an_answer_of_another_form_is_said(said: Any, kind: str) -> None:
    class Other:
        url = "tcp://there:2375"

        async def json(self, method: str, path: str) -> Any:
            return said

    with pytest.raises(Unavailable, match=rf"/skep/v1/{kind}/usage.* cannot be read: is .* tcp://there:2375"):
        await command.ask(Other(), Selection(kind))  # type: ignore[arg-type]
