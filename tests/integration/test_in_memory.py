"""Secrets and configs are in memory, and the place goes with the last of them: on a directory of a disk."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from skep.agent.executor.in_memory import is_in_memory, leave_memory, memory
from skep.agent.executor.task_files import TaskFiles

pytestmark = pytest.mark.root


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    if is_in_memory(tmp_path):
        pytest.fail("this test needs a temporary directory on a disk (--basetemp)")
    return tmp_path / "tasks"


def test_the_last_node_takes_the_tmpfs_with_it(directory: Path) -> None:
    for node in ("n1", "n2"):
        with memory(directory):
            (directory / node / "t1").mkdir(parents=True)
            (directory / node / "t1" / "0").write_text("secret")
            assert is_in_memory(directory)
    files = TaskFiles(directory)
    assert files.clear("n1") == []
    assert is_in_memory(directory)
    assert [each.name for each in directory.iterdir()] == ["n2"]
    assert files.clear("n2") == []
    assert not directory.exists()
    assert files.clear("n2") == []
    assert str(directory) not in Path("/proc/self/mountinfo").read_text()


def test_nobody_takes_it_away_from_who_writes(directory: Path) -> None:
    """Else what is written would be on the disk below."""
    gone = threading.Event()

    def leave() -> None:
        leave_memory(directory)
        gone.set()

    with memory(directory):
        threading.Thread(target=leave, daemon=True).start()
        assert not gone.wait(0.3)
        (directory / "n1").mkdir()
    assert gone.wait(5)
    assert is_in_memory(directory)
    assert (directory / "n1").is_dir()
    (directory / "n1").rmdir()
    leave_memory(directory)
    assert not directory.exists()
