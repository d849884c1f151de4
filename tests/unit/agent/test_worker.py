"""What becomes of a node's tasks, with an executor that only writes down what it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Collection
from typing import cast

from skep.agent.executor.interfaces import Action, Adopted, Observation, Report, TaskContext
from skep.agent.worker import Worker, _Record
from skep.manager.dispatcher.assignments import frames
from skep.model.container import ContainerSpec
from skep.model.logs import LogOptions
from skep.model.node import NodeDescription
from skep.model.spec import TaskSpec
from skep.model.states import COMPLETE, RUNNING
from skep.model.task import TaskAddress, TaskStatus
from skep.rpc.messages import Assign, AssignedTask, ServiceTemplate, decode_from_manager
from skep.runtime.clock import LoopClock
from skep.sim.loop import EPOCH_S


class Hands:
    """Fulfils `Executor`; `adopted` is what it finds at the start."""

    single = None
    looks_again_s = None

    def __init__(self, *adopted: Adopted) -> None:
        self.adopted = list(adopted)
        self.begun: list[tuple[Action, TaskContext]] = []
        self.removed: list[str] = []

    async def start(self, node_id: str, report: Report) -> None: ...

    async def describe(self) -> NodeDescription:
        return NodeDescription(hostname="host")

    async def adopt(self) -> list[Adopted]:
        return self.adopted

    def begin(self, action: Action, context: TaskContext) -> None:
        self.begun.append((action, context))

    def remove_unknown(self, task_id: str) -> None:
        self.removed.append(task_id)

    async def logs(self, task_id: str, since: str, options: LogOptions, limit: int) -> AsyncIterator[bytes]:
        yield b""

    async def close(self) -> None: ...


async def started(hands: Hands) -> tuple[Worker, dict[str, TaskStatus]]:
    reported: dict[str, TaskStatus] = {}
    worker = Worker("n", "host", hands, LoopClock(EPOCH_S), reported.__setitem__)
    await worker.start()
    return worker, reported


def found(task_id: str, state: int) -> Adopted:
    return Adopted(task_id, "s", Observation(task_id, state, 1.0, container_id=f"c-{task_id}"))


async def test_what_had_ended_before_the_agent_began_goes_when_the_manager_drops_it() -> None:
    """Its container stayed on the node for ever."""
    hands = Hands(found("kept", COMPLETE), found("dropped", COMPLETE))
    worker, reported = await started(hands)
    worker.assign(Assign(complete=True, kept=["kept", "dropped"]))
    assert hands.removed == []
    for _ in range(2):
        worker.assign(Assign(dropped=["dropped", "unheard of"]))
        assert hands.removed == ["dropped"]
    worker.assign(Assign(complete=True, kept=["kept", "dropped"]))
    assert (hands.removed, reported) == (["dropped"], {})


class Faulty:
    """Networks of which nobody can say anything."""

    async def _fails(self) -> None:
        raise MemoryError

    def arriving(self, service_id: str, addresses: Collection[TaskAddress]) -> Awaitable[None]:
        return self._fails()

    def leaving(self, service_id: str, addresses: Collection[TaskAddress]) -> Awaitable[None]:
        return self._fails()


async def test_what_it_waits_for_may_fail_and_it_is_begun_all_the_same() -> None:
    hands = Hands()
    worker = Worker("n", "host", hands, LoopClock(EPOCH_S), lambda task_id, status: None, Faulty())
    record = _Record("t", "s", TaskStatus(RUNNING, 1.0))
    record.addresses = (TaskAddress("net", "10.1.0.7/24", "10.1.0.2/24"),)
    worker._records["t"] = record
    waits = worker._awaited(Action.STOP, record)
    assert waits is not None
    record.under_way = Action.STOP
    await worker._begin_late(waits, Action.STOP, record, cast("TaskContext", None))
    assert [action for action, _ in hands.begun] == [Action.STOP]


async def test_what_ran_and_is_no_longer_wanted_goes() -> None:
    hands = Hands(found("ended", COMPLETE), found("runs", RUNNING))
    worker, _ = await started(hands)
    worker.assign(Assign(complete=True, kept=["runs"]))
    assert sorted(hands.removed) == ["ended", "runs"]


async def test_templates_that_came_ahead_are_there_for_all_tasks() -> None:
    """Of a complete set that one frame cannot have."""
    large = TaskSpec(container_spec=ContainerSpec(image="x", env=["A=" + "x" * 6_500_000]))
    templates = [ServiceTemplate(f"s{n}", 1, f"name{n}", {}, large) for n in range(3)]
    tasks = [AssignedTask(f"t{n}.{slot}", f"s{n}", 1, slot, RUNNING) for n in range(3) for slot in (1, 2)]
    hands = Hands(found("t0.2", RUNNING), found("left", RUNNING), found("kept", COMPLETE))
    worker, reported = await started(hands)
    for _ in range(2):  # a session that is lost, and the next one
        sent = frames(Assign(complete=True, templates=templates, tasks=tasks, kept=["kept"]))
        assert len(sent) > 1
        for frame in sent:
            message = decode_from_manager(frame)
            assert isinstance(message, Assign)
            worker.assign(message)
        begun = [(action, context.task.id, context.template.service_id) for action, context in hands.begun]
        assert sorted(begun) == [
            (Action.PREPARE, task.id, task.service_id) for task in tasks if task.id != "t0.2"
        ]
        assert hands.removed == ["left"]
        assert set(reported) == {task.id for task in tasks}


async def test_what_it_is_told_before_it_knows_what_runs_waits() -> None:
    """A task that runs here would be begun once more, or be told of as if it were new."""
    hands, reported = Hands(found("runs", RUNNING)), dict[str, TaskStatus]()
    worker = Worker("n", "host", hands, LoopClock(EPOCH_S), reported.__setitem__)
    runs = AssignedTask("runs", "s", 1, 1, RUNNING)
    worker.assign(Assign(complete=True, tasks=[runs, AssignedTask("of before", "s", 1, 2, RUNNING)]))
    worker.session_began()
    worker.assign(Assign(complete=True, tasks=[runs]))
    assert (worker.everything(), reported) == ([], {})
    await worker.start()
    assert {task_id: status.state for task_id, status in reported.items()} == {"runs": RUNNING}
    assert (hands.begun, hands.removed) == ([], [])
