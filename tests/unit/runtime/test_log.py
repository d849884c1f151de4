"""A log that cannot be written stops nobody, and says later that lines are missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from skep.runtime.log import Outlet


def test_a_full_disk_stops_nobody(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    full = os.open("/dev/full", os.O_WRONLY)
    place = os.dup(file)
    try:
        outlet = Outlet(place, "{} lost\n".format)
        outlet.write("one\n")
        os.dup2(full, place)
        for _ in range(3):
            outlet.write("nowhere\n")
        os.dup2(file, place)
        outlet.write("two \ud800\n")
        outlet.write("three\n")
    finally:
        for each in (file, full, place):
            os.close(each)
    assert path.read_text().splitlines() == ["one", "3 lost", "two \\ud800", "three"]


def test_a_line_that_was_torn_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk takes what it has room for."""
    room, taken = 8, b""

    def write(_: int, data: bytes) -> int:
        nonlocal room, taken
        if not room:
            raise OSError(28, "No space left on device")
        part = data[:room]
        room -= len(part)
        taken += part
        return len(part)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        outlet = Outlet(2, "{} lost\n".format)
        outlet.write("whole\n")
        outlet.write("torn apart\n")
        outlet.write("lost\n")
        room = 100
        outlet.write("again\n")
        outlet.write("more\n")
    assert taken.decode().splitlines() == ["whole", "to", "2 lost", "again", "more"]


def test_a_reader_that_went_stops_nobody() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        Outlet(writing, str).write("one\n")
    finally:
        os.close(writing)


@pytest.mark.parametrize(("form", "says"), [("text", "log.lost lines=2\n"), ("json", '"event":"log.lost"')])
def test_the_daemons_log_goes_on(tmp_path: Path, form: str, says: str) -> None:
    """Structlog holds a lock while it writes: what says how many are missing must not ask for it."""
    path = tmp_path / "log"
    program = f"""
import os, structlog
from skep.runtime.log import set_up_logging
place = os.open({str(path)!r}, os.O_WRONLY | os.O_CREAT)
os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
set_up_logging("info", {form!r})
log = structlog.get_logger()
log.info("one")
log.info("two")
os.dup2(place, 2)
log.info("three")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)
    lines = path.read_text()
    assert lines.count("\n") == 2
    assert says in lines
    assert "three" in lines
