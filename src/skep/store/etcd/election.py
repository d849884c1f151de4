"""Leadership: a key under a lease that its holder keeps alive. A short stop of etcd does not end it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc
import structlog
from aetcd.rpc import rpc_pb2

from skep.store.port import Fence

log = structlog.get_logger()

RETRY_S = 0.2  # after a failed refresh; the lease gives the deadline


class EtcdLeadership:
    """Held until `wait_lost` returns."""

    def __init__(self, lease_stub: Any, lease_id: int, ttl_s: float, fence: Fence) -> None:
        self.fence = fence
        self._stub = lease_stub
        self._lease_id = lease_id
        self._ttl_s = float(ttl_s)
        self._lost = asyncio.Event()
        self._keeper = asyncio.ensure_future(self._keep())

    async def wait_lost(self) -> None:
        await self._lost.wait()

    async def resign(self) -> None:
        self._keeper.cancel()
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self._stub.LeaseRevoke(rpc_pb2.LeaseRevokeRequest(ID=self._lease_id), timeout=1)
        self._lost.set()

    async def _keep(self) -> None:
        """Refreshes at a third of the lease; lost when it ran out without a refresh, by our own clock."""
        loop = asyncio.get_running_loop()
        refreshed_at = loop.time()
        try:
            while True:
                await asyncio.sleep(self._ttl_s / 3)
                while True:
                    asked_at = loop.time()
                    ttl = await self._refresh()
                    if ttl == 0:
                        log.warning("leadership.expired")
                        return
                    if ttl is not None:
                        refreshed_at = asked_at
                        break
                    if loop.time() - refreshed_at > self._ttl_s:
                        log.warning("leadership.unrefreshed", lease_s=self._ttl_s)
                        return
                    await asyncio.sleep(RETRY_S)
        finally:
            self._lost.set()

    async def _refresh(self) -> int | None:
        """Returns the lease's time to live: 0 where it is gone, None where etcd did not answer."""
        request = rpc_pb2.LeaseKeepAliveRequest(ID=self._lease_id)
        try:
            call = self._stub.LeaseKeepAlive(iter([request]), timeout=max(1.0, self._ttl_s / 3))
            async for answer in call:
                return int(answer.TTL)
        except grpc.aio.AioRpcError as error:
            log.info("leadership.refresh_failed", error=error.details())
        return None
