"""The Docker executor against a real engine: every action, exits, health, adoption, leftovers."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from skep.agent.executor import watch
from skep.agent.executor.docker import DockerExecutor
from skep.agent.executor.engine import EngineClient, Json
from skep.agent.executor.interfaces import Action, Observation, TaskContext
from skep.model.container import ContainerSpec, HealthConfig, Mount
from skep.model.spec import TaskSpec
from skep.model.states import (
    COMPLETE,
    FAILED,
    PREPARING,
    READY,
    REJECTED,
    RUNNING,
    SHUTDOWN,
    STARTING,
    is_terminal,
)
from skep.rpc.messages import AssignedTask, ServiceTemplate
from skep.runtime.clock import SystemClock
from skep.runtime.errors import Unavailable

pytestmark = pytest.mark.engine

DEADLINE_S = 60.0  # an engine on two busy cores starts six containers a second, and stops no faster
T = TypeVar("T")
SECOND = 1_000_000_000
FOREVER = ["/bin/sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.1; done"]


class Node:
    """One node on the engine: an executor, what it reported, and a way to begin actions."""

    def __init__(self, socket: str, image: str, node_id: str = "") -> None:
        self.image = image
        self.socket = socket
        self.id = node_id or "node" + secrets.token_hex(8)
        self.engine = EngineClient(socket)
        self.seen: list[Observation] = []
        self.executor = DockerExecutor(socket, "host-1", SystemClock())

    async def start(self) -> None:
        await self.executor.start(self.id, self.seen.append)

    async def restart(self) -> None:
        """The agent's process ends and another one starts."""
        await self.executor.close()
        self.seen.clear()
        self.executor = DockerExecutor(self.socket, "host-1", SystemClock())
        await self.start()

    def context(self, command: list[str] | None = None, image: str = "", **fields: object) -> TaskContext:
        container = ContainerSpec(
            image=image or self.image, command=command or FOREVER, stop_grace_period=SECOND, **fields
        )
        template = ServiceTemplate("svc1", 1, "web", {"tier": "front"}, TaskSpec(container_spec=container))
        task = AssignedTask("task" + secrets.token_hex(8), "svc1", 1, 1, RUNNING)
        return TaskContext(task, template, self.id, "host-1")

    def states(self, context: TaskContext) -> list[int]:
        return [each.state for each in self.seen if each.task_id == context.task.id]

    async def until(self, context: TaskContext, state: int) -> Observation:
        """Returns the first observation in the state; fails when the task ends in another one."""

        def found() -> Observation | None:
            for each in self.seen:
                if each.task_id == context.task.id and each.state == state:
                    return each
                if each.task_id == context.task.id and is_terminal(each.state):
                    raise AssertionError(f"ended as {each}")
            return None

        return await eventually(found)

    async def run(self, context: TaskContext) -> Observation:
        self.executor.begin(Action.PREPARE, context)
        await self.until(context, READY)
        self.executor.begin(Action.START, context)
        return await self.until(context, RUNNING)

    async def containers(self) -> list[Json]:
        return await self.engine.containers(f"com.docker.swarm.node.id={self.id}")

    async def exist(self, count: int) -> list[Json]:
        """Returns the node's containers once there are so many."""
        until = time.monotonic() + DEADLINE_S
        while len(found := await self.containers()) != count:
            assert time.monotonic() < until, f"{len(found)} containers, not {count}"
            await asyncio.sleep(0.05)
        return found

    async def close(self) -> None:
        await self.executor.close()
        for each in await self.containers():
            await self.engine.remove(each["Id"])
        await self.engine.close()


async def eventually(read: Callable[[], T | None]) -> T:
    until = time.monotonic() + DEADLINE_S
    while (found := read()) is None:
        assert time.monotonic() < until, "not seen in time"
        await asyncio.sleep(0.02)
    return found


@pytest.fixture
async def node(engine_socket: str, busybox_image: str) -> AsyncIterator[Node]:
    made = Node(engine_socket, busybox_image)
    await made.start()
    yield made
    await made.close()


