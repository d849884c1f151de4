"""Emulated machines for a module's tests: made once, gone with them. Missing root or qemu fails, as elsewhere."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .machine import Machine

SCRIPT = Path(__file__).parents[2] / "scripts/emulated.sh"
MAKE_S = 900  # a Debian with an engine: a minute and a half where its packages are there


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns where the machines' kernel and disk are."""
    directory = tmp_path_factory.mktemp(
        "f-emulated"
    )  # which stays from one file to the next: tests/conftest.py
    done = subprocess.run([SCRIPT, directory], check=False, capture_output=True, text=True, timeout=MAKE_S)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture(scope="module")
def machines(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Machine]]:
    """Yields two machines on one wire."""
    directory = tmp_path_factory.mktemp("machines")
    begun: list[Machine] = []
    try:
        begun.extend(Machine(made, directory, number) for number in (1, 2))
        for machine in begun:
            machine.start()
        yield begun
    finally:
        for machine in begun:
            machine.kill()
