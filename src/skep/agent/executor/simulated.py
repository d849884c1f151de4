"""A node without containers: real agent, real session, tasks that only pretend.

For trying a cluster's size before buying it, for the benchmark, and for the simulation. Latencies and
failures are drawn from the generator given, so that a seed replays. Of commands it knows `true`, `false` and
`sleep N`, which jobs are tried with; everything else runs for ever. Of health checks it knows `CMD false`.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from functools import partial

from msgspec import Struct

from skep.agent.executor.interfaces import (
    Action,
    Adopted,
    Counted,
    NameServer,
    Observation,
    Report,
    RunningTask,
    TaskContext,
    UsageReading,
)
from skep.model.container import GenericResource
from skep.model.logs import LogOptions
from skep.model.material import references
from skep.model.node import EngineDescription, EnginePlugin, NodeDescription, NodeResources
from skep.model.spec import Platform
from skep.model.states import COMPLETE, FAILED, READY, REJECTED, RUNNING, SHUTDOWN, STARTING
from skep.rpc.log_frames import HEADER
from skep.runtime.clock import Clock
from skep.runtime.errors import Unavailable

LOG_LINE_S = 1.0  # a simulated container says something every second
LOG_LINES_MAX = 1000  # of those that are in the past
LOG_ROUND = 1e-3  # of a line's time: a float of seconds has no nanoseconds
UNHEALTHY_TEST = ("CMD", "false")
NOWHERE = (
    ".invalid"  # registries of that name are nowhere (RFC 2606): simulated engines have no images of them
)
IDLE_CORES, IDLE_BYTES = 0.05, 200 << 20  # what a simulated host takes by itself
INTERVAL_NS, RETRIES = 30_000_000_000, 3  # of a health check that does not say: Docker's own


class SimulatedSettings(Struct, frozen=True):
    """How a simulated engine behaves. Times in seconds; rates are probabilities per task."""

    prepare_s: float = 0.0
    start_s: float = 0.0
    stop_s: float = 0.0
    fail_rate: float = 0.0  # tasks that fail to start
    crash_rate_per_hour: float = 0.0  # running tasks that die
    nano_cpus: int = 64_000_000_000
    memory_bytes: int = 256 << 30
    generic: tuple[GenericResource, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()  # the engine's
    can_freeze: bool = False  # whether the agent asks if it answers (`freeze`)


class _Span(Struct):
    """When a container ran: since `at` by the wall clock, the others by the loop's, which never jumps."""

    at: float
    began_at: float
    cores: float  # it takes
    memory_bytes: int
    ended_at: float | None = None

    @property
    def lasted_s(self) -> float:
        return (asyncio.get_running_loop().time() if self.ended_at is None else self.ended_at) - self.began_at

    @property
    def lines(self) -> int:
        """How many lines it has put out."""
        return int(self.lasted_s / LOG_LINE_S + LOG_ROUND) + 1


