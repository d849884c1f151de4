"""One simulated run: a cluster, a workload and incidents from one seed; then healing, and what must be."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skep.agent.executor.simulated import SimulatedSettings
from skep.daemon.state import Membership
from skep.manager.dispatcher.overlay_bounds import Bounds
from skep.model.generic import parse_resource
from skep.runtime.clock import LoopClock
from skep.runtime.errors import SkepError
from skep.runtime.ids import id_source
from skep.sim.administrator import Administrator
from skep.sim.certificates import SWARM, first_keys
from skep.sim.checkers import Never, what_is_missing
from skep.sim.faults import (
    MANAGERS_ONLY,
    Incident,
    draw_freezes,
    draw_incidents,
    draw_long_offs,
    draw_moves,
    draw_suspensions,
)
from skep.sim.first_state import swarm_spec, write_first_state
from skep.sim.following import Followers
from skep.sim.history import History
from skep.sim.hosts import Host
from skep.sim.ledger import Ledger
from skep.sim.loop import EPOCH_S, START_S, VirtualLoop
from skep.sim.operators import Operators
from skep.sim.options import EXPIRY_S, Options, Result
from skep.sim.overlays import FEW, Overlays
from skep.sim.picture import Picture
from skep.sim.troubles import Troubles
from skep.sim.updates import UpdateLedger
from skep.sim.violation import Violation
from skep.sim.workload import Workload, demoted
from skep.sim.world import World
from skep.store import codec

CHECK_S = 0.2
CONVERGE_S = 400.0  # after healing: an update, its rollback, and its repair, one slot after the other
DEVICES = tuple(parse_resource(f"device=d{n}") for n in range(64))  # of each node: never short
MOVES = 6
SUSPENSIONS = 4
LONG_OFFS = 3
FREEZES = 4  # engines that freeze, of a dozen
LEAVE_S = (15.0, 45.0)  # between machines that leave or join


def run(options: Options) -> Result:
    """Runs one seed to its end. Errors: `Violation`, `Stuck`."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(Simulation(options).run())


