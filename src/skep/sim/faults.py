"""What goes wrong, drawn from a seed: a plan of incidents, and a store that stumbles."""

from __future__ import annotations

import asyncio
import random

from msgspec import Struct

from skep.runtime.errors import Conflict, OutcomeUnknown, Unavailable
from skep.store.memory import StoreFaults
from skep.store.port import Txn

KINDS = (
    "daemon",  # a worker's daemon is killed and started again
    "machine",  # a worker loses power and comes back
    "cut",  # a worker's cable is pulled
    "manager",  # a manager is killed and started again
    "manager-cut",  # a manager's cable is pulled
    "deposed",  # the leader loses the lead although it lives
    "clock",  # a manager's or worker's clock jumps by up to hours, forth or back, and returns later
    "store-slow",
    "store-flaky",
)


class Incident(Struct, frozen=True):
    """One fault, of `KINDS`; `target` is a number, taken modulo the hosts; `size` is from -1 to 1."""

    at_s: float
    kind: str
    target: int
    for_s: float
    size: float


def draw_incidents(rng: random.Random, count: int, period_s: float) -> list[Incident]:
    """Returns incidents in the order they happen."""
    found = [
        Incident(
            at_s=rng.uniform(5, period_s),
            kind=rng.choice(KINDS),
            target=rng.randrange(1000),
            for_s=rng.choice((rng.uniform(0.1, 3), rng.uniform(3, 40))),
            size=rng.uniform(-1, 1),
        )
        for _ in range(count)
    ]
    return sorted(found, key=lambda incident: incident.at_s)


class FlakyStore(StoreFaults):
    """Shared by all managers: commits are slow, refused, in conflict, or done without an answer."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.slow = 0  # incidents in force; they may overlap
        self.flaky = 0

    async def before_commit(self, txn: Txn) -> None:
        rng = self._rng
        await asyncio.sleep(rng.uniform(0.05, 1.5) if self.slow else rng.uniform(0.0005, 0.003))
        if self.flaky and rng.random() < 0.1:
            raise Unavailable("etcd: the request was refused (simulated)")
        if self.flaky and any(c.revision for c in txn.compares) and rng.random() < 0.1:
            raise Conflict("the object was changed by somebody else meanwhile (simulated)")

    async def after_commit(self, txn: Txn) -> None:
        if self.flaky and self._rng.random() < 0.1:
            await asyncio.sleep(self._rng.uniform(0.01, 0.5))
            raise OutcomeUnknown("etcd: the answer was lost (simulated)")
