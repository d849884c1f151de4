"""Tasks as containers of the local Docker Engine; fulfils `executor.port.Executor`.

Each action is a short coroutine; what the engine says by itself is `watch`'s. While the engine is away
actions wait for it, because an engine that restarts must not fail tasks.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any

import structlog
from msgspec.structs import replace

from skep.agent.executor import podman
from skep.agent.executor.bridges import Bridges
from skep.agent.executor.by_version import ApiVersion
from skep.agent.executor.calls import EngineCalls
from skep.agent.executor.clearing import GIVE_UP_S, Clearing
from skep.agent.executor.container_config import (
    NODE_LABEL,
    TASK_LABEL,
    attach_to,
    create_body,
    place_socket,
)
from skep.agent.executor.engine import CALL_S, EngineClient, Json
from skep.agent.executor.images import Images
from skep.agent.executor.interfaces import (
    Action,
    Adopted,
    NameServer,
    Report,
    RunningTask,
    TaskContext,
    UsageReading,
)
from skep.agent.executor.logs import task_logs
from skep.agent.executor.meter import Meter, stats_of
from skep.agent.executor.refusals import EngineError, is_name_taken, is_network_gone
from skep.agent.executor.resolving import Resolving
from skep.agent.executor.single import SingleContainers
from skep.agent.executor.task_files import DIRECTORY, TaskFiles
from skep.agent.executor.templates import container_name
from skep.agent.executor.watch import ContainerWatch
from skep.model.docker_socket import Given, no_socket
from skep.model.logs import LogOptions
from skep.model.node import NodeDescription
from skep.model.spec import Platform
from skep.model.states import FAILED, PREPARING, READY, REJECTED, RUNNING, SHUTDOWN, STARTING
from skep.model.template_use import has_templates
from skep.runtime.clock import Clock
from skep.runtime.errors import Invalid, SkepError
from skep.runtime.supervise import in_thread

log = structlog.get_logger()

STOP_GRACE_S = 10.0  # Docker's default
CLOSE_S = 15.0  # for leftovers to go: the default grace and some
SYSTEMD = Path("/run/systemd/system")  # sd_booted(3)
LOOKS_AGAIN_S = 20.0  # SwarmKit: how soon another engine version, label or resource is noticed


class DockerExecutor:
    """`hostname` is the node's name in the swarm; `docker_socket` says what tasks get that bind Docker's.
    Several nodes may share one engine."""

    def __init__(
        self,
        socket_path: str,
        hostname: str,
        clock: Clock,
        files: Path = DIRECTORY,
        docker_socket: Given = no_socket,
    ) -> None:
        self._engine = EngineClient(socket_path)
        self._hostname = hostname
        self._clock = clock
        self._docker_socket = docker_socket
        self._node_id = ""
        self._platform = Platform()
        self._calls = EngineCalls()
        self._expanding = asyncio.Lock()
        self._files = TaskFiles(files)
        self._images = Images(self._engine, self._calls)
        self._resolving = Resolving()
        engine, calls, node = self._engine, self._calls, lambda: self._node_id
        self._bridges = Bridges(engine, calls, self._aside, node, self._resolving)
        self.single = SingleContainers(engine, calls, self._bridges, self._resolving, node)
        self._watch = ContainerWatch(self._engine, self._calls, clock, self._aside, self._forget)
        self._meter = Meter()
        self._copies: dict[str, str] = {}  # while adopting: engine's network -> the swarm's
        self._works: dict[str, asyncio.Task[None]] = {}  # the latest action of each task
        self._asides: set[asyncio.Task[None]] = set()  # what nobody began: leftovers, unhealthy containers
        self._watchers: list[asyncio.Task[None]] = []
        self._late_until = 0.0  # loop time: something that was being made may come as late
        self._is_over = False  # the node's swarm is, for it: its containers are gone, and no more come

    def use_names(self, server: NameServer) -> None:
        self._resolving.use(server)

    async def start(self, node_id: str, report: Report) -> None:
        self._node_id = node_id
        self._watch.reports_to(report)
        self._files.start(node_id)
        self._platform = (await self.describe()).platform
        if node_id and not self._watchers:
            watching = (self._watch.watch, self._watch.look_again)
            self._watchers = [asyncio.ensure_future(watch(self._node_filter)) for watch in watching]

    @property
    def looks_again_s(self) -> float | None:
        return LOOKS_AGAIN_S

    @property
    def can_freeze(self) -> bool:
        return True

    async def ping(self, wait_s: float) -> None:
        await self._engine.ping(wait_s)

    async def describe(self) -> NodeDescription:
        return await self._engine.describe(self._hostname)

    async def adopt(self) -> list[Adopted]:
        listed = await self._engine.containers(self._node_filter)
        self._copies = await self._bridges.copies()
        try:
            found = await self._watch.adopt(listed, self._join)
            self._files.keep_only({each.task_id for each in found if each.observation.state <= RUNNING})
            await self._bridges.remove_leftovers()
            return found
        finally:
            self._copies = {}

    def _join(self, task_id: str, inspected: Json) -> None:
        joined = (inspected.get("NetworkSettings", {}).get("Networks") or {}).values()
        ids = (self._copies.get(str(each.get("NetworkID", ""))) for each in joined)
        self._bridges.adopt(task_id, tuple(each for each in ids if each))
        self._resolving.adopt(inspected)

    def begin(self, action: Action, context: TaskContext) -> None:
        if self._is_over:
            return
        task_id = context.task.id
        former = self._works.get(task_id)
        if action is Action.STOP:
            self._watch.stopping(task_id)
            if former is not None:
                former.cancel()
        elif action is Action.PREPARE:
            # At once, so that whoever gives the task up knows that there is something to give up.
            self._watch.say(task_id, PREPARING, "preparing")
        work = asyncio.ensure_future(self._perform(action, context, former))
        self._works[task_id] = work
        work.add_done_callback(lambda done: self._finished(task_id, done))

    def remove_unknown(self, task_id: str) -> None:
        if self._is_over:
            return
        former = self._works.get(task_id)
        if former is not None:
            former.cancel()
        self._watch.stopping(task_id)
        self._aside(self._remove_leftover(task_id, former))

    def logs(self, task_id: str, since: str, options: LogOptions, limit: int) -> AsyncIterator[bytes]:
        labels = (self._node_filter, f"{TASK_LABEL}={task_id}")
        return task_logs(self._engine, labels, since, options, limit)

    async def read_usage(self, tasks: Sequence[RunningTask]) -> UsageReading:
        reading, unread = await in_thread(self._meter.read, tasks)
        if not unread:
            return reading
        found = await stats_of(self._engine, self._calls, unread, reading.host)
        return replace(reading, tasks={**reading.tasks, **found})

    async def close(self) -> None:
        for work in (*self._watchers, *self._works.values()):
            work.cancel()
        if self._asides:
            await asyncio.wait(self._asides, timeout=CLOSE_S)
        works = [*self._works.values(), *self._asides, *self._watchers]
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)
        self._watchers = []
        self._watch.clear()
        self._bridges.clear()
        await self._engine.close()

    async def clear(self, node_id: str, sweeps: bool) -> list[str]:
        if not node_id:  # of no swarm yet: such a label would be anybody's
            return []
        ensured = frozenset[str]()
        if node_id == self._node_id:
            await self._give_up()
            ensured = self._bridges.ensured
        left = await Clearing(self._engine, self._calls, node_id, self._clock, sweeps, ensured).clear()
        if node_id == self._node_id and asyncio.get_running_loop().time() < self._late_until:
            left.append(f"what the engine was still making after {GIVE_UP_S:.0f} s")
        return left + await self._files.clear(node_id)

    async def _give_up(self) -> None:
        """Ends what is under way; nothing begins any more."""
        self._is_over = True
        under_way = {*self._works.values(), *self._asides, *self._watchers}
        for work in under_way:
            work.cancel()
        if under_way:  # an engine that is just creating a container answers first
            _, late = await asyncio.wait(under_way, timeout=GIVE_UP_S)
            if late:
                self._late_until = asyncio.get_running_loop().time() + CALL_S
        for work in under_way:
            work.cancel()
        self._watchers = []

    @property
    def _node_filter(self) -> str:
        return f"{NODE_LABEL}={self._node_id}"

    # Actions

    async def _perform(self, action: Action, context: TaskContext, former: asyncio.Task[None] | None) -> None:
        steps = {
            Action.PREPARE: self._prepare,
            Action.START: self._start,
            Action.STOP: self._stop,
            Action.REMOVE: self._remove,
        }
        ends = {
            Action.PREPARE: (REJECTED, "preparing", ""),
            Action.START: (FAILED, "starting", "starting container failed: "),
            Action.STOP: (FAILED, "stopping", "stopping container failed: "),
        }
        try:
            if former is not None:
                await asyncio.wait([former])
            await steps[action](context)
        except Exception as error:  # whatever it is, a task must end and not hang
            log.warning(
                f"task.{action.value}_failed", task_id=context.task.id, error=str(error) or repr(error)
            )
            if action in ends:
                state, message, prefix = ends[action]
                # The engine notes why a start failed as a code, too: 127 for a program that is not there.
                code = await self._watch.exit_code(container_name(context)) if action is Action.START else 0
                text = prefix + (str(error) or repr(error))
                self._watch.say(context.task.id, state, message, text, exit_code=code)
            self._forget(context.task.id)

    async def _prepare(self, context: TaskContext) -> None:
        container_id = await self._create(context)
        self._watch.say(context.task.id, READY, "prepared", container_id=container_id)

    async def _create(self, context: TaskContext) -> str:
        """Returns the id of the task's container, on its networks."""
        task_id, name = context.task.id, container_name(context)
        version = await self._calls.look(self._engine.api_version)
        body = await self._body(context, version)
        place_socket(body, context, self._docker_socket())
        if await self._calls.look(self._engine.is_podman):
            podman.check_supported(context, SYSTEMD.is_dir())
            await in_thread(_require_sources, podman.needed_sources(body))
        body["HostConfig"]["Mounts"] += await self._files.write(context, self._platform)
        body["Image"] = await self._images.ensure(body["Image"], context.template.registry_auth)
        networks = await self._bridges.prepare(context)
        if networks:
            attach_to(body, *networks[0])
            self._resolving.place_task(body, context)
        try:
            container_id = await self._calls.to_the_end(lambda: self._engine.create(name, body))
        except EngineError as error:
            # An earlier try whose answer was lost, or an earlier process, created it.
            if not is_name_taken(error):
                raise
            found = await self._calls.look(lambda: self._engine.inspect(name))
            if found is None or (found["Config"]["Labels"] or {}).get(TASK_LABEL) != task_id:
                raise
            container_id = str(found["Id"])
        for network, endpoint in networks[1:]:
            connect = functools.partial(self._engine.connect, network, container_id, endpoint)
            await self._calls.call(connect)
        return container_id

    async def _body(self, context: TaskContext, version: ApiVersion) -> Json:
        """Templates are users' own work: expanded beside the loop, and one task's after the other's."""
        container = context.template.spec.container_spec
        if container is None or not has_templates(container):
            return create_body(context, self._platform, version)
        async with self._expanding:
            return await asyncio.to_thread(create_body, context, self._platform, version)

    async def _start(self, context: TaskContext) -> None:
        task_id, name = context.task.id, container_name(context)
        self._watch.say(task_id, STARTING, "starting")
        with self._watch.starting(task_id, name):
            try:
                await self._calls.to_the_end(lambda: self._start_once(name))
            except asyncio.CancelledError:
                self._watch.doubt(task_id)
                raise
            except EngineError as error:
                if not context.task.addresses or not is_network_gone(error):
                    raise
                # Another node that shares this engine has just removed the bridge: it took it for unused.
                await self._calls.call(lambda: self._engine.remove(name))
                await self._create(context)
                await self._calls.to_the_end(lambda: self._start_once(name))
        await self._watch.observe(task_id)

    async def _start_once(self, name: str) -> None:
        """Starts what has never run: after a lost answer it may have run, and ended, already."""
        found = await self._engine.inspect(name)
        if found is None:
            raise EngineError(404, f"No such container: {name}")
        if found["State"]["Status"] == "created":
            await self._engine.start(name)

    async def _stop(self, context: TaskContext) -> None:
        task_id = context.task.id
        spec = context.template.spec.container_spec
        grace_ns = spec.stop_grace_period if spec is not None else None
        grace_s = STOP_GRACE_S if grace_ns is None else grace_ns / 1e9
        target = self._watch.container_of(task_id) or container_name(context)
        await self._calls.insist(lambda: self._engine.stop(target, grace_s), self._calls.stops)
        self._watch.say(task_id, SHUTDOWN, "shutdown", exit_code=await self._watch.exit_code(target))

    async def _remove(self, context: TaskContext) -> None:
        name = container_name(context)
        await self._calls.insist(lambda: self._engine.remove(name), self._calls.changes)
        self._forget(context.task.id)

    async def _remove_leftover(self, task_id: str, former: asyncio.Task[None] | None) -> None:
        if former is not None:
            await asyncio.wait([former])
        labels = (self._node_filter, f"{TASK_LABEL}={task_id}")
        for listed in await self._calls.look(lambda: self._engine.containers(*labels)):
            await self._end(listed["Id"])
        self._forget(task_id)

    async def _end(self, container: str) -> None:
        await self._calls.insist(lambda: self._engine.stop(container, None), self._calls.stops)
        await self._calls.insist(lambda: self._engine.remove(container), self._calls.changes)

    def _finished(self, task_id: str, done: asyncio.Task[None]) -> None:
        if self._works.get(task_id) is done:
            del self._works[task_id]

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        async def logged() -> None:
            try:
                await work
            except SkepError as error:
                log.error("container.not_ended", error=str(error))

        aside = asyncio.ensure_future(logged())
        self._asides.add(aside)
        aside.add_done_callback(self._asides.discard)

    def _forget(self, task_id: str) -> None:
        self._files.drop(task_id)
        self._watch.forget(task_id)
        self._bridges.leave(task_id)


def _require_sources(paths: list[str]) -> None:
    """Errors: `Invalid`, in Docker's words, for one that is not there."""
    for path in paths:
        if not Path(path).exists():
            raise Invalid(f'invalid mount config for type "bind": bind source path does not exist: {path}')