async def test_describes_the_machine_under_the_nodes_own_name(node: Node) -> None:
    found = await node.executor.describe()
    assert found.hostname == "host-1"
    assert found.platform.os == "linux"
    assert found.resources.nano_cpus >= 1_000_000_000
    assert found.resources.memory_bytes > 1 << 28
    assert ("Volume", "local") in {(p.type, p.name) for p in found.engine.plugins}


async def test_runs_stops_and_removes_a_task(node: Node) -> None:
    context = node.context(labels={"mine": "yes"}, env=["ON={{.Node.Hostname}}"])
    running = await node.run(context)
    assert node.states(context) == [PREPARING, READY, STARTING, RUNNING]
    assert running.pid > 0
    inspected = await node.engine.inspect(running.container_id)
    assert inspected is not None
    assert inspected["Name"] == f"/web.1.{context.task.id}"
    assert inspected["Config"]["Labels"]["mine"] == "yes"
    assert "ON=host-1" in inspected["Config"]["Env"]

    node.executor.begin(Action.STOP, context)
    await node.until(context, SHUTDOWN)
    assert [each["State"] for each in await node.containers()] == ["exited"]  # stays for the history
    node.executor.begin(Action.REMOVE, context)
    await node.exist(0)
    assert node.states(context)[-1] == SHUTDOWN


@pytest.mark.parametrize(
    ("code", "state", "error"), [(0, COMPLETE, ""), (3, FAILED, "task: non-zero exit (3)")]
)
async def test_an_exit_is_seen(node: Node, code: int, state: int, error: str) -> None:
    context = node.context(["/bin/sh", "-c", f"sleep 1; exit {code}"])
    await node.run(context)
    ended = await eventually(lambda: next((s for s in node.seen if is_terminal(s.state)), None))
    assert (ended.state, ended.error, ended.exit_code) == (state, error, code)


async def test_an_exit_whose_event_is_lost_is_found(
    engine_socket: str, busybox_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "EVENTS", ["rename"])  # of what happens here, the engine says nothing
    monkeypatch.setattr(watch, "LOOK_AGAIN_S", 1.0, raising=False)
    deaf = Node(engine_socket, busybox_image)
    await deaf.start()
    try:
        context = deaf.context(["/bin/sh", "-c", "sleep 1; exit 3"])
        await deaf.run(context)
        async with asyncio.timeout(20):
            await eventually(lambda: True if FAILED in deaf.states(context) else None)
        assert deaf.seen[-1].error == "task: non-zero exit (3)"
    finally:
        await deaf.close()


async def test_an_exit_before_anybody_looked_is_seen(node: Node) -> None:
    context = node.context(["/bin/true"])
    node.executor.begin(Action.PREPARE, context)
    await node.until(context, READY)
    node.executor.begin(Action.START, context)
    await eventually(lambda: next((s for s in node.seen if s.state == COMPLETE), None))


async def test_a_program_that_is_not_there_fails_in_the_engines_words(node: Node) -> None:
    context = node.context(["/no/such/program"])
    node.executor.begin(Action.PREPARE, context)
    await node.until(context, READY)
    node.executor.begin(Action.START, context)
    failed = await node.until(context, FAILED)
    assert failed.error.startswith("starting container failed: ")
    assert "/no/such/program" in failed.error
    assert failed.exit_code == 127


async def test_a_stop_says_how_the_container_ended(node: Node) -> None:
    for program, code in (("trap 'exit 0' TERM; while true; do sleep 0.1; done", 0), ("exec sleep 100", 137)):
        context = node.context(["/bin/sh", "-c", program], stop_signal="TERM" if not code else "KILL")
        await node.run(context)
        node.executor.begin(Action.STOP, context)
        assert (await node.until(context, SHUTDOWN)).exit_code == code


