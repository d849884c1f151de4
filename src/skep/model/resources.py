"""How much of a machine can be had and reserved. The scheduler adds it up in 64 bits. Pure."""

from __future__ import annotations

CPUS_MAX = 1_000_000  # the largest machines have some 2,000
NANO_CPUS_MAX = CPUS_MAX * 1_000_000_000
MEMORY_MAX_BYTES = 1 << 50  # 1 PiB: the largest machines have 64 TiB
GENERIC_MAX = 1 << 40  # of one kind: 1 TiB, where somebody counts bytes
SUM_MAX = 1 << 60  # beyond every sum of these that can come about; four of them fit 64 bits


def as_summand(amount: int) -> int:
    """Returns the amount, or what is as good as endless in sums: a store may hold what was never checked."""
    return max(-SUM_MAX, min(SUM_MAX, amount))
