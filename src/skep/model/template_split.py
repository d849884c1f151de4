"""Cuts a template into texts and actions, without looking at what the actions say. Pure.

Each step goes on where the one before ended: who writes the text chooses how often, and not how much, is
looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from skep.model.template_budget import Budget
from skep.model.template_functions import Wrong
from skep.model.template_nodes import bad

ACTION_UNITS = 4  # of a budget; tokens are one each
_TRIMS_BEFORE = re.compile(r"-\s")
_COMMENT = re.compile(r"(?:- )?\s*/\*")
_COMMENT_END = re.compile(r"\*/\s*(?: -)?\}\}")
_QUOTE_OR_END = re.compile(r"}}|[\"'`]")
TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<raw>`[^`]*`)
      | (?P<char>'(?:[^'\\\n]|\\.[^']*)')
      | (?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+
                     |(?:\d[\d_]*)?\.\d+(?:[eE][+-]?\d+)?|\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)?))
      | (?P<field>\.[^\W\d]\w*)
      | (?P<variable>\$\w*)
      | (?P<name>[^\W\d]\w*)
      | (?P<sign>:=|=|\||,|\(|\)|\.)
    """,
    re.X,
)


def split(text: str, budget: Budget) -> Iterator[tuple[int, str, bool]]:
    """Yields (line, part, is it an action), with `{{-` and `-}}` having trimmed the texts."""
    position, trims, line, counted = 0, False, 1, 0
    while True:
        start = text.find("{{", position)
        end_of_text = len(text) if start < 0 else start
        before = text[position:end_of_text]
        if trims:
            before = before.lstrip(" \t\r\n")
        if start < 0:
            yield 0, before, False
            return
        line, counted = line + text.count("\n", counted, start), start
        try:
            budget.spend(ACTION_UNITS)
        except Wrong as error:
            raise bad(line, str(error)) from error
        inside = start + 2
        if _TRIMS_BEFORE.match(text, inside):
            before, inside = before.rstrip(" \t\r\n"), inside + 1
        yield line, before, False
        is_comment = _COMMENT.match(text, start + 2) is not None
        stop = _end_of_comment(text, inside, line) if is_comment else _end_of_action(text, inside, line)
        action = text[inside : stop - 2]
        trims = action.endswith("-") and action[-2:-1].isspace()
        if not is_comment:
            yield line, action[:-1] if trims else action, True
        position = stop


def _end_of_comment(text: str, position: int, line: int) -> int:
    """Returns where the text goes on behind `*/}}`."""
    end = text.find("*/", text.index("/*", position) + 2)
    if end < 0:
        raise bad(line, "unclosed comment")
    found = _COMMENT_END.match(text, end)
    if found is None:
        raise bad(line, "comment ends before closing delimiter")
    return found.end()


def _end_of_action(text: str, position: int, line: int) -> int:
    """Returns where the text goes on behind `}}`, which may also stand inside quotes."""
    while (mark := _QUOTE_OR_END.search(text, position)) is not None:
        if mark[0] == "}}":
            return mark.end()
        found = TOKEN.match(text, mark.start())
        if found is None and mark[0] != "'":  # that one says what is wrong with it when it is read
            raise bad(line, "unterminated quoted string")
        position = found.end() if found is not None else mark.end()
    raise bad(line, "unclosed action: }} is missing")
