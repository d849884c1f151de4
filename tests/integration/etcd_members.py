"""Several members of one etcd, on one machine, without skepd."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from skep.model.bounds import ETCD_QUOTA_BYTES
from skep.runtime.errors import SkepError
from skep.store.etcd.client import EtcdStore
from skep.store.etcd.members import peer_socket
from skep.store.etcd.supervisor import EtcdProcess


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():
            await asyncio.sleep(0.1)


@asynccontextmanager
async def members_of(
    tmp_path: Path, names: list[str], quota_bytes: int = ETCD_QUOTA_BYTES
) -> AsyncIterator[dict[str, EtcdStore]]:
    """Members of one etcd, each with a store; they reach each other's sockets by links. Where there is data
    already, they are started with it."""
    etcds = {name: EtcdProcess(tmp_path / name, node_id=name, quota_bytes=quota_bytes) for name in names}
    stores = {name: EtcdStore(etcd.target) for name, etcd in etcds.items()}
    is_new = not etcds[names[0]].has_data
    for name, etcd in etcds.items():
        etcd.prepare()
        for other in names if is_new else ():
            if other != name:
                (etcd.run_dir / peer_socket(other)).symlink_to(etcds[other].run_dir / peer_socket(other))
    try:
        for n, name in enumerate(names):
            if is_new and n:
                await until(partial(added, stores[names[0]], name))
            await etcds[name].start(names[:n] if is_new else [each for each in names if each != name])
            if is_new and n:
                await until(partial(promoted, stores[names[0]], name))
        yield stores
    finally:
        for store in stores.values():
            await store.close()
        for etcd in etcds.values():
            await etcd.stop()


async def added(store: EtcdStore, name: str) -> bool:
    """etcd takes another one only some seconds after it was joined by the last."""
    with contextlib.suppress(SkepError):
        await store.cluster.add_learner(name)
        return True
    return False


async def promoted(store: EtcdStore, name: str) -> bool:
    with contextlib.suppress(SkepError):
        member = next(m for m in await store.cluster.members() if m.node_id == name)
        await store.cluster.promote(member)
        return True
    return False
