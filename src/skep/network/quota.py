"""How much of something there is for who asks for names: in all, at one address, and for one asker. Pure.

Who asks can make up his address, any of his network: what is bounded for one asker only, he has all of.
"""

from __future__ import annotations

from collections import Counter


class Quota:
    """So many may be had at a time. `listener` is the address that somebody asks at."""

    def __init__(self, in_all: int, of_listener: int, of_asker: int) -> None:
        self._in_all = in_all
        self._of_listener = of_listener
        self._of_asker = of_asker
        self._taken = 0
        self._by_listener: Counter[str] = Counter()
        self._by_asker: Counter[str] = Counter()

    def take(self, listener: str, asker: str) -> bool:
        """Returns False where there is none left for this one."""
        if (
            self._taken >= self._in_all
            or self._by_listener[listener] >= self._of_listener
            or self._by_asker[asker] >= self._of_asker
        ):
            return False
        self._taken += 1
        self._by_listener[listener] += 1
        self._by_asker[asker] += 1
        return True

    def give_back(self, listener: str, asker: str) -> None:
        """Returns what was taken: once for each time."""
        self._taken -= 1
        for counter, key in ((self._by_listener, listener), (self._by_asker, asker)):
            counter[key] -= 1
            if not counter[key]:
                del counter[key]

    def begin_anew(self) -> None:
        """Nobody has any."""
        self._taken = 0
        self._by_listener.clear()
        self._by_asker.clear()
