"""Which managers this node has heard of, and in which order they are tried."""

from __future__ import annotations

import random
from collections.abc import Callable


class Managers:
    """`changed` hears of those to remember, addresses (host:port)."""

    def __init__(
        self, addresses: list[str], rng: random.Random, changed: Callable[[list[str]], None] | None
    ) -> None:
        self._said = list(addresses)  # by the leader's word, or an operator's
        # By the word of the last manager that does not lead. One that comes back may know those of before
        # only: what it says is tried too, and takes the place of nothing.
        self._hinted: list[str] = []
        self._rng = rng
        self._changed = changed

    @property
    def all(self) -> list[str]:
        """Returns the addresses to try, where no manager says who leads."""
        return list(dict.fromkeys([*self._said, *self._hinted]))

    def take(self, addresses: list[str]) -> None:
        """These are the managers from now on."""
        self._hinted = []
        if addresses != self._said:
            self._said = list(addresses)
            if self._changed is not None:
                self._changed(list(addresses))

    def hint(self, addresses: list[str]) -> None:
        """A manager that does not lead has named these."""
        self._hinted = list(addresses)

    def round(self, lost: str) -> list[str]:
        """Returns the managers to try: in a random order, for all nodes lose a leader at once, and the lost
        one last."""
        others = [address for address in self.all if address != lost]
        self._rng.shuffle(others)
        return others + [lost] * (lost in self.all)
