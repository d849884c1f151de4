"""What users were told: every write with its answer, so that none which was acknowledged is ever missed."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from msgspec import Struct


class Attempt(Struct, eq=False):
    """One write of one object. `value` is what it is to be, None for gone; `is_guarded`: it is done only
    where nobody has written the object since it was read. `is_overcommitted`: the swarm has undone it."""

    key: str
    value: Hashable | None
    is_guarded: bool
    is_overcommitted: bool = False


class History:
    """An object is as it was last acknowledged, or as a write would have it whose outcome is not known."""

    def __init__(self) -> None:
        self._known: dict[str, Hashable | None] = {}
        self._open: dict[str, list[Attempt]] = {}
        self._asked: dict[str, set[Hashable | None]] = {}
        self._changes: dict[str, Callable[[Hashable], Hashable]] = {}

    def begin(self, key: str, value: Hashable | None, is_guarded: bool = True) -> Attempt:
        """From now on it may be done; forever, unless one of the answers below comes."""
        attempt = Attempt(key, value, is_guarded)
        self._asked.setdefault(key, set()).add(value)
        self._open.setdefault(key, []).append(attempt)
        return attempt

    def may_change(self, key: str, change: Callable[[Hashable], Hashable]) -> None:
        """From now on somebody may write that the object is changed so, whatever it is by then."""
        self._changes[key] = change

    def done(self, attempt: Attempt) -> None:
        """It was acknowledged: what came before is over."""
        before = self._open[attempt.key]
        if attempt.is_overcommitted:
            before.remove(attempt)
            return
        self._known[attempt.key] = attempt.value
        self._open[attempt.key] = [a for a in before if a is not attempt and not a.is_guarded]

    def refused(self, attempt: Attempt) -> None:
        """It was not done, and never will be."""
        self._open[attempt.key].remove(attempt)

    def was_asked(self, key: str, value: Hashable) -> bool:
        """True where somebody ever wrote that."""
        return value in self._asked.get(key, ())

    def rolled_back(self, key: str, before: Hashable, after: Hashable) -> None:
        """The swarm itself put another value in place of one, whose writer may not have been told yet."""
        for attempt in self._open.get(key, ()):
            attempt.is_overcommitted = attempt.is_overcommitted or attempt.value == before
        self._known[key] = after

    def find_wrong(self, found: dict[str, Hashable]) -> str:
        """Compares with what is stored; returns what cannot be, or an empty text."""
        for key in self._known.keys() | self._open.keys() | found.keys():
            value = found.get(key)
            if value == self._known.get(key):
                continue
            if not self._may_be(key, value):
                return f"{key} is {value}, it was acknowledged as {self._known.get(key)}"
            self._known[key] = value
        return ""

    def _may_be(self, key: str, value: Hashable | None) -> bool:
        asked = [each.value for each in self._open.get(key, ())]
        if value in asked:
            return True
        change = self._changes.get(key)
        before = [each for each in (self._known.get(key), *asked) if each is not None]
        return change is not None and any(change(each) == value for each in before)