class SimulatedExecutor:
    """Fulfils `Executor`. With latencies of zero a task runs in the same turn of the loop."""

    def __init__(self, hostname: str, settings: SimulatedSettings, rng: random.Random, clock: Clock) -> None:
        self._hostname = hostname
        self._settings = settings
        self._rng = rng
        self._clock = clock
        self._report: Report | None = None
        self._containers: dict[str, Adopted] = {}  # survives a restart of the agent, as real ones do
        self._timers: dict[str, asyncio.TimerHandle] = {}  # actions under way
        self._spans: dict[str, _Span] = {}
        self._ends: dict[str, asyncio.TimerHandle] = {}  # containers that will end by themselves
        self._past_cpu_s = 0.0  # that containers have used which are gone
        self.started = 0  # containers that ever came to run here
        self._asked: list[Callable[[], None]] | None = None  # of an engine that is frozen, meanwhile
        self._happened: list[Callable[[], None]] = []  # in its containers
        self.lacked: list[str] = []  # secrets and configs that tasks needed and the node was not given

    @property
    def single(self) -> None:
        return None

    def use_names(self, server: NameServer) -> None:
        """There is nobody who could ask."""

    async def start(self, node_id: str, report: Report) -> None:
        self._require_answer()
        self._report = report

    @property
    def can_freeze(self) -> bool:
        return self._settings.can_freeze

    async def ping(self, wait_s: float) -> None:
        if self._asked is not None:
            await asyncio.sleep(wait_s)
        self._require_answer()

    def freeze(self) -> None:
        """The engine answers nothing and does nothing any more; containers run on."""
        self._asked = self._asked if self._asked is not None else []

    def thaw(self) -> None:
        """It does what it was asked for meanwhile, and says what has happened."""
        happened, self._happened = self._happened, []
        asked, self._asked = self._asked or [], None
        for each in (*happened, *asked):
            each()

    def _require_answer(self) -> None:
        if self._asked is not None:
            raise Unavailable("the simulated engine does not answer")

    @property
    def looks_again_s(self) -> float | None:
        return None

    async def describe(self) -> NodeDescription:
        self._require_answer()
        return self.description

    @property
    def description(self) -> NodeDescription:
        """Returns what it says of itself, always the same."""
        return NodeDescription(
            hostname=self._hostname,
            platform=Platform(architecture="x86_64", os="linux"),
            resources=NodeResources(
                nano_cpus=self._settings.nano_cpus,
                memory_bytes=self._settings.memory_bytes,
                generic_resources=list(self._settings.generic),
            ),
            engine=EngineDescription(
                engine_version="simulated",
                labels=dict(self._settings.labels),
                plugins=[EnginePlugin(type="Volume", name="local")],
            ),
        )

    async def adopt(self) -> list[Adopted]:
        self._require_answer()
        return list(self._containers.values())

    @property
    def running(self) -> list[str]:
        """Returns the ids of tasks whose container runs here now."""
        return [k for k, v in self._containers.items() if v.observation.state == RUNNING]

    def state_of(self, task_id: str) -> int | None:
        """Returns the state of a task's container here, None where there is none."""
        adopted = self._containers.get(task_id)
        return None if adopted is None else adopted.observation.state

    def begin(self, action: Action, context: TaskContext) -> None:
        task_id, settings = context.task.id, self._settings
        if self._asked is not None:
            self._asked.append(partial(self.begin, action, context))
            return
        if action is Action.REMOVE:
            self.remove_unknown(task_id)
            return
        self._cancel(task_id)
        delay_s = {Action.PREPARE: settings.prepare_s, Action.START: settings.start_s}.get(
            action, settings.stop_s
        )
        if delay_s <= 0:
            self._finish(action, context)
        else:
            delay_s *= 0.5 + self._rng.random()
            self._later(task_id, delay_s, action, context)

    def remove_unknown(self, task_id: str) -> None:
        if self._asked is not None:
            self._asked.append(partial(self.remove_unknown, task_id))
            return
        self._cancel(task_id)
        self._containers.pop(task_id, None)
        if (span := self._spans.pop(task_id, None)) is not None:
            self._past_cpu_s += span.cores * span.lasted_s

    async def clear(self, node_id: str, sweeps: bool) -> list[str]:
        for task_id in list(self._containers):
            self.remove_unknown(task_id)
        return []

    def _cancel(self, task_id: str) -> None:
        for timers in (self._timers, self._ends):
            timer = timers.pop(task_id, None)
            if timer is not None:
                timer.cancel()

    def detach(self) -> None:
        """The agent's process is gone: nobody hears of observations until `start` is called again. Actions
        under way are given up; containers run on, and end when they do."""
        self._report = None
        self._asked = None if self._asked is None else []
        for task_id, timer in list(self._timers.items()):
            timer.cancel()
            del self._timers[task_id]

    async def logs(self, task_id: str, since: str, options: LogOptions, limit: int) -> AsyncIterator[bytes]:
        """One line a second, on stdout, for as long as the task runs."""
        span = self._spans.get(task_id)
        if span is None or not options.stdout:
            return
        n = max(0, span.lines - LOG_LINES_MAX)
        if options.tail >= 0:
            n = max(n, span.lines - options.tail)
        if since:
            n = max(n, int((float(since) - span.at) / LOG_LINE_S + LOG_ROUND) + 1)
        while True:
            while n < span.lines:
                yield _line(task_id, span.at, n, options)
                n += 1
            if not options.follow or span.ended_at is not None:
                return
            loop_s = span.began_at + n * LOG_LINE_S - asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, loop_s))

    def lines_of(self, service_id: str) -> dict[str, int]:
        """Returns how many lines the tasks of a service that run here have put out."""
        running = [k for k, v in self._containers.items() if v.service_id == service_id]
        return {
            task_id: self._spans[task_id].lines for task_id in running if self.state_of(task_id) == RUNNING
        }

    async def read_usage(self, tasks: Sequence[RunningTask]) -> UsageReading:
        """Invented numbers, and always the same for one task: up to a tenth of a core, and 8 to 72 MB. The
        host takes what all its tasks do, and a little for itself."""
        self._require_answer()
        now = asyncio.get_running_loop().time()
        cpu_s, load1, memory = IDLE_CORES * now + self._past_cpu_s, IDLE_CORES, IDLE_BYTES
        for span in self._spans.values():
            cpu_s += span.cores * span.lasted_s
            if span.ended_at is None:
                load1 += span.cores
                memory += span.memory_bytes
        found: dict[str, Counted] = {}
        for task in tasks:
            if (own := self._spans.get(task.task_id)) is not None and own.ended_at is None:
                found[task.task_id] = Counted(now, own.cores * own.lasted_s, own.memory_bytes)
        return UsageReading(Counted(now, cpu_s, min(memory, self._settings.memory_bytes)), load1, found)

    async def close(self) -> None:
        self.detach()

    def _later(self, task_id: str, delay_s: float, action: Action, context: TaskContext) -> None:
        loop = asyncio.get_running_loop()
        self._timers[task_id] = loop.call_later(delay_s, self._finish, action, context)

    def _finish(self, action: Action, context: TaskContext) -> None:
        if self._asked is not None:
            self._happened.append(partial(self._finish, action, context))
            return
        task_id = context.task.id
        self._timers.pop(task_id, None)
        missing = self._lacks(context) if action is Action.PREPARE else ""
        if missing:
            self._say(context, REJECTED, "preparing", missing)
        elif action is Action.PREPARE:
            self._say(context, READY, "prepared")
        elif action is Action.STOP:
            self._say(context, SHUTDOWN, "shutdown")
        elif self._settings.fail_rate and self._rng.random() < self._settings.fail_rate:
            self._say(context, FAILED, "started", "task: non-zero exit (1)", 1)
        elif (unhealthy_s := _unhealthy_after_s(context)) is not None:
            self._say(context, STARTING, "starting")
            self._ends[task_id] = asyncio.get_running_loop().call_later(
                unhealthy_s, self.crash, context, "dockerexec: unhealthy container"
            )
        else:
            self.started += 1
            self._say(context, RUNNING, "started")
            ends = _end_of(context)
            if ends is not None:
                self._ends[task_id] = asyncio.get_running_loop().call_later(
                    ends[0], self._end, context, ends[1]
                )
            elif self._settings.crash_rate_per_hour:
                delay_s = self._rng.expovariate(self._settings.crash_rate_per_hour / 3600)
                handle = asyncio.get_running_loop().call_later(delay_s, self.crash, context)
                self._ends[task_id] = handle

    def _end(self, context: TaskContext, exit_code: int) -> None:
        """The command of a container ends by itself."""
        if self._asked is not None:
            self._happened.append(partial(self._end, context, exit_code))
            return
        self._ends.pop(context.task.id, None)
        error = f"task: non-zero exit ({exit_code})" if exit_code else ""
        self._say(context, FAILED if exit_code else COMPLETE, "finished", error, exit_code)

    def crash(self, context: TaskContext, why: str = "") -> None:
        """The container of a task dies."""
        if self._asked is not None:
            self._happened.append(partial(self.crash, context, why))
            return
        self._ends.pop(context.task.id, None)
        error = "task: non-zero exit (137)" + (f": {why}" if why else "")
        self._say(context, FAILED, "started", error, 137)

    def _lacks(self, context: TaskContext) -> str:
        """Returns what the task has not: its image, or a secret or config that the node was not given; empty
        where it has all."""
        container = context.template.spec.container_spec
        if container is not None and lacks_image(container.image):
            return f"No such image: {container.image}"
        for kind, material_id, name in references(context.template.spec.container_spec):
            if material_id not in context.materials:
                self.lacked.append(material_id)
                return f"{kind} {name} not found: it was removed, or the task does not need it"
        return ""

    def _say(
        self, context: TaskContext, state: int, message: str, error: str = "", exit_code: int = 0
    ) -> None:
        seen = Observation(
            context.task.id, state, self._clock.now(), message, error, "sim-" + context.task.id, 1, exit_code
        )
        self._containers[context.task.id] = Adopted(context.task.id, context.task.service_id, seen)
        if state == RUNNING:
            now = asyncio.get_running_loop().time()
            self._spans[context.task.id] = _Span(seen.at, now, *simulated_usage(context.task.id))
        elif state > RUNNING and context.task.id in self._spans:
            self._spans[context.task.id].ended_at = asyncio.get_running_loop().time()
        if self._report is not None:
            self._report(seen)


