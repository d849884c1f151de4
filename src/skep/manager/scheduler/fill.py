"""Water-filling: hand out n units so that the lowest levels rise first, within capacities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
UNLIMITED = 1 << 40  # a capacity nobody reaches


def fill(counts: Ints, capacities: Ints, ties: Ints, n: int) -> Ints:
    """Returns how many of `n` each entry gets.

    Entries with the lowest count are raised first; where the last units do not raise all that stand at one
    level, those with the lowest tie value get them, then those that come first.
    """
    n = min(n, int(np.minimum(capacities, n).sum()))
    if n <= 0:
        return np.zeros_like(counts)
    low = int(counts.min())
    high = int(counts.max()) + n + 1
    while high - low > 1:
        level = (low + high) // 2
        if int(np.clip(level - counts, 0, capacities).sum()) <= n:
            low = level
        else:
            high = level
    given = np.clip(low - counts, 0, capacities)
    rest = n - int(given.sum())
    if rest > 0:
        room = np.flatnonzero((given < capacities) & (counts + given == low))
        order = np.lexsort((room, ties[room] + given[room]))
        given[room[order[:rest]]] += 1
    return given
