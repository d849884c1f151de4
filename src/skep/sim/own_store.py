"""A simulated manager's copy of the store: the model of etcd, below the product's sealing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from skep.runtime.errors import Unavailable
from skep.runtime.metrics import Metric
from skep.sim.etcd_line import EtcdLine
from skep.sim.sealing import Below
from skep.store.interfaces import ClusterStore, KeyValue, Store, Txn

if TYPE_CHECKING:
    from skep.sim.hosts import Host
    from skep.sim.world import World

RESTART_S = 1.0  # before an etcd that ended is started again


class SimCopy:
    """A manager's copy of the store, in the model of etcd; fulfils `platform.StoreCopy`."""

    quota_bytes = 1 << 40
    metrics: tuple[Metric, ...] = ()

    def __init__(self, host: Host, world: World) -> None:
        self._host = host
        self._world = world
        self._line: EtcdLine | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._trouble = ""

    @property
    def has_data(self) -> bool:
        return bool(self._host.peer.member_id)

    @property
    def pid(self) -> int:
        return int(self._host.peer.running)

    def trouble(self) -> str:
        return "" if self._host.peer.running else self._trouble

    async def start(self, peers: Sequence[str], force_new_cluster: bool = False) -> ClusterStore:
        self._line = EtcdLine(self._world.etcd, self._host.peer, self._world.faults)
        self._host.lines.append(self._line)
        try:
            self._begin(force_new_cluster)
        except Unavailable:
            if not peers:
                raise
        self._keeping = asyncio.ensure_future(self._keep())
        return SimStore(self._line, Below(self._line, self._world.seals))

    async def maintain(self, say: Callable[[str], None]) -> None:
        await asyncio.Event().wait()  # it never fills

    async def commit_cured(self, store: Store, txn: Txn) -> None:
        await store.commit(txn)

    async def stop(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            self._host.peer.stop()

    def _begin(self, alone: bool = False) -> None:
        try:
            self._world.etcd.begin(self._host.peer, alone)
        except Unavailable as error:
            self._trouble = str(error)
            raise

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RESTART_S)
            if not self._host.peer.running:
                try:
                    self._begin()
                except Unavailable:
                    continue


class SimStore:
    """A manager's store: values are sealed below; fulfils `store.interfaces.ClusterStore`."""

    def __init__(self, line: EtcdLine, below: Below) -> None:
        self.cluster = line
        self._below = below

    async def load(self, prefix: str) -> tuple[list[KeyValue], int]:
        return await self._below.load(prefix)

    async def commit(self, txn: Txn) -> int:
        return await self._below.commit(txn)

    async def close(self) -> None:
        await self._below.close()
