"""`skep cluster upgrade-managers`: each manager is demoted, upgraded, promoted again; one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import time
from collections.abc import Callable, Sequence

from skep.cli.upgrade_claim import Claim
from skep.cli.upgrade_plan import (
    CLAIM,
    DEMOTED,
    DONE,
    FINISHED,
    LABEL,
    PLANNED,
    PROMOTED,
    Seat,
    away,
    filled,
    how_to_go_on,
    keeper_of,
    names_the_node,
    next_seat,
    plan_text,
    planned,
    seat_of,
    too_few,
)
from skep.client.hosts import Hosts, Spec
from skep.runtime.errors import Invalid, SkepError

POLL_S = 0.5
SETTLE_S = 15.0  # a leader that is new finds out who is reachable within 3 s
STEADY_BEATS = 1.2  # a daemon that is gone is noticed one heartbeat after its connection broke


class Stopped(SkepError):
    """The upgrade goes no further; says where and how to go on."""


def needs_another_host(seats: Sequence[Seat], node_ids: dict[str, str]) -> str:
    """Returns why these hosts do not suffice; an empty text where they do. A manager that is demoted cannot
    answer for the swarm, so each needs another one to be asked meanwhile."""
    managers = {seat.id: seat.name for seat in planned(seats)}
    reached = {node_id for node_id in node_ids.values() if node_id in managers}
    if len(reached) != 1:
        return ""
    (only,) = reached
    return (
        f"the only manager this command can ask is {managers[only]}, which is to be upgraded too and answers"
        " nothing meanwhile: give the address of another manager as well, with another --host"
    )


class Upgrade:
    """One run. `say` prints a line; `timeout_s` is how long a node may take to be Ready or Reachable."""

    def __init__(self, hosts: Hosts, command: str, timeout_s: float, say: Callable[[str], None]) -> None:
        self._hosts = hosts
        self._command = command
        self._timeout_s = timeout_s
        self._say = say
        self._claim = Claim(hosts, say)
        self._ids: set[str] = set()

    async def run(self, dry_run: bool = False) -> None:
        """Errors: `Invalid`, `Conflict` where another run is at work, `Stopped`."""
        if not names_the_node(self._command):
            raise Invalid("the command must say which node it is for: {name}, {id} or {addr}")
        seats = await self._seats()
        if any(seat.stage == FINISHED for seat in seats):
            self._say("An upgrade had been carried out but for its labels: removing them.")
            await self._remove_labels(seats)
            return
        hosts = needs_another_host(seats, await self._hosts.node_ids())
        self._show(seats)
        if hosts and not dry_run:
            raise Invalid(hosts)
        if hosts:
            self._say(f"Note: {hosts}")
        doubt = await self._doubt_that_stays(_needed(seats).id)
        if dry_run:
            if doubt:
                self._say(f"Note: {doubt}: nothing would be done.")
            return
        if doubt:
            raise Stopped(f"nothing was done: {doubt}.")
        await self._claim.take(keeper_of(await self._seats()))
        await self._with_beats()

    def _show(self, seats: list[Seat]) -> None:
        plan = planned(seats)
        begun = any(seat.stage for seat in plan)
        self._say("An upgrade that was begun before goes on:" if begun else "Plan, one after the other:")
        for line in plan_text(seats, self._command):
            self._say(line)

    async def _with_beats(self) -> None:
        work = asyncio.ensure_future(self._all())
        beats = asyncio.ensure_future(self._claim.beat())
        try:
            await asyncio.wait((work, beats), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                beats.result()  # raises: somebody else has taken over
            work.result()
        finally:
            for each in (work, beats):
                each.cancel()
            await asyncio.gather(work, beats, return_exceptions=True)
            if self._claim.keeper:
                await self._claim.release()

    async def _all(self) -> None:
        for manager in planned(await self._seats()):
            if not manager.stage:
                await self._set(manager.id, PLANNED)
        seats = await self._seats()
        self._ids = {seat.id for seat in planned(seats)}
        while (seat := next_seat(seats)) is not None:
            number = len([s for s in planned(seats) if s.stage == DONE]) + 1
            head = f"[{number}/{len(self._ids)}] {seat.name}"
            try:
                await self._one(seat, functools.partial(self._say_of, head))
            except Stopped as error:
                now = next((s for s in await self._all_seats() if s.id == seat.id), seat)
                raise Stopped(f"stopped at {head}: {error}. {how_to_go_on(now)}") from error
            seats = await self._seats()
        await self._set(self._claim.keeper, FINISHED)
        await self._remove_labels(seats)
        self._say(f"All {len(self._ids)} managers are upgraded.")

    def _say_of(self, head: str, text: str) -> None:
        self._say(f"{head}: {text}")

    async def _one(self, seat: Seat, say: Callable[[str], None]) -> None:
        """Errors: `Stopped`, which says why."""
        if seat.stage in (PLANNED, DEMOTED):
            doubt = await self._doubt_that_stays(seat.id)
            if doubt:
                raise Stopped(doubt)
            if seat.stage == PLANNED:
                say("demoting it" + (", another manager takes the lead" if seat.is_leader else ""))
            await self._set(seat.id, DEMOTED, "worker")
            await self._wait(seat, "a worker", lambda s: not s.is_member)
            await self._execute(filled(self._command, seat), say)
            say("waiting until it is Ready")
            await self._wait(seat, "Ready", lambda s: s.is_ready, await self._steady_s())
            say("promoting it")
            await self._set(seat.id, PROMOTED, "manager")
        else:
            say("waiting until it is Reachable")
        await self._wait(seat, "Reachable", lambda s: s.is_ready and s.is_member and s.is_reachable)
        await self._set(seat.id, DONE)
        say("done")

    async def _execute(self, command: str, say: Callable[[str], None]) -> None:
        """Errors: `Stopped` where the command fails."""
        say(f"running: {command}")
        began = time.monotonic()
        process = await asyncio.create_subprocess_shell(
            command, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
        )
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            raise
        if status != 0:
            raise Stopped(f"the command ended with status {status}: {command}")
        say(f"the command succeeded after {time.monotonic() - began:.0f} s")

    # Reading and waiting

    async def _all_seats(self) -> list[Seat]:
        return [seat_of(node) for node in await self._hosts.nodes()]

    async def _seats(self) -> list[Seat]:
        """Errors: `Stopped` where a manager is gone, `Conflict` where the upgrade is another run's now."""
        seats = await self._all_seats()
        gone = self._ids - {seat.id for seat in seats}
        if gone:
            raise Stopped(f"node {', '.join(sorted(gone))} was removed from the swarm meanwhile")
        self._claim.check(seats)
        return seats

    async def _wait(self, seat: Seat, what: str, test: Callable[[Seat], bool], steady_s: float = 0.0) -> None:
        """Waits until the node passes the test for `steady_s` on end. Errors: `Stopped`."""
        deadline = time.monotonic() + self._timeout_s + steady_s
        since: float | None = None
        while True:
            seats = await self._seats()
            now = time.monotonic()
            found = next((s for s in seats if s.id == seat.id), None)
            if found is None:
                raise Stopped(f"node {seat.id} was removed from the swarm meanwhile")
            since = (since or now) if test(found) else None
            if since is not None and now - since >= steady_s:
                return
            if now > deadline:
                raise Stopped(f"it was not {what} after {self._timeout_s:g} s")
            await asyncio.sleep(POLL_S)

    async def _steady_s(self) -> float:
        """How long a node must be Ready to be taken for it: a daemon that is gone is noticed by then."""
        swarm = await self._hosts.call("GET", "/swarm")
        return float(swarm["Spec"]["Dispatcher"]["HeartbeatPeriod"]) / 1e9 * STEADY_BEATS

    async def _doubt_that_stays(self, node_id: str) -> str:
        """Returns why a manager must not be touched; a moment's reason, as after a change of leader, is
        waited out."""
        deadline = time.monotonic() + min(SETTLE_S, self._timeout_s)
        while True:
            seats = await self._seats()
            seat = next(seat for seat in seats if seat.id == node_id)
            if seat.stage != DEMOTED and too_few(seats):
                return too_few(seats)
            doubt = away(seats, seat)
            if not doubt or time.monotonic() > deadline:
                return doubt
            await asyncio.sleep(POLL_S)

    # Writing

    async def _set(self, node_id: str, stage: str, role: str = "") -> None:
        def change(spec: Spec) -> Spec:
            spec["Labels"][LABEL] = stage
            return {**spec, "Role": role or spec["Role"]}

        await self._hosts.change_node(node_id, change)

    async def _remove_labels(self, seats: list[Seat]) -> None:
        """The node with the claim comes last: as long as it says `finished`, this is done again."""
        for seat in sorted(planned(seats), key=lambda s: (s.stage == FINISHED, s.id == self._claim.keeper)):

            def change(spec: Spec) -> Spec:
                kept = {k: v for k, v in spec["Labels"].items() if k not in (LABEL, CLAIM)}
                return {**spec, "Labels": kept}

            if seat.id == self._claim.keeper:
                self._claim.let_go()
            await self._hosts.change_node(seat.id, change)


def _needed(seats: list[Seat]) -> Seat:
    found = next_seat(seats)
    if found is None:
        plan = planned(seats)
        if not plan:
            raise Stopped("the swarm names no manager")
        return plan[0]
    return found
