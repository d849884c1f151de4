"""What a simulated engine says that its tasks use: the same at all times, and the host's is their sum."""

from __future__ import annotations

import asyncio
import random

import pytest

from skep.agent.executor.interfaces import Action, Observation, RunningTask, TaskContext
from skep.agent.executor.simulated import (
    IDLE_BYTES,
    IDLE_CORES,
    SimulatedExecutor,
    SimulatedSettings,
    simulated_usage,
)
from skep.agent.measuring import cores
from skep.model.spec import TaskSpec
from skep.model.states import RUNNING
from skep.rpc.messages import AssignedTask, ServiceTemplate
from skep.runtime.clock import LoopClock
from skep.runtime.errors import Unavailable


def context(task_id: str) -> TaskContext:
    task = AssignedTask(task_id, "s", 1, 1, RUNNING)
    return TaskContext(task, ServiceTemplate("s", 1, "web", {}, TaskSpec()), "n", "host")


async def test_tasks_use_what_their_ids_say_and_the_host_all_of_it() -> None:
    executor = SimulatedExecutor("host", SimulatedSettings(), random.Random(1), LoopClock(0))
    seen: list[Observation] = []
    await executor.start("n", seen.append)
    ids = ["a", "b", "c"]
    for task_id in ids:
        executor.begin(Action.PREPARE, context(task_id))
        executor.begin(Action.START, context(task_id))
    tasks = [RunningTask(task_id, f"sim-{task_id}", 1) for task_id in ids]
    before = await executor.read_usage(tasks)
    await asyncio.sleep(10.0)
    now = await executor.read_usage([*tasks, RunningTask("nobody's", "", 0)])
    assert list(now.tasks) == ids
    for task_id in ids:
        used, memory = simulated_usage(task_id)
        assert cores(before.tasks[task_id], now.tasks[task_id]) == pytest.approx(used, abs=1e-3)
        assert now.tasks[task_id].memory_bytes == memory
    used = sum(simulated_usage(task_id)[0] for task_id in ids) + IDLE_CORES
    assert cores(before.host, now.host) == pytest.approx(used, abs=1e-3)
    assert now.host.memory_bytes == IDLE_BYTES + sum(simulated_usage(task_id)[1] for task_id in ids)
    executor.remove_unknown("a")
    after = await executor.read_usage(tasks)
    assert list(after.tasks) == ["b", "c"]
    assert after.host.cpu_s >= now.host.cpu_s  # what it has used stays used
    executor.freeze()
    with pytest.raises(Unavailable):
        await executor.read_usage(tasks)