async def test_what_cannot_be_prepared_is_rejected(node: Node, tmp_path: Path) -> None:
    missing = Mount(type="bind", source=str(tmp_path / "absent"), target="/data")
    cases = [
        (node.context(image="127.0.0.1:1/no/such"), "No such image: 127.0.0.1:1/no/such:latest"),
        (node.context(env=["A={{.Task.Wrong}}"]), "can't evaluate field Wrong"),
        (node.context(mounts=[missing]), "bind source path does not exist"),
    ]
    for context, words in cases:
        node.executor.begin(Action.PREPARE, context)
        assert words in (await node.until(context, REJECTED)).error
    assert await node.containers() == []


async def test_a_local_image_satisfies_a_pinned_digest(node: Node) -> None:
    context = node.context(image=f"{node.image}@sha256:{'0' * 64}")
    node.executor.begin(Action.PREPARE, context)
    await node.until(context, READY)


async def test_a_container_that_exists_already_is_taken(node: Node) -> None:
    context = node.context()
    node.executor.begin(Action.PREPARE, context)
    first = await node.until(context, READY)
    node.seen.clear()
    node.executor.begin(Action.PREPARE, context)  # as after a lost answer
    assert (await node.until(context, READY)).container_id == first.container_id
    assert len(await node.containers()) == 1


