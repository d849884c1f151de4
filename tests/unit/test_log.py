"""A log that cannot be written stops nobody, and says later that lines are missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skep.runtime.log import Outlet


def test_a_full_disk_stops_nobody(tmp_path: Path) -> None:
    lost: list[int] = []
    path = tmp_path / "log"
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    full = os.open("/dev/full", os.O_WRONLY)
    place = os.dup(file)
    try:
        outlet = Outlet(place, lost.append)
        outlet.write("one\n")
        os.dup2(full, place)
        for _ in range(3):
            outlet.write("nowhere\n")
        assert lost == []
        os.dup2(file, place)
        outlet.write("two \ud800\n")
        outlet.write("three\n")
    finally:
        for each in (file, full, place):
            os.close(each)
    assert path.read_text().splitlines() == ["one", "two \\ud800", "three"]
    assert lost == [3]


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
        outlet = Outlet(2, lambda count: None)
        outlet.write("whole\n")
        outlet.write("torn apart\n")
        outlet.write("lost\n")
        room = 100
        outlet.write("again\n")
        outlet.write("more\n")
    assert taken.decode().splitlines() == ["whole", "to", "again", "more"]


def test_a_reader_that_went_stops_nobody() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        Outlet(writing, lambda count: None).write("one\n")
    finally:
        os.close(writing)
