"""What goes wrong, drawn from a seed: a plan of incidents, and a store that stumbles."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from skep.runtime.errors import Conflict, OutcomeUnknown, Unavailable
from skep.store import codec
from skep.store.interfaces import Compare, Txn
from skep.store.memory import StoreFaults

KINDS = (
    "daemon",  # a daemon is killed and started again
    "machine",  # a machine loses power and comes back
    "pause",  # a machine stands still and goes on, with all that it believed
    "cable",  # a machine's cable is pulled
    "deaf",  # nothing reaches a machine, what it sends arrives
    "mute",  # nothing a machine sends arrives
    "partition",  # the machines are in two groups that do not reach each other
    "one-way",  # frames from one group of machines to the other are held up
    "reset",  # a machine's connections break
    "half-open",  # a machine's connections are lost, and nobody is told
    "clock",  # a machine's clock jumps by up to hours, forth or back, and returns later
    "deposed",  # the leader loses the lead although it lives
    "etcd",  # a manager's etcd is killed and started again
    "disk-lost",  # a manager's machine comes back without etcd's data
    "disk-slow",
    "disk-hung",  # a manager's etcd waits for its disk
    "store-flaky",  # etcd refuses, or its answers are lost
)
# Only where they are asked for:
ENGINE_FROZEN = "engine-frozen"  # a machine's engine answers nothing
LONG_OFF = "long-off"  # a machine is off until its certificate has expired
MOVED = "moved"  # a machine loses power and comes back at another address
SUSPENDED = (
    "suspended"  # a machine stands still for minutes: others lead, and it may be none of them any more
)
MANAGERS_ONLY = ("etcd", "disk-lost", "disk-slow", "disk-hung")
AIMS = ("any", "manager", "leader")


class Incident(Struct, frozen=True):
    """One fault, of `KINDS` or one that is asked for, of a host as `AIMS` says: `target` is a number, taken
    modulo the hosts. `size` is from -1 to 1, `seed` for what else is drawn."""

    at_s: float
    kind: str
    aim: str
    target: int
    for_s: float
    size: float
    seed: int


def draw_incidents(rng: random.Random, count: int, period_s: float) -> list[Incident]:
    """Returns incidents in the order they happen."""
    found = [
        Incident(
            at_s=rng.uniform(5, period_s),
            kind=rng.choice(KINDS),
            aim=rng.choice(AIMS),
            target=rng.randrange(1000),
            for_s=rng.choice((rng.uniform(0.1, 3), rng.uniform(3, 40))),
            size=rng.uniform(-1, 1),
            seed=rng.getrandbits(32),
        )
        for _ in range(count)
    ]
    return sorted(found, key=lambda incident: incident.at_s)


def draw_freezes(rng: random.Random, count: int, period_s: float) -> list[Incident]:
    """Returns engines that freeze, for longer and for shorter than they are waited for."""
    drawn = draw_incidents(rng, count, period_s)
    return [replace(each, kind=ENGINE_FROZEN, aim="any", for_s=rng.uniform(5, 90)) for each in drawn]


def draw_moves(rng: random.Random, count: int, period_s: float) -> list[Incident]:
    """Returns machines that move, managers more often."""
    drawn = draw_incidents(rng, count, period_s)
    return [replace(each, kind=MOVED, aim=rng.choice(("manager", "leader", "any"))) for each in drawn]


def draw_long_offs(rng: random.Random, count: int, period_s: float, expiry_s: float) -> list[Incident]:
    """Returns machines that are off for longer than certificates last."""
    drawn = draw_incidents(rng, count, period_s)
    return [replace(each, kind=LONG_OFF, for_s=expiry_s * rng.uniform(1.0, 1.2)) for each in drawn]


def draw_suspensions(rng: random.Random, count: int, period_s: float) -> list[Incident]:
    """Returns managers that stand still for minutes."""
    drawn = draw_incidents(rng, count, period_s)
    aims = ("manager", "leader")
    return [replace(each, kind=SUSPENDED, aim=rng.choice(aims), for_s=rng.uniform(20, 150)) for each in drawn]


def _is_shared(compare: Compare) -> bool:
    """True for what several of a leader's parts write. Buckets are one part's: nobody is ever before it."""
    return compare.revision != 0 and not codec.is_bucket(compare.key)


class FlakyStore(StoreFaults):
    """Shared by all managers: commits are refused, in conflict, or done without an answer."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._flaky = 0  # incidents in force; they may overlap

    @contextlib.contextmanager
    def flaking(self) -> Iterator[None]:
        """An incident, for as long as it lasts."""
        self._flaky += 1
        try:
            yield
        finally:
            self._flaky -= 1

    async def before_commit(self, txn: Txn) -> None:
        if not self._flaky:
            return
        rng = self._rng
        if rng.random() < 0.1:
            raise Unavailable("etcd: the request was refused (simulated)")
        if any(_is_shared(c) for c in txn.compares) and rng.random() < 0.1:
            raise Conflict("the object was changed by somebody else meanwhile (simulated)")

    async def after_commit(self, txn: Txn) -> None:
        if self._flaky and self._rng.random() < 0.1:
            await asyncio.sleep(self._rng.uniform(0.01, 0.5))
            raise OutcomeUnknown("etcd: the answer was lost (simulated)")