class Simulation:
    """Begin with `run`."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._rng = random.Random(options.seed)
        bounds = FEW if options.large_overlays else Bounds()
        self._world = World(self._child_rng(), self._child_rng(), self._child_rng(), bounds)
        self._history = History()
        self._workload = Workload(
            self._child_rng(), self._history, self._leaves, options.images_missing, options.overlays
        )
        self._troubles = Troubles(self._world)
        self._never = Never(self._world, self._history, self._troubles.troubled)
        self._new_id = id_source(self._child_rng())
        first = [self._new_id() for _ in range(options.hosts)]
        peers = {node_id: _address(n) for n, node_id in enumerate(first[: options.managers])}
        for node_id in first:
            self._new_host(node_id, "manager" if node_id in peers else "worker", peers)
        self._world.etcd.watchers.append(Ledger(self._world.etcd).written)
        self._world.etcd.watchers.append(UpdateLedger(self._world.etcd, self._history).written)
        self._followers = Followers(self._world)
        if options.overlays:
            self._world.watch_overlays(Overlays(self._world, self._troubles.troubled))
        self._trace: list[str] = []
        self._operators = Operators(self._world, self._child_rng(), self._say, self._replace)
        self._administrator = Administrator(self._world, self._workload, self._operators, self._say)
        self._picture = Picture(self._world.etcd.state)

    async def run(self) -> Result:
        with self.machines():
            return await self._run()

    @contextlib.contextmanager
    def machines(self) -> Iterator[None]:
        """The machines are there, with what is on their disks when the run begins."""
        in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        with tempfile.TemporaryDirectory(prefix="skep-sim-", dir=in_memory) as disks:
            self._world.mount(Path(disks))
            self._write_first_state()
            self._world.seals.begin()
            yield

    async def _run(self) -> Result:
        options, world = self._options, self._world
        background = [asyncio.ensure_future(world.etcd.run())]
        for host in world.present():
            await host.start()
        if options.follows:
            background.append(asyncio.ensure_future(self._followers.run()))
        watch = asyncio.ensure_future(self._watch())
        incidents = draw_incidents(self._child_rng(), options.incidents, options.period_s)
        if options.freezes:
            incidents += draw_freezes(self._child_rng(), FREEZES, options.period_s)
        if options.moves:
            incidents += draw_moves(self._child_rng(), MOVES, options.period_s)
        if options.suspends:
            incidents += draw_suspensions(self._child_rng(), SUSPENSIONS, options.period_s)
        if options.expires:  # by a clock that jumps by hours all would have expired at once
            incidents = [each for each in incidents if each.kind != "clock"]
            incidents += draw_long_offs(self._child_rng(), LONG_OFFS, options.period_s, EXPIRY_S)
        works = [asyncio.ensure_future(self._suffer(incident)) for incident in incidents]
        if options.locks:
            until = START_S + options.period_s
            works.append(asyncio.ensure_future(self._operators.rotate_unlock_key(until)))
        background.append(asyncio.ensure_future(self._operators.run()))
        works += [asyncio.ensure_future(self._work()), asyncio.ensure_future(self._come_and_go())]
        if options.seals:
            works.append(asyncio.ensure_future(self._rotate()))
        try:
            await self._until(watch, asyncio.gather(*works))
            background.append(asyncio.ensure_future(self._administrator.tidy()))
            converged_s = await self._converge(watch)
        except Violation as error:
            error.trace = self._trace
            raise
        finally:
            for task in (watch, *works, *background):
                task.cancel()
            await asyncio.gather(watch, *works, *background, return_exceptions=True)
            for host in world.hosts.values():
                await host.crash_daemon()
        return Result(self._trace, self._digest(), converged_s, world.seals.changes)

    async def _until(self, watch: asyncio.Future[None], work: asyncio.Future[list[None]]) -> None:
        """Waits for the work, unless the watch finds a violation first."""
        both: list[asyncio.Future[Any]] = [watch, work]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if watch.done():
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        else:
            await work

    async def _converge(self, watch: asyncio.Future[None]) -> float:
        if watch.done():
            watch.result()
        self._say("everything is healed")
        self._world.network.calm_down()
        began = asyncio.get_running_loop().time()
        missing = ""
        while (now := asyncio.get_running_loop().time()) < began + CONVERGE_S:
            if watch.done():
                watch.result()
            missing = (
                self._administrator.lacks(self._look())
                or self._workload.waits_for()
                or what_is_missing(self._look(), self._world)
                or self._followers.lacks()
                or self._world.seals.lacks()
                or self._operators.lacks()
                or (self._world.overlays.lacks(self._look()) if self._world.overlays is not None else "")
            )
            if not missing:
                self._say("as wanted")
                return now - began
            await asyncio.sleep(0.5)
        raise Violation(f"not within {CONVERGE_S:.0f} s after healing: {missing}")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            self._troubles.look()
            self._never.check(self._look(), asyncio.get_running_loop().time())
            self._followers.check()
            self._world.seals.check()
            if self._world.overlays is not None:
                self._world.overlays.check()

    def _look(self) -> Picture:
        state = self._world.etcd.state
        if self._picture.revision != state.changed_at:
            self._picture = Picture(state)
        return self._picture

    # Everyday

    async def _work(self) -> None:
        rng = self._child_rng()
        for _ in range(self._options.steps):
            await asyncio.sleep(rng.expovariate(self._options.steps / self._options.period_s))
            believers = self._world.believers()
            if not believers:
                self._say("user: no leader")
                continue
            host = rng.choice(believers)
            assert host.leader is not None
            try:
                self._say(f"user at {host.name}: " + await self._workload.step(host, host.leader))
            except SkepError as error:
                self._say(f"user at {host.name}: refused: {error}")

    async def _rotate(self) -> None:
        await self._administrator.rotate_data_key(self._child_rng(), START_S + self._options.period_s)

    async def _come_and_go(self) -> None:
        """A machine leaves now and then, more often a manager; as many new ones join."""
        rng = self._child_rng()
        until = START_S + self._options.period_s
        while True:
            await asyncio.sleep(rng.uniform(*LEAVE_S))
            if asyncio.get_running_loop().time() > until:
                return
            world = self._world
            if len(world.present()) < self._options.hosts:
                await self._join(rng.choice(("manager", "worker")))
                continue
            host = rng.choice(world.managers() if rng.random() < 0.6 else world.present())
            if host.is_up and not host.place.frozen and world.can_do_without(host):
                await self._leave(host)

    async def _leave(self, host: Host) -> None:
        self._say(f"{host.name} leaves")
        node = self._look().nodes.get(host.node_id)
        if node is not None and host.manager is not None:
            self._history.may_change(f"node {host.node_id}", demoted)
        self._troubles.left(host)
        await host.do(host.leave())
        if host.has_left:
            self._say(f"{host.name} has left")
        else:
            self._troubles.stays(host)
            self._say(f"{host.name} stays: the other managers would have no quorum")

    async def _replace(self, host: Host) -> None:
        """It leaves, and joins as another node."""
        if self._world.can_do_without(host):
            await self._leave(host)
            await self._join("worker")

    async def _join(self, role: str) -> None:
        believers, node_id = self._world.believers(), self._new_id()
        host = believers[0] if believers else None
        name = f"h{len(self._world.hosts)}"
        try:
            if host is not None and host.leader is not None:
                await self._workload.add_node(host, host.leader, node_id, name, role)
                joining = self._new_host(node_id, "worker", {})
                # By its own clock: of a leader's that is ahead by more than an hour it could not use it yet.
                issued_s, expiry_s = joining.clock.now(), swarm_spec(self._options).node_cert_expiry_s
                joining.write_first(first_keys(node_id, "worker", issued_s, expiry_s))
                await joining.start()
                self._say(f"{name} joins to be a {role}")
        except SkepError as error:
            self._say(f"{name} cannot join: {error}")

    def _leaves(self, node_id: str) -> bool:
        host = self._world.hosts.get(node_id)
        return host is None or host.is_leaving

    # Incidents

    async def _suffer(self, incident: Incident) -> None:
        await asyncio.sleep(incident.at_s)
        world = self._world
        hosts = world.present()
        if incident.aim == "leader" or incident.kind == "deposed":
            hosts = [host for host in world.believers() if not host.has_left] or hosts
        elif incident.aim == "manager" or incident.kind in MANAGERS_ONLY:
            hosts = world.managers() or hosts
        host = hosts[incident.target % len(hosts)]
        self._say(f"{incident.kind} {host.name} for {incident.for_s:.1f} s")
        await self._troubles.suffer(incident, host)

    # Small things

    def _child_rng(self) -> random.Random:
        """A generator for each part, so that one part's draws do not shift another's."""
        return random.Random(self._rng.getrandbits(64))

    def _new_host(self, node_id: str, role: str, peers: dict[str, str]) -> Host:
        number = len(self._world.hosts)
        known = list(peers.values()) or [host.address for host in self._world.managers()]
        membership = Membership(
            node_id=node_id,
            cluster_id=SWARM,
            role=role,
            managers=known,
            listen=_address(number),
            advertise=_address(number),
            peers=peers if role == "manager" else {},
        )
        settings = SimulatedSettings(
            prepare_s=self._rng.uniform(0, 2),
            start_s=self._rng.uniform(0, 1),
            stop_s=self._rng.uniform(0, 3),
            fail_rate=self._options.fail_rate,
            crash_rate_per_hour=self._options.crash_rate_per_hour,
            generic=DEVICES,
            can_freeze=self._options.freezes,
        )
        clock = LoopClock(EPOCH_S)
        host = Host(f"h{number}", membership, self._world, settings, clock, self._child_rng())
        self._world.hosts[node_id] = host
        return host

    def _write_first_state(self) -> None:
        write_first_state(self._world, self._history, self._options)
        self._operators.learn()

    def _say(self, what: str) -> None:
        self._trace.append(f"{asyncio.get_running_loop().time() - START_S:8.2f}  {what}")

    def _digest(self) -> str:
        found = hashlib.sha256("\n".join(self._trace).encode())
        for pair in self._world.etcd.state.prefix(codec.PREFIX):
            if pair.key != codec.CLUSTER_KEY:  # the root is another in each process
                found.update(pair.key.encode() + pair.value)
        return found.hexdigest()[:16]


def _address(number: int) -> str:
    return f"10.0.{number // 250}.{number % 250 + 1}:2377"
