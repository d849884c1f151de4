"""What the engine says of a node's containers by itself: that they ended, are healthy or not, or are gone.

Exits and health come by one event stream for the whole node. After an event the container is inspected; only
an exit says all that matters itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import structlog
from msgspec.structs import replace

from skep.agent.executor.calls import RETRY_MAX_S, RETRY_MIN_S, EngineCalls
from skep.agent.executor.container_config import SERVICE_LABEL, TASK_LABEL
from skep.agent.executor.engine import EngineClient, Json
from skep.agent.executor.interfaces import Adopted, Observation, Report
from skep.agent.executor.reading import ended, epoch_s, health_of, listed_observation_of, observation_of
from skep.agent.executor.refusals import EngineError
from skep.model.states import FAILED, READY, RUNNING
from skep.runtime.clock import Clock
from skep.runtime.errors import SkepError

log = structlog.get_logger()

EVENTS = ["die", "destroy", "health_status"]
UNHEALTHY = "dockerexec: unhealthy container"  # Docker's words, which people search for
# Until an unhealthy container that the engine could not stop is tried again: three stops went before, of ten
# seconds and its grace each, so the engine is broken, or a process hangs in the kernel.
UNHEALTHY_RETRY_S = 30.0
# How often all is looked at, without an event: engines drop events of those who are slow to read, and a lost
# exit would keep its task RUNNING for ever. One listing; a thousand containers are some 2 MB.
LOOK_AGAIN_S = 60.0
# Until whoever starts again goes by the listing where an inspection is not answered: a leader waits for five
# seconds for a node whose line broke, in which the daemon has to start, too.
ADOPT_S = 2.0
# How often a start whose answer nobody waited for is looked for: an engine that froze does it when it thaws,
# at once, so that the first look may come too early and the second does not.
DOUBT_LOOKS = 2
DESTROYED = "dockerexec: container destroyed: it was removed, and not by the swarm"

Caller = Callable[[Callable[[], Awaitable[Json | None]]], Awaitable[Json | None]]
OnAdopted = Callable[[str, Json], None]


class ContainerWatch:
    """`aside` carries out what nobody waits for; `on_over` hears of each task that has ended, before it is
    told to whom `reports_to` names."""

    def __init__(
        self,
        engine: EngineClient,
        calls: EngineCalls,
        clock: Clock,
        aside: Callable[[Coroutine[Any, Any, None]], None],
        on_over: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._calls = calls
        self._clock = clock
        self._aside = aside
        self._on_over = on_over
        self._report: Report = lambda seen: None
        self._containers: dict[str, str] = {}  # task -> container, while it may run
        self._looking: dict[str, bool] = {}  # task being inspected -> an event came meanwhile
        self._waiting: set[str] = set()  # until healthy
        self._stopping: set[str] = set()
        self._ending: set[str] = set()  # unhealthy ones
        self._unseen: set[str] = set()  # adopted by the listing: to be looked at
        self._survivors: dict[str, asyncio.TimerHandle] = {}  # that could not be stopped -> the next try
        self._adopting: dict[str, Adopted] = {}
        self._doubtful: dict[str, int] = {}  # task whose start was given up -> looks for it that are left

    async def watch(self, node_filter: str) -> None:
        """Follows the engine's events for as long as we run; looks at everything after each gap."""
        retry_s = RETRY_MIN_S
        while True:
            try:
                async for event in self._engine.events(node_filter, EVENTS):
                    if event:
                        retry_s = RETRY_MIN_S
                        self._event(event)
                    else:
                        await self._look_at_all(node_filter)
            except SkepError as error:
                log.debug("engine.events_ended", error=str(error))
            except Exception:  # without its events the node would be blind for ever
                log.exception("engine.events_not_understood")
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, RETRY_MAX_S)

    async def look_again(self, node_filter: str) -> None:
        """Looks at everything now and then, for as long as we run: events may be lost."""
        while True:
            await asyncio.sleep(LOOK_AGAIN_S)
            try:
                self._end_late(await self._look_at_all(node_filter))
            except SkepError as error:
                log.debug("engine.not_looked_at", error=str(error))
            except Exception:  # as above
                log.exception("engine.listing_not_understood")

    async def adopt(self, listed: list[Json], on_adopted: OnAdopted) -> list[Adopted]:
        """Returns what the listed containers of tasks are in, and follows them; `on_adopted` gets the
        inspection of each that may run. One that cannot be inspected (a volume that hangs) does not hold the
        others: it is what its listing says, which is what `on_adopted` gets, until it is looked at."""
        ours = {str(each["Labels"][TASK_LABEL]): each for each in listed if each["Labels"].get(TASK_LABEL)}
        works = {
            task_id: asyncio.ensure_future(self._adopt(task_id, each, on_adopted))
            for task_id, each in ours.items()
        }
        try:
            if works:
                await asyncio.wait(works.values(), timeout=ADOPT_S)
            for work in works.values():
                work.cancel()
            results = await asyncio.gather(*works.values(), return_exceptions=True)
            for task_id, result in zip(works, results, strict=True):
                if isinstance(result, (SkepError, asyncio.CancelledError)):
                    log.warning("container.not_inspected", task_id=task_id, error=str(result) or "no answer")
                    self._adopt_listed(task_id, ours[task_id], on_adopted)
                elif isinstance(result, BaseException):
                    raise result
            return list(self._adopting.values())
        finally:
            for work in works.values():
                work.cancel()
            self._adopting = {}

    @contextlib.contextmanager
    def starting(self, task_id: str, container: str) -> Iterator[None]:
        """Follows a container that is being started. Its events wait until it was: the engine's answer says
        more than its `die`."""
        self._containers[task_id] = container
        self._looking[task_id] = False
        try:
            yield
        finally:
            self._looking.pop(task_id, None)

    def stopping(self, task_id: str) -> None:
        """What its container says from now on is no news: it is made to end."""
        self._stopping.add(task_id)

    def doubt(self, task_id: str) -> None:
        """Its start was given up, and an engine that does not answer may do it yet."""
        self._doubtful[task_id] = DOUBT_LOOKS

    def container_of(self, task_id: str) -> str | None:
        """Returns the container of a task that may run."""
        return self._containers.get(task_id)

    def forget(self, task_id: str) -> None:
        self._containers.pop(task_id, None)
        for state in (self._stopping, self._ending, self._waiting, self._unseen):
            state.discard(task_id)
        self._spare(task_id)

    def clear(self) -> None:
        for task_id in list(self._survivors):
            self._spare(task_id)
        for state in (self._waiting, self._stopping, self._ending, self._unseen):
            state.clear()
        self._containers.clear()
        self._doubtful.clear()

    async def observe(self, task_id: str) -> None:
        """Tells what a running task's container is in now."""
        container = self._containers.get(task_id)
        if container is None:  # it ended before we came to look
            self._looking.pop(task_id, None)
            return
        inspected = await self._look(task_id, container, self._calls.look)
        if not self._is_news(task_id):
            return
        if inspected is None:
            self._tell(Observation(task_id, FAILED, self._clock.now(), "started", DESTROYED))
        elif task_id in self._survivors and not inspected["State"]["Running"]:
            self._tell_unhealthy(task_id, container, int(inspected["State"]["ExitCode"]))
        else:
            self._follow(task_id, inspected)
            self._tell(observation_of(task_id, inspected, self._clock.now()))

    async def exit_code(self, container: str) -> int:
        """Returns how a container ended; 0 for one that has not, or is gone."""
        try:
            found = await self._calls.look(lambda: self._engine.inspect(container))
        except EngineError:
            return 0
        return int(found["State"]["ExitCode"]) if found is not None else 0

    def say(
        self,
        task_id: str,
        state: int,
        message: str,
        error: str = "",
        container_id: str = "",
        exit_code: int = 0,
    ) -> None:
        """Reports what was done with a task."""
        now = self._clock.now()
        self._tell(Observation(task_id, state, now, message, error, container_id, exit_code=exit_code))

    # Inside

    async def _look_at_all(self, node_filter: str) -> dict[str, Json]:
        """Makes up for events that were missed: one listing, then a look at what may have changed. Returns
        the listed containers by task."""
        before = set(self._containers)
        listed = {each["Labels"].get(TASK_LABEL): each for each in await self._engine.containers(node_filter)}
        for task_id in before & set(self._containers):
            found = listed.get(task_id)
            is_well = (
                found is not None and found["State"] == "running" and "(unhealthy)" not in found["Status"]
            )
            is_open = task_id in self._waiting or task_id in self._survivors or task_id in self._unseen
            if not is_well or is_open:
                self._changed(task_id)
        return listed

    def _end_late(self, listed: dict[str, Json]) -> None:
        """Ends what was started after it was given up."""
        for task_id, left in list(self._doubtful.items()):
            found = listed.get(task_id)
            is_ours = task_id in self._containers or task_id in self._stopping
            if found is not None and found["State"] == "running" and not is_ours:
                log.info("container.late", task_id=task_id)
                container = str(found["Id"])
                stop = functools.partial(self._engine.stop, container, None)
                self._aside(self._calls.insist(stop, self._calls.stops))
            if left > 1:
                self._doubtful[task_id] = left - 1
            else:
                del self._doubtful[task_id]

    def _event(self, event: Json) -> None:
        attributes = event.get("Actor", {}).get("Attributes", {})
        task_id, kind = attributes.get(TASK_LABEL, ""), str(event.get("Action", ""))
        if kind == "die" and task_id in self._containers and task_id not in self._looking:
            code, container_id = int(attributes.get("exitCode", 0)), str(event["Actor"]["ID"])
            if not self._is_news(task_id):
                return
            if task_id in self._survivors:
                self._tell_unhealthy(task_id, container_id, code)
            else:
                self._tell(ended(task_id, container_id, code, self._clock.now()))
        else:
            self._changed(task_id)

    def _changed(self, task_id: str) -> None:
        """Something happened to a task's container: have a look, or another one."""
        if task_id in self._looking:
            self._looking[task_id] = True
        elif self._is_news(task_id):
            self._looking[task_id] = False
            self._aside(self.observe(task_id))

    async def _look(self, task_id: str, container: str, call: Caller) -> Json | None:
        """Returns the container as it is after the last event we heard; None where it is gone."""
        while True:
            self._looking[task_id] = False
            try:
                inspected = await call(lambda: self._engine.inspect(container))
            finally:
                has_changed = self._looking.pop(task_id, True)
            if not has_changed:
                return inspected

    def _follow(self, task_id: str, inspected: Json) -> None:
        """Takes note of a container that may run; ends it when it is unhealthy."""
        self._unseen.discard(task_id)
        if not inspected["State"]["Running"]:
            return
        self._containers[task_id] = str(inspected["Id"])
        health = health_of(inspected)
        if health == "unhealthy":
            if task_id not in self._survivors:
                self._begin_to_end(task_id)
            return
        self._spare(task_id)
        if health == "starting":
            self._waiting.add(task_id)
        else:
            self._waiting.discard(task_id)

    def _begin_to_end(self, task_id: str) -> None:
        self._spare(task_id)
        if self._is_news(task_id):
            self._ending.add(task_id)
            self._aside(self._end_unhealthy(task_id, self._containers[task_id]))

    async def _end_unhealthy(self, task_id: str, container: str) -> None:
        try:
            await self._calls.insist(lambda: self._engine.stop(container, None), self._calls.stops)
        except EngineError as error:
            log.error("container.not_ended", task_id=task_id, error=str(error))
            self._let_survive(task_id)
            return
        self._tell_unhealthy(task_id, container, await self.exit_code(container))

    def _let_survive(self, task_id: str) -> None:
        """What its container says is news again, and where it stays unhealthy, it is stopped once more."""
        if task_id not in self._ending:  # somebody else has made an end of it meanwhile
            return
        self._ending.discard(task_id)
        loop = asyncio.get_running_loop()
        self._survivors[task_id] = loop.call_later(UNHEALTHY_RETRY_S, self._begin_to_end, task_id)
        self._changed(task_id)  # it may have ended while nobody listened

    def _spare(self, task_id: str) -> None:
        """It is not to be stopped again, for now."""
        timer = self._survivors.pop(task_id, None)
        if timer is not None:
            timer.cancel()

    def _tell_unhealthy(self, task_id: str, container: str, code: int) -> None:
        error = f"task: non-zero exit ({code}): {UNHEALTHY}" if code else UNHEALTHY
        now = self._clock.now()
        self._tell(Observation(task_id, FAILED, now, "started", error, container, exit_code=code))

    def _is_news(self, task_id: str) -> bool:
        """Returns whether what a task's container says is to be told: it is not where it is made to end."""
        is_ending = task_id in self._stopping or task_id in self._ending
        return task_id in self._containers and not is_ending

    async def _adopt(self, task_id: str, listed: Json, on_adopted: OnAdopted) -> None:
        async def once(call: Callable[[], Awaitable[Json | None]]) -> Json | None:
            async with self._calls.looks.one():
                return await call()

        inspected = await self._look(task_id, listed["Id"], once)
        if inspected is None:
            return
        seen = observation_of(task_id, inspected, self._clock.now())
        since = inspected["State"]["StartedAt" if inspected["State"]["Running"] else "FinishedAt"]
        seen = replace(seen, at=epoch_s(since) or seen.at)
        # From here on an event changes what is adopted, until it is all handed over.
        self._adopting[task_id] = Adopted(task_id, listed["Labels"][SERVICE_LABEL], seen)
        if seen.state <= RUNNING:
            on_adopted(task_id, inspected)
        self._follow(task_id, inspected)

    def _adopt_listed(self, task_id: str, listed: Json, on_adopted: OnAdopted) -> None:
        seen = listed_observation_of(task_id, listed, self._clock.now())
        self._adopting[task_id] = Adopted(task_id, listed["Labels"][SERVICE_LABEL], seen)
        if seen.state > RUNNING:
            return
        on_adopted(task_id, listed)
        if seen.state > READY:
            self._containers[task_id] = str(listed["Id"])
            self._unseen.add(task_id)

    def reports_to(self, report: Report) -> None:
        """Has `report` hear of what is seen from now on."""
        self._report = report

    def _tell(self, seen: Observation) -> None:
        if seen.state > RUNNING:
            self._on_over(seen.task_id)
        if (adopted := self._adopting.get(seen.task_id)) is not None:
            self._adopting[seen.task_id] = replace(adopted, observation=seen)
        self._report(seen)
