"""What differs between two outcomes of one scenario."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

ABSENT = "(absent)"


@dataclass(frozen=True)
class Outcome:
    """What a step gave, by part: `exit`, `stdout`, `stderr`; `status`, `body`; `value`; `error`."""

    step: str
    parts: dict[str, Any]


@dataclass(frozen=True)
class Difference:
    scenario: str
    step: str
    where: str
    docker: Any
    skep: Any

    def __str__(self) -> str:
        return f"  {self.step}\n    {self.where}\n      docker: {self.docker!r}\n      skep:   {self.skep!r}"


def differences(scenario: str, docker: list[Outcome], skep: list[Outcome]) -> list[Difference]:
    found = []
    for ours, theirs in zip(skep, docker, strict=False):  # the one that waits in vain ends there
        for where, left, right in _differing("", theirs.parts, ours.parts):
            found.append(Difference(scenario, theirs.step, where, left, right))
    return found


def _differing(where: str, docker: Any, skep: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(docker, dict) and isinstance(skep, dict):
        for key in [*docker, *(key for key in skep if key not in docker)]:
            inner = f"{where}.{key}" if where else str(key)
            yield from _differing(inner, docker.get(key, ABSENT), skep.get(key, ABSENT))
    elif isinstance(docker, list) and isinstance(skep, list):
        if any(isinstance(item, dict | list) for item in (*docker, *skep)) and len(docker) == len(skep):
            for n, (left, right) in enumerate(zip(docker, skep, strict=True)):
                yield from _differing(f"{where}[{n}]", left, right)
        else:
            yield from _lines(where, [*map(str, docker)], [*map(str, skep)])
    elif docker != skep or isinstance(docker, bool) is not isinstance(skep, bool):
        yield where, docker, skep


def _lines(where: str, docker: list[str], skep: list[str]) -> Iterator[tuple[str, Any, Any]]:
    matcher = difflib.SequenceMatcher(None, docker, skep, autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            continue
        yield where, "\n".join(docker[a:b]) or ABSENT, "\n".join(skep[c:d]) or ABSENT
