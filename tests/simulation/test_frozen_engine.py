"""Engines that stand still, in a whole simulated cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from skep.agent.pulse import SILENT_BEATS
from skep.api.objects import TaskWriter
from skep.manager.leader import Leader
from skep.model.container import ContainerSpec
from skep.model.node import DOWN, ENGINE_SILENT, READY, UNKNOWN
from skep.model.spec import ReplicatedMode, ServiceMode, ServiceSpec, TaskSpec
from skep.sim.cluster import Simulation, run
from skep.sim.hosts import Host
from skep.sim.loop import VirtualLoop
from skep.sim.options import Options

pytestmark = pytest.mark.usefixtures("quiet")

SILENT_S = (SILENT_BEATS + 2) * 5.0  # a ping under way, and one more
REPLICAS = 8


class Calm(Simulation):
    """A cluster of four machines that nothing happens to, with one service of eight replicas."""

    def __init__(self, managers: int) -> None:
        super().__init__(Options(seed=1, hosts=4, managers=managers, freezes=True, crash_rate_per_hour=0.0))
        self.hosts = self._world.present()

    def leader(self) -> Leader:
        found = self._world.leader()
        assert found is not None
        return found

    def leading(self) -> Host:
        return next(host for host in self.hosts if host.leader is self._world.leader())

    async def play(self, scenario: Callable[[Calm], Awaitable[None]]) -> None:
        with self.machines():
            await self._play(scenario)

    async def _play(self, scenario: Callable[[Calm], Awaitable[None]]) -> None:
        etcd = asyncio.ensure_future(self._world.etcd.run())
        try:
            for host in self.hosts:
                await host.start()
            await asyncio.sleep(15)
            spec = ServiceSpec(
                name="web",
                mode=ServiceMode(replicated=ReplicatedMode(replicas=REPLICAS)),
                task_template=TaskSpec(container_spec=ContainerSpec(image="web:1")),
            )
            host = self.leading()
            await host.do(self.leader().services.create(spec, None))
            await asyncio.sleep(15)
            assert sum(len(each.executor.running) for each in self.hosts) == REPLICAS
            await scenario(self)
        finally:
            etcd.cancel()
            for host in self.hosts:
                await host.crash_daemon()


def play(scenario: Callable[[Calm], Awaitable[None]], managers: int = 1) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(Calm(managers).play(scenario))


def running(hosts: list[Host]) -> set[str]:
    return {task_id for host in hosts for task_id in host.executor.running}


@pytest.mark.parametrize("number", [0, 3], ids=["leader", "worker"])
def test_its_tasks_run_elsewhere_and_it_comes_back(number: int) -> None:
    async def scenario(swarm: Calm) -> None:
        host, leader = swarm.hosts[number], swarm.leader()
        others = [each for each in swarm.hosts if each is not host]
        left, before = set(host.executor.running), running(others)
        assert left
        host.executor.freeze()
        await asyncio.sleep((SILENT_BEATS - 1) * 5.0)
        assert leader.view.node_state(host.node_id).state == READY
        await asyncio.sleep(SILENT_S - (SILENT_BEATS - 1) * 5.0 + 5)
        state = leader.view.node_state(host.node_id)
        assert (state.state, state.message) == (DOWN, ENGINE_SILENT)
        assert len(running(others)) == REPLICAS
        assert running(others) > before
        write = TaskWriter(leader.view).json
        assert {write(leader.view.tasks[task_id]).status.err for task_id in left} == {ENGINE_SILENT}
        await asyncio.sleep(300)
        elsewhere = running(others)
        host.executor.thaw()
        await asyncio.sleep(10)
        assert swarm.leader() is leader, "its manager manages on"
        assert leader.view.node_state(host.node_id).state == READY
        assert (running([host]), running(others)) == (set(), elsewhere)

    play(scenario)


def test_where_there_is_no_elsewhere_all_runs_on() -> None:
    """The only node, or the only one that takes tasks: they would stop for nothing, and start anew after."""

    async def scenario(swarm: Calm) -> None:
        host, leader = swarm.hosts[0], swarm.leader()
        for other in swarm.hosts[1:]:
            node = leader.view.nodes[other.node_id]
            drained = replace(node.spec, availability="drain")
            await swarm.leading().do(leader.nodes.update(node.id, node.version, drained))
        await asyncio.sleep(30)
        before = running(swarm.hosts)
        assert (set(host.executor.running), len(before)) == (before, REPLICAS)
        host.executor.freeze()
        await asyncio.sleep(300)
        state = leader.view.node_state(host.node_id)
        assert (state.state, state.message) == (UNKNOWN, ENGINE_SILENT)
        host.executor.thaw()
        await asyncio.sleep(60)
        assert leader.view.node_state(host.node_id).state == READY
        assert running(swarm.hosts) == before
        host.executor.freeze()
        await asyncio.sleep(SILENT_S)
        node = leader.view.nodes[swarm.hosts[1].node_id]
        back = replace(node.spec, availability="active")
        await swarm.leading().do(leader.nodes.update(node.id, node.version, back))
        await asyncio.sleep(20)
        assert leader.view.node_state(host.node_id).state == DOWN
        assert len(running(swarm.hosts[1:])) == REPLICAS, "there is an elsewhere now"
        host.executor.thaw()

    play(scenario)


def test_engines_that_freeze_together_cost_nothing() -> None:
    """As when all wait for one disk, or an operator restarts them all: nobody can do another's work."""

    async def scenario(swarm: Calm) -> None:
        before = running(swarm.hosts)
        for host in swarm.hosts:
            host.executor.freeze()
            await asyncio.sleep(2)
        await asyncio.sleep(300)
        states = swarm.leader().view.node_status.values()
        assert {(state.state, state.message) for state in states} == {(UNKNOWN, ENGINE_SILENT)}
        for host in swarm.hosts:
            host.executor.thaw()
        await asyncio.sleep(60)
        assert running(swarm.hosts) == before

    play(scenario)


