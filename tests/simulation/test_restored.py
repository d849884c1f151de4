"""All managers are lost with their disks, and the swarm is restored from a backup on a new machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from skep.api.interfaces import ReconnectRequest, RestoreRequest
from skep.daemon.node_state import Running
from skep.sim.checkers import what_is_missing
from skep.sim.cluster import Simulation
from skep.sim.hosts import Host
from skep.sim.loop import VirtualLoop
from skep.sim.options import Options
from skep.sim.picture import Picture, running_on

pytestmark = pytest.mark.usefixtures("quiet")

BUSY_S = 40.0
CONVERGE_S = 200.0


class Disaster(Simulation):
    """Users work, a backup is made, users work on; then only the workers are left."""

    async def run_all(self) -> None:
        with self.machines():
            works = [asyncio.ensure_future(self._world.etcd.run())]
            try:
                for host in self._world.present():
                    await host.start()
                works.append(asyncio.ensure_future(self._work()))
                await asyncio.sleep(BUSY_S)
                content = await self._backup()
                self.at_backup = {s.spec.name for s in Picture(self._world.etcd.state).services.values()}
                await asyncio.sleep(10)
                works[-1].cancel()
                await self._lose_managers()
                spare = await self._restore(content)
                await self._converge_anew(spare)
            finally:
                for work in works:
                    work.cancel()
                for host in self._world.hosts.values():
                    await host.crash_daemon()

    async def _backup(self) -> bytes:
        (host,) = self._world.believers()
        assert host.manager is not None
        return b"".join(await host.do(host.manager.backup()))

    async def _lose_managers(self) -> None:
        for host in [host for host in self._world.present() if host.manager is not None]:
            await host.crash_machine()
            host.has_left = True
        self._world.etcd.lose()
        self._world.seals.lose()
        self.ran = set(running_on(self._world.present()))

    async def _restore(self, content: bytes) -> Host:
        async def pieces() -> AsyncIterator[bytes]:
            for at in range(0, len(content), 10_000):
                yield content[at : at + 10_000]

        spare = self._new_host(self._new_id(), "worker", {})
        await spare.start()
        at = f"{spare.where}:2377"
        request = RestoreRequest(listen_addr=at, advertise_addr=at)
        _, left_out = await spare.order(spare.commands.restore(request, pieces()))
        assert not left_out
        for host in self._world.present():
            if host is not spare:
                await host.order(host.commands.reconnect(ReconnectRequest(remote_addrs=[at])))
        return spare

    async def _converge_anew(self, spare: Host) -> None:
        assert isinstance(spare.state, Running)
        missing, deadline = "", asyncio.get_running_loop().time() + CONVERGE_S
        while asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(2)
            leader = spare.leader
            for node in list(leader.view.nodes.values()) if leader is not None else ():
                if leader is not None and self._world.is_gone(node):
                    await spare.do(leader.nodes.remove(node.id, True))
            if leader is not None:
                await self._workload.repair(spare, leader)
            missing = what_is_missing(Picture(self._world.etcd.state), self._world)
            if not missing:
                return
        raise AssertionError(missing)


@pytest.mark.parametrize("seed", range(7000, 7004))
def test_a_swarm_goes_on_as_its_backup_has_it(seed: int) -> None:
    options = Options(seed=seed, hosts=8, incidents=0, fail_rate=0, crash_rate_per_hour=0)
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        disaster = Disaster(options)
        runner.run(disaster.run_all())
        picture = disaster._look()
        assert {service.spec.name for service in picture.services.values()} == disaster.at_backup
