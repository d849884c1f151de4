"""A lock that another skepd holds, and does not let go, holds up nothing else here."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from skep.agent.executor import in_memory
from skep.agent.executor.in_memory import leave_memory, memory


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that a stopped process has locked."""
    monkeypatch.setattr(in_memory, "LOCK_S", 0.3)
    monkeypatch.setattr(in_memory, "is_in_memory", lambda directory: True)
    handle = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    yield tmp_path
    os.close(handle)


async def _write(directory: Path) -> None:
    async with memory(directory):
        pytest.fail("it is locked")


@pytest.mark.timeout(10)
@pytest.mark.parametrize("work", [_write, leave_memory])
async def test_the_loop_goes_on_while_another_process_holds_the_place(held: Path, work: object) -> None:
    turns = 0
    waiting = asyncio.ensure_future(work(held))  # type: ignore[operator]
    while not waiting.done():
        await asyncio.sleep(0.01)
        turns += 1
    with pytest.raises(OSError, match="is locked by another process"):
        waiting.result()
    assert turns > 5
