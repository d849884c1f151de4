"""Which run of `skep cluster upgrade-managers` is at work: a label on one node, written again while it is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Sequence

from skep.cli.upgrade_plan import CLAIM, LABEL, PLANNED, Seat, seat_of
from skep.client.hosts import Hosts, Spec
from skep.runtime.errors import Conflict, SkepError

POLL_S = 0.5
BEAT_S = 2.0  # how often a run says that it is there
WATCH_S = 12.0  # a claim that stands still for as long is nobody's: a change of leader delays a beat by 4 s


class Claim:
    """One run's. `keeper` is the node that carries it, an empty text while there is none."""

    def __init__(self, hosts: Hosts, say: Callable[[str], None]) -> None:
        self._hosts = hosts
        self._say = say
        self._run = f"{socket.gethostname()}/{os.getpid()}/{os.urandom(3).hex()}"
        self.keeper = ""

    def _is_ours(self, claim: str) -> bool:
        return claim.startswith(self._run + " ")

    async def take(self, keeper: Seat) -> None:
        """Takes the claim that this node carries. Errors: `Conflict` where another run is at work."""
        if keeper.claim:
            self._say(f"Looking for {WATCH_S:.0f} s whether the run that began it is still at work …")
            await self._watch(keeper)

        def change(spec: Spec) -> Spec:
            held = spec["Labels"].get(CLAIM, "")
            if held != keeper.claim:
                raise _taken_over(held)
            spec["Labels"].setdefault(LABEL, PLANNED)
            spec["Labels"][CLAIM] = f"{self._run} 0"
            return spec

        await self._hosts.change_node(keeper.id, change)
        self.keeper = keeper.id

    def let_go(self) -> None:
        """The node that carries it is about to carry it no more."""
        self.keeper = ""

    def check(self, seats: Sequence[Seat]) -> None:
        """Errors: `Conflict` where it is another run's now."""
        keeper = next((seat for seat in seats if seat.id == self.keeper), None)
        if keeper is not None and not self._is_ours(keeper.claim):
            raise _taken_over(keeper.claim)

    async def beat(self) -> None:
        """Says again and again that this run is there. Errors: `Conflict` where another has the claim."""
        count = 0
        while True:
            await asyncio.sleep(BEAT_S)
            count += 1
            if not self.keeper:
                continue

            def change(spec: Spec, count: int = count) -> Spec:
                if self.keeper and not self._is_ours(spec["Labels"].get(CLAIM, "")):
                    raise _taken_over(spec["Labels"].get(CLAIM, ""))
                if self.keeper:
                    spec["Labels"][CLAIM] = f"{self._run} {count}"
                return spec

            try:
                await self._hosts.change_node(self.keeper, change)
            except Conflict:
                raise
            except SkepError:
                continue  # what cannot be reached stops the work itself, with a text

    async def release(self) -> None:
        """Whoever runs the command again need not wait whether this run is still at work."""
        with contextlib.suppress(SkepError, TimeoutError):
            async with asyncio.timeout(WATCH_S):
                await self._hosts.change_node(self.keeper, self._without_claim)

    async def _watch(self, keeper: Seat) -> None:
        deadline = time.monotonic() + WATCH_S
        while time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
            seats = [seat_of(node) for node in await self._hosts.nodes()]
            now = next((seat for seat in seats if seat.id == keeper.id), None)
            if now is None or now.claim != keeper.claim:
                raise _taken_over(now.claim if now is not None else keeper.claim)

    def _without_claim(self, spec: Spec) -> Spec:
        if self._is_ours(spec["Labels"].get(CLAIM, "")):
            del spec["Labels"][CLAIM]
        return spec


def _taken_over(claim: str) -> Conflict:
    by = f" ({claim.split()[0]}: machine/process/run)" if claim else ""
    return Conflict(f"another upgrade of this swarm's managers is at work{by}: this run does nothing more")
