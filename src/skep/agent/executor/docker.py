"""Tasks as containers of the local Docker Engine; fulfils `executor.port.Executor`.

Each action is a short coroutine; exits and health come by one event stream for the whole node. While the
engine is away actions wait for it, because an engine that restarts must not fail tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from skep.agent.executor.container_config import (
    NODE_LABEL,
    SERVICE_LABEL,
    TASK_LABEL,
    container_name,
    create_body,
)
from skep.agent.executor.engine import EngineClient, EngineError, Json
from skep.agent.executor.port import Action, Adopted, Observation, Report, TaskContext
from skep.model.node import EngineDescription, EnginePlugin, NodeDescription, NodeResources
from skep.model.spec import Platform
from skep.model.states import COMPLETE, FAILED, PREPARING, READY, REJECTED, RUNNING, SHUTDOWN, STARTING
from skep.runtime.clock import Clock
from skep.runtime.errors import Invalid, SkepError, Unavailable

log = structlog.get_logger()

CALLS_MAX = 8  # engine calls at once: two cores are full with four, more only queue inside the engine
RETRY_MIN_S, RETRY_MAX_S = 0.2, 5.0  # an engine that restarts is back in seconds
STOP_GRACE_S = 10.0  # Docker's default
EVENTS = ["die", "destroy", "health_status"]

T = TypeVar("T")


class DockerExecutor:
    """`hostname` is the node's name in the swarm. Several nodes may share one engine."""

    def __init__(self, socket_path: str, hostname: str, clock: Clock) -> None:
        self._engine = EngineClient(socket_path)
        self._hostname = hostname
        self._clock = clock
        self._node_id = ""
        self._report: Report = lambda seen: None
        self._gate = asyncio.Semaphore(CALLS_MAX)
        self._works: dict[str, asyncio.Task[None]] = {}
        self._containers: dict[str, str] = {}  # task -> container, while it may run
        self._stopping: set[str] = set()
        self._waits_for_health: set[str] = set()
        self._watcher: asyncio.Task[None] | None = None
        self._leftovers: set[asyncio.Task[None]] = set()

    async def start(self, node_id: str, report: Report) -> None:
        self._node_id = node_id
        self._report = report
        await self._engine.info()
        if node_id and self._watcher is None:
            self._watcher = asyncio.ensure_future(self._watch())

    async def describe(self) -> NodeDescription:
        return _description(await self._engine.info(), self._hostname)

    async def adopt(self) -> list[Adopted]:
        found = []
        for listed in await self._engine.containers(f"{NODE_LABEL}={self._node_id}"):
            labels = listed["Labels"]
            seen = await self._look(labels[TASK_LABEL], listed["Id"])
            if seen is None:
                continue
            if seen.state in (STARTING, RUNNING):
                self._containers[seen.task_id] = listed["Id"]
            found.append(Adopted(seen.task_id, labels[SERVICE_LABEL], seen))
        return found

    def begin(self, action: Action, context: TaskContext) -> None:
        task_id = context.task.id
        under_way = self._works.get(task_id)
        if under_way is not None and action is Action.STOP:
            under_way.cancel()
        steps = {
            Action.PREPARE: self._prepare,
            Action.START: self._start,
            Action.STOP: self._stop,
            Action.REMOVE: self._remove,
        }
        work = asyncio.ensure_future(self._perform(action, context, steps[action]))
        self._works[task_id] = work
        work.add_done_callback(lambda done: self._finished(task_id, done))

    def remove_unknown(self, task_id: str) -> None:
        work = asyncio.ensure_future(self._remove_leftover(task_id))
        self._leftovers.add(work)
        work.add_done_callback(self._leftovers.discard)

    async def close(self) -> None:
        works = [*self._works.values(), *self._leftovers]
        if self._leftovers:
            await asyncio.wait(self._leftovers, timeout=STOP_GRACE_S + 5)
        if self._watcher is not None:
            works.append(self._watcher)
            self._watcher = None
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)
        await self._engine.close()

    # Actions

    async def _perform(
        self, action: Action, context: TaskContext, step: Callable[[TaskContext], Awaitable[None]]
    ) -> None:
        try:
            await step(context)
        except (EngineError, Invalid) as error:
            if action is Action.PREPARE:
                self._say(context.task.id, REJECTED, "preparing", str(error))
            elif action is Action.START:
                self._say(context.task.id, FAILED, "starting", f"starting container failed: {error}")
            elif action is Action.STOP:
                log.error("task.stop_failed", task_id=context.task.id, error=str(error))
                self._say(context.task.id, FAILED, "stopping", f"stopping container failed: {error}")
            else:
                log.error("task.remove_failed", task_id=context.task.id, error=str(error))

    async def _prepare(self, context: TaskContext) -> None:
        task_id = context.task.id
        self._say(task_id, PREPARING, "preparing")
        body = create_body(context)
        body["Image"] = await self._ensure_image(body["Image"])
        name = container_name(context)
        try:
            container_id = await self._call(lambda: self._engine.create(name, body))
        except EngineError as error:
            if error.status != 409:
                raise
            found = await self._call(lambda: self._engine.inspect(name))
            if found["Config"]["Labels"].get(TASK_LABEL) != task_id:
                raise
            container_id = found["Id"]
        self._say(task_id, READY, "prepared", container_id=container_id)

    async def _start(self, context: TaskContext) -> None:
        task_id = context.task.id
        name = container_name(context)
        self._say(task_id, STARTING, "starting")
        self._containers[task_id] = name
        await self._call(lambda: self._engine.start(name))
        found = await self._call(lambda: self._engine.inspect(name))
        self._containers[task_id] = found["Id"]
        seen = _seen(task_id, found, self._clock.now())
        if seen.state == STARTING:
            self._waits_for_health.add(task_id)
        self._tell(seen)

    async def _stop(self, context: TaskContext) -> None:
        task_id = context.task.id
        self._stopping.add(task_id)
        spec = context.template.spec.container_spec
        grace_ns = spec.stop_grace_period if spec is not None else None
        grace_s = STOP_GRACE_S if grace_ns is None else grace_ns / 1e9
        target = self._containers.get(task_id) or container_name(context)
        await self._call(lambda: self._engine.stop(target, grace_s))
        self._say(task_id, SHUTDOWN, "shutdown")
        self._forget(task_id)

    async def _remove(self, context: TaskContext) -> None:
        name = container_name(context)
        await self._call(lambda: self._engine.remove(name))
        self._forget(context.task.id)

    async def _remove_leftover(self, task_id: str) -> None:
        try:
            for listed in await self._call(lambda: self._engine.containers(f"{TASK_LABEL}={task_id}")):
                self._stopping.add(task_id)
                container = listed["Id"]
                await self._call(lambda c=container: self._engine.stop(c, STOP_GRACE_S))  # type: ignore[misc]
                await self._call(lambda c=container: self._engine.remove(c))  # type: ignore[misc]
        except EngineError as error:
            log.error("task.leftover_failed", task_id=task_id, error=str(error))
        self._forget(task_id)

    async def _ensure_image(self, reference: str) -> str:
        """Returns the reference to create from: a local image is taken before anything is pulled."""
        plain = reference.split("@", 1)[0]
        for candidate in dict.fromkeys((reference, plain)):
            if await self._call(lambda c=candidate: self._engine.has_image(c)):  # type: ignore[misc]
                return candidate
        try:
            await self._call(lambda: self._engine.pull(reference))
        except EngineError as error:
            log.warning("image.pull_failed", image=reference, error=str(error))
            raise EngineError(404, f"No such image: {reference}") from error
        return reference

    async def _call(self, call: Callable[[], Awaitable[T]]) -> T:
        """Makes one engine call, again and again while the engine cannot be reached."""
        retry_s = RETRY_MIN_S
        while True:
            try:
                async with self._gate:
                    return await call()
            except Unavailable as error:
                log.warning("engine.unreachable", error=str(error))
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, RETRY_MAX_S)

    def _finished(self, task_id: str, done: asyncio.Task[None]) -> None:
        if self._works.get(task_id) is done:
            del self._works[task_id]
        if not done.cancelled() and done.exception() is not None:
            log.error("task.action_crashed", task_id=task_id, error=repr(done.exception()))

    def _forget(self, task_id: str) -> None:
        self._containers.pop(task_id, None)
        self._stopping.discard(task_id)
        self._waits_for_health.discard(task_id)

    # What the engine says by itself

    async def _watch(self) -> None:
        """Follows the engine's events for as long as we run; looks at everything after each gap."""
        retry_s = RETRY_MIN_S
        while True:
            with contextlib.suppress(SkepError):
                async for event in self._engine.events(f"{NODE_LABEL}={self._node_id}", EVENTS):
                    if event:
                        self._event(event)
                    else:
                        retry_s = RETRY_MIN_S
                        await self._look_at_all()
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, RETRY_MAX_S)

    async def _look_at_all(self) -> None:
        for task_id, container in list(self._containers.items()):
            if task_id in self._works or task_id in self._stopping:
                continue
            seen = await self._look(task_id, container)
            if seen is None:
                seen = self._gone(task_id)
            if seen.state != RUNNING:
                self._tell(seen)

    async def _look(self, task_id: str, container: str) -> Observation | None:
        try:
            return _seen(task_id, await self._engine.inspect(container), self._clock.now())
        except EngineError as error:
            if error.status == 404:
                return None
            raise

    def _event(self, event: Json) -> None:
        attributes = event.get("Actor", {}).get("Attributes", {})
        task_id = attributes.get(TASK_LABEL, "")
        action = str(event.get("Action", ""))
        if task_id not in self._containers or task_id in self._stopping:
            return
        if action == "die":
            exit_code = int(attributes.get("exitCode", 0))
            container_id = event["Actor"]["ID"]
            self._tell(_ended(task_id, container_id, exit_code, self._clock.now()))
        elif action == "destroy":
            self._tell(self._gone(task_id))
        elif action == "health_status: healthy" and task_id in self._waits_for_health:
            self._waits_for_health.discard(task_id)
            self._say(task_id, RUNNING, "started")
        elif action == "health_status: unhealthy":
            container = self._containers[task_id]
            self._say(task_id, FAILED, "started", "task: unhealthy container")
            self._stopping.add(task_id)
            work = asyncio.ensure_future(self._end_unhealthy(task_id, container))
            self._leftovers.add(work)
            work.add_done_callback(self._leftovers.discard)

    async def _end_unhealthy(self, task_id: str, container: str) -> None:
        try:
            await self._call(lambda: self._engine.stop(container, STOP_GRACE_S))
        except EngineError as error:
            log.error("task.stop_failed", task_id=task_id, error=str(error))
        self._forget(task_id)

    def _gone(self, task_id: str) -> Observation:
        return Observation(
            task_id, FAILED, self._clock.now(), "started", "task: its container was removed by somebody else"
        )

    def _say(self, task_id: str, state: int, message: str, error: str = "", container_id: str = "") -> None:
        self._tell(Observation(task_id, state, self._clock.now(), message, error, container_id))

    def _tell(self, seen: Observation) -> None:
        if seen.state > RUNNING and seen.task_id not in self._stopping:
            self._forget(seen.task_id)
        self._report(seen)


