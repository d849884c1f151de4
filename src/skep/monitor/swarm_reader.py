"""Asks a swarm for its numbers, any of its managers that answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from skep.client.hosts import Hosts
from skep.monitor.answers import (
    ManagerAnswer,
    MetricsAnswer,
    NodesAnswer,
    ServiceAnswer,
    SwarmAnswers,
    read_answer,
)
from skep.monitor.points import Gathered
from skep.monitor.series import Totals, points_of
from skep.monitor.settling import Settling
from skep.runtime.errors import Unavailable

TIMEOUT_S = 5.0  # as the original plugin: a manager that has not answered by then does not
ROUNDS = 2  # so many timeouts a gather may take: one for a manager that hangs, one for the others
AGAIN_S = 0.5  # until a new leader is asked once more whether it has heard from everybody

T = TypeVar("T")

NOT_SETTLED = (
    "the leader is new and has not heard from all nodes yet: until it has, what runs is left out, and the"
    " rest is there"
)
METRICS = "/skep/v1/metrics"
SERVICES = "/services?status=true"
MANAGERS = '/nodes?filters={"role":["manager"]}'


class SwarmReader:
    """`urls`: as of `Hosts`. A gather takes twice `timeout_s` at most. `with_usage`: nodes are asked what
    they use at the moment; without, what others have asked for lately is said. `now`: seconds of a clock
    that nobody sets."""

    def __init__(
        self,
        urls: Sequence[str],
        timeout_s: float = TIMEOUT_S,
        with_usage: bool = True,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._timeout_s = timeout_s
        self._gather_s = ROUNDS * timeout_s
        self._hosts = Hosts(urls, patience_s=timeout_s, call_s=timeout_s)
        self._usage = f"/skep/v1/nodes/usage?sample={int(with_usage)}"
        self._settling = Settling()

    async def close(self) -> None:
        await self._hosts.close()

    async def read(self) -> Gathered:
        """Returns the points of the moment. A leader that is new is waited for, for a while: then what it
        does not know is left out. Errors: `Unavailable`, `ApiError`."""
        try:
            async with asyncio.timeout(self._gather_s):
                while True:
                    metrics, is_settled = await self._settled()
                    answers = await self._rest(metrics)
                    # Of two leaders, the second would be taken for as settled as the first.
                    if metrics.leader in answers.leaders:
                        break
                    await asyncio.sleep(AGAIN_S)
        except TimeoutError:
            raise Unavailable(f"no manager has said all within {self._gather_s:g} s") from None
        return Gathered(points_of(answers, is_settled), "" if is_settled else NOT_SETTLED)

    async def _rest(self, metrics: MetricsAnswer) -> SwarmAnswers:
        return SwarmAnswers(
            metrics,
            await self._ask(self._usage, NodesAnswer),
            await self._ask(SERVICES, list[ServiceAnswer]),
            await self._ask(MANAGERS, list[ManagerAnswer]),
        )

    async def _settled(self) -> tuple[MetricsAnswer, bool]:
        """Returns what the leader says last, and whether it knows its swarm."""
        until = self._now() + self._timeout_s
        while True:
            metrics = await self._ask(METRICS, MetricsAnswer)
            totals = Totals(metrics)
            unknown, nodes = totals.total("skep_nodes", state="unknown"), totals.total("skep_nodes")
            is_settled = self._settling.is_settled(unknown, nodes, self._now())
            if is_settled or self._now() + AGAIN_S > until:
                return metrics, is_settled
            await asyncio.sleep(AGAIN_S)

    async def _ask(self, path: str, kind: type[T]) -> T:
        return read_answer(path, await self._hosts.call("GET", path), kind)
