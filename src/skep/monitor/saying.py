"""What is said of a trouble that lasts: once when it begins or changes, once when it is over. Pure."""

from __future__ import annotations


class Trouble:
    """What is wrong with one thing that is tried again and again."""

    def __init__(self) -> None:
        self._said = ""
        self._count = 0

    def is_news(self, text: str) -> bool:
        """Told of each failure: whether it is another one than the last time."""
        is_new = text != self._said
        self._said = text
        self._count += 1
        return is_new

    def over(self) -> int:
        """Told of each success: returns how often it failed before, since the last success."""
        count, self._said, self._count = self._count, "", 0
        return count