async def test_running_waits_for_health(node: Node) -> None:
    check = HealthConfig(test=["CMD-SHELL", "test -e /ready"], interval=SECOND // 5, retries=1000)
    context = node.context(healthcheck=check)
    node.executor.begin(Action.PREPARE, context)
    ready = await node.until(context, READY)
    node.executor.begin(Action.START, context)
    starting = await eventually(lambda: next((s for s in node.seen if s.state == STARTING and s.pid), None))
    assert RUNNING not in node.states(context)
    Path(f"/proc/{starting.pid}/root/ready").touch()
    running = await node.until(context, RUNNING)
    assert (running.container_id, running.pid) == (ready.container_id, starting.pid)


async def test_an_unhealthy_container_is_ended_and_fails(node: Node) -> None:
    check = HealthConfig(test=["CMD-SHELL", "exit 1"], interval=SECOND // 5, retries=2)
    context = node.context(
        ["/bin/sh", "-c", "trap 'exit 9' TERM; while true; do sleep 0.1; done"], healthcheck=check
    )
    node.executor.begin(Action.PREPARE, context)
    await node.until(context, READY)
    node.executor.begin(Action.START, context)
    failed = await node.until(context, FAILED)
    assert failed.error == "task: non-zero exit (9): dockerexec: unhealthy container"
    assert RUNNING not in node.states(context)
    assert [each["State"] for each in await node.containers()] == ["exited"]


async def test_a_container_removed_by_somebody_else_fails_its_task(node: Node) -> None:
    context = node.context()
    running = await node.run(context)
    await node.engine.remove(running.container_id)
    failed = await node.until(context, FAILED)
    assert failed.error.startswith("task: non-zero exit (137)")  # the engine kills it first


async def test_stop_overtakes_prepare_and_start(node: Node) -> None:
    """Whenever the stop comes, nothing runs afterwards: the engine finishes a start nobody waits for."""
    contexts = [node.context() for _ in range(8)]
    for number, context in enumerate(contexts):
        node.executor.begin(Action.PREPARE, context)
        if number % 2:
            await node.until(context, READY)
            node.executor.begin(Action.START, context)
        for _ in range(number * 3):
            await asyncio.sleep(0)  # further into the action, turn by turn of the loop
        node.executor.begin(Action.STOP, context)
    for context in contexts:
        await node.until(context, SHUTDOWN)
    assert not [each for each in await node.containers() if each["State"] == "running"]
    for context in contexts:
        node.executor.begin(Action.REMOVE, context)
    await node.exist(0)


async def test_a_restarted_agent_adopts_what_runs(node: Node) -> None:
    runs, ends, waits, created = (
        node.context(),
        node.context(["/bin/sh", "-c", "exit 4"]),
        node.context(
            healthcheck=HealthConfig(test=["CMD-SHELL", "test -e /ready"], interval=SECOND // 5, retries=1000)
        ),
        node.context(),
    )
    running = await node.run(runs)
    for context in (ends, waits, created):
        node.executor.begin(Action.PREPARE, context)
        await node.until(context, READY)
    node.executor.begin(Action.START, ends)
    await node.until(ends, FAILED)
    node.executor.begin(Action.START, waits)
    starting = await eventually(lambda: next((s for s in node.seen if s.state == STARTING and s.pid), None))

    await node.restart()
    adopted = {each.task_id: each for each in await node.executor.adopt()}
    assert {each.service_id for each in adopted.values()} == {"svc1"}
    states = {key: each.observation.state for key, each in adopted.items()}
    assert states == {
        runs.task.id: RUNNING,
        ends.task.id: FAILED,
        waits.task.id: STARTING,
        created.task.id: READY,
    }
    again = adopted[runs.task.id].observation
    assert (again.container_id, again.pid) == (running.container_id, running.pid)
    assert abs(again.at - running.at) < 5  # since when it runs, not since when we look
    assert adopted[ends.task.id].observation.exit_code == 4

    Path(f"/proc/{starting.pid}/root/ready").touch()
    await node.until(waits, RUNNING)
    await node.engine.stop(running.container_id, 1)  # its exit is followed as before
    await node.until(runs, COMPLETE)


async def test_nodes_on_one_engine_do_not_see_each_other(node: Node) -> None:
    other = Node(node.socket, node.image)
    await other.start()
    try:
        context = node.context()
        await node.run(context)
        assert await other.executor.adopt() == []
        other.executor.remove_unknown(context.task.id)
        await other.executor.close()  # waits for it
        assert [each["State"] for each in await node.containers()] == ["running"]
        assert other.seen == []
    finally:
        await other.close()


async def test_a_leftover_is_stopped_and_deleted_in_silence(node: Node) -> None:
    context = node.context()
    await node.run(context)
    before = len(node.seen)
    node.executor.remove_unknown(context.task.id)
    await node.exist(0)
    assert len(node.seen) == before


async def test_an_engine_that_is_not_there_is_named(tmp_path: Path) -> None:
    executor = DockerExecutor(str(tmp_path / "none.sock"), "host-1", SystemClock())
    with pytest.raises(Unavailable, match=r"none\.sock cannot be reached.*Is it running"):
        await executor.start("n1", lambda seen: None)
    await executor.close()


async def test_a_gap_in_the_engines_answers_fails_nothing(node: Node, tmp_path: Path) -> None:
    """Between agent and engine a door: shut, actions wait and events are lost; open, all is made up for."""
    door = Door(tmp_path / "door.sock", node.socket)
    await door.open()
    through = Node(str(tmp_path / "door.sock"), node.image, node.id)
    await through.start()
    try:
        runs, ends, later = through.context(), through.context(), through.context()
        await through.run(runs)
        running = await through.run(ends)
        await door.shut()
        through.executor.begin(Action.PREPARE, later)
        await node.engine.stop(running.container_id, 1)  # by another way: the agent misses the event
        assert not [s for s in through.seen if is_terminal(s.state)]
        assert through.states(later) == [PREPARING]
        await door.open()
        await through.until(ends, COMPLETE)
        await through.until(later, READY)
        assert through.states(runs)[-1] == RUNNING
    finally:
        await through.executor.close()
        await through.engine.close()
        await door.shut()


class Door:
    """A proxy on a unix socket that can be shut, as an engine that is restarted."""

    def __init__(self, path: Path, engine_socket: str) -> None:
        self._path = path
        self._engine_socket = engine_socket
        self._server: asyncio.Server | None = None
        self._streams: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._pass, self._path)

    async def shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            self._path.unlink(missing_ok=True)
        for stream in list(self._streams):
            stream.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        engine_reader, engine_writer = await asyncio.open_unix_connection(self._engine_socket)
        self._streams |= {writer, engine_writer}
        await asyncio.gather(_copy(reader, engine_writer), _copy(engine_reader, writer))
        self._streams -= {writer, engine_writer}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()
