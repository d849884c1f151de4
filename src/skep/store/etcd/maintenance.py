"""Keeps etcd's file small: it compacts by itself (see the supervisor's flags) and never shrinks its file."""

from __future__ import annotations

import asyncio

import structlog

from skep.runtime.errors import Unavailable
from skep.store.etcd.client import EtcdStore

log = structlog.get_logger()

PERIOD_S = 300.0
WASTE_MIN_BYTES = 64 << 20  # less is not worth a pause
WASTE_SHARE = 0.5  # of the file


async def maintain(store: EtcdStore) -> None:
    """Defragments whenever half of a large file is unused. Runs until cancelled."""
    while True:
        await asyncio.sleep(PERIOD_S)
        try:
            status = await store.status()
            waste = status.db_bytes - status.db_in_use_bytes
            if waste > WASTE_MIN_BYTES and waste > status.db_bytes * WASTE_SHARE:
                log.info("etcd.defragment", db_bytes=status.db_bytes, waste_bytes=waste)
                await store.defragment()
        except Unavailable as error:
            log.warning("etcd.maintenance", error=str(error))
