"""Secrets and configs are in memory, and the place goes with the last of them: on a directory of a disk."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from skep.agent.executor.in_memory import is_in_memory, leave_memory, memory
from skep.agent.executor.task_files import TaskFiles

pytestmark = pytest.mark.root


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """On a disk: /tmp is in memory by Debian 13's default, /var/tmp never is."""
    if not is_in_memory(tmp_path):
        yield tmp_path / "tasks"
        return
    with tempfile.TemporaryDirectory(dir="/var/tmp") as on_disk:
        if is_in_memory(Path(on_disk)):
            pytest.fail("this test needs a directory on a disk: /tmp or /var/tmp")
        yield Path(on_disk) / "tasks"


async def test_the_last_node_takes_the_tmpfs_with_it(directory: Path) -> None:
    for node in ("n1", "n2"):
        async with memory(directory):
            (directory / node / "t1").mkdir(parents=True)
            (directory / node / "t1" / "0").write_text("secret")
            assert is_in_memory(directory)
    files = TaskFiles(directory)
    assert await files.clear("n1") == []
    assert is_in_memory(directory)
    assert [each.name for each in directory.iterdir()] == ["n2"]
    assert await files.clear("n2") == []
    assert not directory.exists()
    assert await files.clear("n2") == []
    assert str(directory) not in Path("/proc/self/mountinfo").read_text()


async def test_nobody_takes_it_away_from_who_writes(directory: Path) -> None:
    """Else what is written would be on the disk below."""
    async with memory(directory):
        leaving = asyncio.ensure_future(leave_memory(directory))
        await asyncio.sleep(0.3)
        assert not leaving.done()
        (directory / "n1").mkdir()
    await asyncio.wait_for(leaving, 5)
    assert is_in_memory(directory)
    assert (directory / "n1").is_dir()
    (directory / "n1").rmdir()
    await leave_memory(directory)
    assert not directory.exists()


async def test_a_tmpfs_that_somebody_else_made_stays(directory: Path) -> None:
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "operators", directory], check=True)
    try:
        async with memory(directory):
            (directory / "n1").mkdir()
        assert await TaskFiles(directory).clear("n1") == []
        assert directory.is_mount()
        assert not list(directory.iterdir())
    finally:
        subprocess.run(["umount", directory], check=True)
