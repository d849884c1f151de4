"""Carries incidents out, and heals them when their time is over."""

from __future__ import annotations

import asyncio
import math
import random

from skep.sim.etcd import BROKEN, HUNG, SLOW
from skep.sim.faults import ENGINE_FROZEN, LONG_OFF, MOVED, SUSPENDED, Incident
from skep.sim.hosts import Host
from skep.sim.net import Cut
from skep.sim.world import World

CLOCK_JUMP_MAX_S = 7200.0
DISKS = {"disk-slow": SLOW, "disk-hung": HUNG}
UNNOTICED_S = 20.0  # until both ends know that a connection is lost: three heartbeats and one more


class Troubles:
    """`troubled` says for each host (by name) when its last incident ended; infinity: not yet."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._hurt: dict[str, int] = {}  # host -> incidents in force that keep it down
        self._in_force: dict[str, int] = {}  # host -> all incidents in force
        self.troubled: dict[str, float] = {}

    async def suffer(self, incident: Incident, host: Host) -> None:
        """Lasts as long as the incident."""
        kind, for_s = incident.kind, incident.for_s
        if kind in ("daemon", "machine", "disk-lost", LONG_OFF, MOVED):
            await self._down(kind, host, for_s)
        elif kind in ("cable", "deaf", "mute", "partition", "one-way"):
            await self._cut(incident, host)
        elif kind in ("pause", SUSPENDED):
            self.begin(host)
            host.place.freeze()
            await asyncio.sleep(for_s)
            host.place.thaw()
            self.end(host)
        elif kind == ENGINE_FROZEN:
            await self._freeze(host, for_s)
        elif kind in ("reset", "half-open"):
            await self._lose_connections(kind, host, for_s)
        elif kind == "clock":
            offset_s = incident.size * CLOCK_JUMP_MAX_S
            host.clock.jump(offset_s)
            await asyncio.sleep(for_s)
            host.clock.jump(-offset_s)
        else:
            await self._store(kind, host, for_s)

    async def _freeze(self, host: Host, for_s: float) -> None:
        self.begin(host)
        engine = host.executor
        engine.freeze()
        await asyncio.sleep(for_s)
        if host.executor is engine:  # the machine may have lost its power meanwhile
            engine.thaw()
        self.end(host)

    async def _store(self, kind: str, host: Host, for_s: float) -> None:
        if kind == "deposed":
            self._world.depose()
        elif kind == "etcd":
            host.peer.stop()
            with host.peer.suffer(BROKEN):  # it is started again
                await asyncio.sleep(for_s / 10)
        elif kind in DISKS:
            with host.peer.suffer(DISKS[kind]):
                await asyncio.sleep(for_s)
        else:
            with self._world.faults.flaking():
                await asyncio.sleep(for_s)

    async def _down(self, kind: str, host: Host, for_s: float) -> None:
        self.begin(host)
        self._hurt[host.name] = self._hurt.get(host.name, 0) + 1
        await (host.crash_daemon() if kind == "daemon" else host.crash_machine())
        if kind == "disk-lost" and self._world.can_do_without(host):
            host.peer.clear()
        if kind == MOVED:
            host.move()
        await asyncio.sleep(for_s)
        self._hurt[host.name] -= 1
        if self._hurt[host.name] == 0 and not host.is_up and not host.has_left:
            await host.start()
        self.end(host)

    async def _lose_connections(self, kind: str, host: Host, for_s: float) -> None:
        """Those of a leader are its nodes' too."""
        hosts = self._world.present() if host.manager is not None else [host]
        for each in hosts:
            self.begin(each)
        lose = self._world.network.reset if kind == "reset" else self._world.network.forget_connections
        lose(host.ip)
        await asyncio.sleep(for_s if kind == "reset" else max(for_s, UNNOTICED_S))
        for each in hosts:
            self.end(each)

    async def _cut(self, incident: Incident, host: Host) -> None:
        one, other = self._sides(incident, host)
        both = incident.kind in ("cable", "partition")
        cuts = [Cut(one, other)] if incident.kind != "deaf" else [Cut(other, one)]
        cuts = [Cut(one, other), Cut(other, one)] if both else cuts
        alone = self._world.etcd.voters() == [host.peer]  # and leads, away from all nodes
        hosts = [host] if other is None and not alone else self._world.present()
        for each in hosts:
            self.begin(each)
        self._world.network.cut(*cuts)
        await asyncio.sleep(incident.for_s)
        self._world.network.heal(*cuts)
        for each in hosts:
            self.end(each)

    def _sides(self, incident: Incident, host: Host) -> tuple[frozenset[str], frozenset[str] | None]:
        """The host and all others; or two groups, in which managers are more often on either side."""
        if incident.kind not in ("partition", "one-way"):
            return frozenset([host.ip]), None
        rng, present = random.Random(incident.seed), self._world.present()
        one = frozenset(h.ip for h in present if h is host or rng.random() < 0.4)
        return one, frozenset(h.ip for h in present) - one

    def begin(self, host: Host) -> None:
        self._in_force[host.name] = self._in_force.get(host.name, 0) + 1
        self.troubled[host.name] = math.inf

    def end(self, host: Host) -> None:
        self._in_force[host.name] -= 1
        if not self._in_force[host.name]:
            self.troubled[host.name] = asyncio.get_running_loop().time()

    def look(self) -> None:
        """Who has no session may have trouble that began elsewhere, and be taken for down however well it is:
        all managers that it knew were demoted before it noticed that its connection to one was lost; or the
        machine at which it waits for a leader is gone without a word."""
        addresses, now = self._world.manager_addresses(), asyncio.get_running_loop().time()
        for host in self._world.present():
            is_alone = host.is_up and not host.has_session
            if is_alone and (host.is_lost(addresses) or self._world.network.has_lost(host.ip)):
                self.troubled[host.name] = max(now, self.troubled.get(host.name, now))

    def left(self, host: Host) -> None:
        """It is gone for good."""
        self.troubled[host.name] = math.inf
        self._in_force[host.name] = self._in_force.get(host.name, 0) + 1

    def stays(self, host: Host) -> None:
        """It was to leave, and could not."""
        self.end(host)