def simulated_usage(task_id: str) -> tuple[float, int]:
    """Returns what a simulated task takes, of processors (cores) and of memory (bytes)."""
    drawn = zlib.crc32(task_id.encode())
    return (drawn & 0x3FF) / 10_000, (8 << 20) + (drawn >> 10 & 0x3F_FFFF) * 16


def _line(task_id: str, began: float, n: int, options: LogOptions) -> bytes:
    seconds, nanos = divmod(int((began + n * LOG_LINE_S) * 1e9), 1_000_000_000)
    stamp = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    text = f"{stamp}.{nanos:09d}Z {' ' if options.details else ''}line {n} of {task_id}\n".encode()
    return HEADER.pack(1, len(text)) + text


def _unhealthy_after_s(context: TaskContext) -> float | None:
    """Returns when a container is given up whose health check always fails; None for any other."""
    container = context.template.spec.container_spec
    check = None if container is None else container.healthcheck
    if check is None or tuple(check.test) != UNHEALTHY_TEST:
        return None
    return (check.start_period + (check.interval or INTERVAL_NS) * (check.retries or RETRIES)) / 1e9


def _end_of(context: TaskContext) -> tuple[float, int] | None:
    """Returns after how many seconds a command ends, and its exit code; None for one that does not (soon)."""
    container = context.template.spec.container_spec
    words = [] if container is None else [*container.command, *container.args]
    if words in (["true"], ["false"]):
        return 0.0, int(words == ["false"])
    if len(words) == 2 and words[0] == "sleep" and words[1].replace(".", "", 1).isdigit():
        return float(words[1]), 0
    return None


def lacks_image(image: str) -> bool:
    """True for an image that no simulated engine has: its registry is nowhere (`nosuch.invalid/web:1`)."""
    return image.partition("/")[0].partition(":")[0].endswith(NOWHERE)
