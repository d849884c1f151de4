"""Command lines as one writes them."""

from __future__ import annotations

import shlex


def words(line: str, *values: object) -> list[str]:
    """Returns the words of a line, split as a shell does. Each `{}` in them is the next of `values`, whatever
    it holds; those that are left follow as words of their own. Go's templates (`{{.Name}}`) stay."""
    left = [str(value) for value in values]
    found = []
    for word in shlex.split(line):
        first, *others = word.split("{}")
        found.append(first + "".join(left.pop(0) + each for each in others))
    return [*found, *left]
