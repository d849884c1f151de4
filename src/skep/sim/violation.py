"""What a checker raises."""

from __future__ import annotations


class Violation(AssertionError):
    """Something that must never be; the text says what and where, `trace` what happened before."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.trace: list[str] = []
