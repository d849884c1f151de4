"""Hostile connections against a real manager: less, and for a shorter time, than `bench/strangers.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from skep.cli.bench.processes import BenchManagers
from tests.hostile import KINDS
from tests.strangers import Trial, insider

CONNECTIONS = 400
TIME_S = 3.0

pytestmark = pytest.mark.alone


@pytest.mark.timeout(240)
async def test_hostile_connections_cost_a_manager_little(short_dir: Path) -> None:
    """All kinds in one test: who wants the machine alone waits for it once."""
    for number, kind in enumerate(KINDS):
        directory = short_dir / str(number)
        directory.mkdir()
        await attack(kind, directory)


async def attack(kind: str, directory: Path) -> None:
    managers = BenchManagers(directory, 1, "etcd")
    try:
        await managers.start()
        leader = await managers.leader()
        keys = await insider(managers, leader, directory)
        trial = Trial(managers, leader, kind, 0)
        await trial.run(CONNECTIONS, TIME_S, 4, keys)
        print(trial.row())
        assert trial.lead[0] == trial.lead[1], kind
        assert trial.failed == [], kind
        assert trial.p99_s < 1, kind
        assert trial.joins_s, kind
        assert max(trial.joins_s) < 5, kind
        assert trial.rss_mb < 100, kind
    finally:
        await managers.end()


async def test_a_manager_opens_as_many_files_as_the_machine_lets_it(short_dir: Path) -> None:
    managers = BenchManagers(short_dir, 1, "etcd")
    try:
        await managers.start()
        leader = await managers.leader()
        assert leader._child is not None
        limits = Path(f"/proc/{leader._child.pid}/limits").read_text().splitlines()
        (line,) = (line for line in limits if line.startswith("Max open files"))
        assert line.split()[3] == line.split()[4]
    finally:
        await managers.end()