def _seen(task_id: str, inspected: Json, now: float) -> Observation:
    """Reads a task's state off its container."""
    state, container_id = inspected["State"], str(inspected["Id"])
    if state["Status"] == "created":
        return Observation(task_id, READY, now, "prepared", container_id=container_id)
    if not state["Running"]:
        return _ended(task_id, container_id, int(state["ExitCode"]), now)
    starting = (state.get("Health") or {}).get("Status") == "starting"
    return Observation(
        task_id,
        STARTING if starting else RUNNING,
        now,
        "starting" if starting else "started",
        container_id=container_id,
        pid=int(state["Pid"]),
        ports=_ports(inspected),
    )


def _ended(task_id: str, container_id: str, exit_code: int, now: float) -> Observation:
    if exit_code == 0:
        return Observation(task_id, COMPLETE, now, "finished", container_id=container_id)
    error = f"task: non-zero exit ({exit_code})"
    return Observation(task_id, FAILED, now, "started", error, container_id=container_id, exit_code=exit_code)


def _ports(inspected: Json) -> tuple[tuple[str, int, int], ...]:
    found = set()
    for key, bindings in (inspected.get("NetworkSettings", {}).get("Ports") or {}).items():
        target, _, protocol = key.partition("/")
        for binding in bindings or []:
            found.add((protocol, int(target), int(binding["HostPort"])))
    return tuple(sorted(found))


def _description(info: Json, hostname: str) -> NodeDescription:
    plugins = [EnginePlugin(type="Log", name=n) for n in info["Plugins"].get("Log") or []]
    plugins += [EnginePlugin(type="Network", name=n) for n in info["Plugins"].get("Network") or []]
    plugins += [EnginePlugin(type="Volume", name=n) for n in info["Plugins"].get("Volume") or []]
    labels = dict(label.partition("=")[::2] for label in info.get("Labels") or [])
    return NodeDescription(
        hostname=hostname,
        platform=Platform(architecture=info["Architecture"], os=info["OSType"]),
        resources=NodeResources(
            nano_cpus=int(info["NCPU"]) * 1_000_000_000, memory_bytes=int(info["MemTotal"])
        ),
        engine=EngineDescription(
            engine_version=info["ServerVersion"],
            labels=labels,
            plugins=sorted(plugins, key=lambda p: (p.type, p.name)),
        ),
    )
