"""What is wanted, made in parts: what one service needs is a part. Pure.

A part that is made of the same as before is the same object: it is not made anew, and nobody has to look into
it to see that nothing of it has changed (`diff`). What comes out is the same, whatever there was before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple

from skep.network.objects import Object

Key = tuple[str, ...]  # of a part: what it is, then of which network and service
Objects = tuple[Object, ...]
Made = dict[Key, tuple[tuple[Any, ...], Any]]  # of what something was made, and what became of it
Ts = TypeVarTuple("Ts")
R = TypeVar("R")


class Making:
    """One time that all of it is made. `made` is to be kept for the next time: it has what is still wanted,
    and nothing else."""

    def __init__(self, before: Made) -> None:
        self._before = before
        self.made: Made = {}
        self.parts: dict[Key, Objects] = {}

    def of(self, key: Key, make: Callable[[*Ts], R], *of: *Ts) -> R:
        """Returns what is made of these, or was, the time before, of the same. A key has one maker, which
        goes by nothing else."""
        known = self._before.get(key)
        if known is None or known[0] != of:  # mostly they are the same objects, which is seen at once
            known = of, make(*of)
        self.made[key] = known
        found: R = known[1]
        return found

    def add(self, key: Key, make: Callable[[*Ts], Objects], *of: *Ts) -> None:
        """Has what is made of these be wanted."""
        self.parts[key] = self.of(key, make, *of)