def test_a_moment_costs_nothing() -> None:
    async def scenario(swarm: Calm) -> None:
        before = running(swarm.hosts)
        for host in swarm.hosts:
            host.executor.freeze()
        await asyncio.sleep(20)
        for host in swarm.hosts:
            host.executor.thaw()
        await asyncio.sleep(60)
        assert running(swarm.hosts) == before
        assert {state.state for state in swarm.leader().view.node_status.values()} == {READY}

    play(scenario)


def test_the_next_leader_knows_at_once() -> None:
    """The node comes to it although its engine cannot be asked what it is."""

    async def scenario(swarm: Calm) -> None:
        host, first = swarm.hosts[3], swarm.leading()
        host.executor.freeze()
        await asyncio.sleep(SILENT_S)
        await first.crash_daemon()
        await asyncio.sleep(30)
        assert swarm.leading() is not first
        state = swarm.leader().view.node_state(host.node_id)
        assert (state.state, state.message) == (DOWN, ENGINE_SILENT)
        host.executor.thaw()
        await asyncio.sleep(10)
        assert swarm.leader().view.node_state(host.node_id).state == READY

    play(scenario, managers=3)


def test_a_daemon_that_starts_while_its_engine_stands_still_comes_to_its_leader() -> None:
    """For a moment it costs nothing, for longer it is said what is wrong; nothing is begun twice."""

    async def scenario(swarm: Calm) -> None:
        host, leader = swarm.hosts[3], swarm.leader()
        before, started = running(swarm.hosts), host.executor.started
        assert host.executor.running
        host.executor.freeze()
        await host.crash_daemon()
        await host.start()
        await asyncio.sleep(25)
        assert leader.view.node_state(host.node_id).state == READY
        assert running(swarm.hosts) == before
        host.executor.thaw()
        await asyncio.sleep(20)
        assert leader.view.node_state(host.node_id).state == READY
        assert (running(swarm.hosts), host.executor.started) == (before, started)
        host.executor.freeze()
        await host.crash_daemon()
        await host.start()
        await asyncio.sleep(SILENT_S + 10)
        state = leader.view.node_state(host.node_id)
        assert (state.state, state.message) == (DOWN, ENGINE_SILENT)
        others = [each for each in swarm.hosts if each is not host]
        assert len(running(others)) == REPLICAS
        elsewhere = running(others)
        host.executor.thaw()
        await asyncio.sleep(15)
        assert leader.view.node_state(host.node_id).state == READY
        assert (running([host]), running(others)) == (set(), elsewhere)

    play(scenario)


@pytest.mark.parametrize("first", range(6000, 6040, 20))
def test_what_must_hold_holds_where_engines_freeze(first: int) -> None:
    """6019: a leader that came while a service was rolled back took a slot for done in which the version that was
    taken back had failed, and what an update before had left beside the right task stayed there."""
    for seed in range(first, first + 20):
        run(Options(seed=seed, freezes=True))
