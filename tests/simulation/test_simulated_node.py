"""The simulated executor by itself, under virtual time."""

from __future__ import annotations

import asyncio
import random

from skep.agent.executor.interfaces import Action, Observation, TaskContext
from skep.agent.executor.simulated import SimulatedExecutor, SimulatedSettings
from skep.model.container import ContainerSpec
from skep.model.spec import TaskSpec
from skep.model.states import COMPLETE, RUNNING
from skep.rpc.messages import AssignedTask, ServiceTemplate
from skep.runtime.clock import LoopClock
from skep.sim.loop import VirtualLoop


def context_of(container: ContainerSpec) -> TaskContext:
    template = ServiceTemplate("s", 1, "web", {}, TaskSpec(container_spec=container))
    return TaskContext(AssignedTask("t", "s", 1, 1, RUNNING), template, "n", "h")


def test_a_command_ends_although_its_agent_was_restarted() -> None:
    """Found by the simulation's seed 20122: a job's task ran for ever."""

    async def scenario() -> None:
        executor = SimulatedExecutor("h", SimulatedSettings(), random.Random(1), LoopClock(0))
        seen: list[Observation] = []
        await executor.start("n", seen.append)
        executor.begin(Action.START, context_of(ContainerSpec(image="i", args=["sleep", "3"])))
        assert seen[-1].state == RUNNING
        await executor.close()
        await asyncio.sleep(10)
        assert (await executor.adopt())[0].observation.state == COMPLETE
        assert seen[-1].state == RUNNING  # nobody heard of it

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())
