"""A disk that is slow with a manager's keys does not hold up its loop, and is not asked without need."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from skep.daemon import keys as keys_module
from skep.daemon.keys import KeyFiles
from skep.daemon.manager_runner import ManagerRunner
from skep.daemon.node_runner import NodeRunner
from skep.daemon.node_state import Outside
from skep.daemon.state import StateDir
from skep.manager.ca.authority import Authority, new_root
from skep.rpc.certificates import NodeKeys, new_key_and_request
from skep.runtime.supervise import in_thread
from skep.store.seal import KEY_BYTES
from tests.unit.daemon.test_key_files import FIRST
from tests.unit.manager.control.test_unlock_key import cluster
from tests.unit.virtual_time import spend

FSYNC_S = 0.2


@pytest.fixture
def files(tmp_path: Path) -> KeyFiles:
    made = KeyFiles(StateDir(tmp_path))
    made.take(bytes(KEY_BYTES), "")
    made.save(node_keys())
    return made


def node_keys() -> NodeKeys:
    certificate, ca_key = new_root(1000.0)
    key, request = new_key_and_request()
    signed = Authority(certificate, ca_key).sign(request, "n" * 25, "manager", "c", 1000.0, 3600)
    return NodeKeys(key, signed, certificate)


async def longest_wait_s(work: Any) -> float:
    """Returns how long the loop was kept from others at most while the work was done."""
    worst, doing, now = 0.0, asyncio.ensure_future(work), asyncio.get_running_loop().time
    while not doing.done():
        began = now()
        await asyncio.sleep(0.005)
        worst = max(worst, now() - began)
    await doing
    return worst


async def test_a_slow_disk_holds_up_no_manager(files: KeyFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    real, loops, threads = os.fsync, threading.get_ident(), set()

    def fsync(descriptor: int) -> None:
        threads.add(threading.get_ident())
        spend(FSYNC_S)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    parts = SimpleNamespace(_keys=files, _now=Outside())
    new = node_keys()
    assert await longest_wait_s(NodeRunner._renewed(cast("NodeRunner", parts), new)) < FSYNC_S / 2
    assert files.load() == new
    manager = cast("ManagerRunner", SimpleNamespace(_key_files=files))
    assert await longest_wait_s(ManagerRunner._apply_unlock_key(manager, cluster(FIRST))) < FSYNC_S / 2
    assert files.is_sealed
    assert files.load() == new
    assert threads, "the disk was written to"
    assert loops not in threads


async def test_files_that_are_right_are_not_read_again(
    files: KeyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manager looks every second whether its keys are to be sealed."""
    manager = cast("ManagerRunner", SimpleNamespace(_key_files=files))
    await ManagerRunner._apply_unlock_key(manager, cluster(FIRST))

    def load_keys(directory: Path) -> NodeKeys:
        raise AssertionError("the files were read")

    monkeypatch.setattr(keys_module, "load_keys", load_keys)
    await ManagerRunner._apply_unlock_key(manager, cluster(FIRST))


async def test_what_was_begun_in_a_thread_is_over_when_its_work_is_cancelled() -> None:
    """Who leaves a swarm clears the directory that it would write into."""
    done: list[bool] = []

    def write() -> None:
        spend(0.2)
        done.append(True)

    work = asyncio.ensure_future(in_thread(write))
    await asyncio.sleep(0.05)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert done
