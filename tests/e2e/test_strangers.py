"""Hostile connections against a real manager: less, and for a shorter time, than `bench/strangers.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from skep.cli.bench.processes import Managers
from tests.hostile import KINDS
from tests.strangers import Trial, insider

CONNECTIONS = 400
TIME_S = 5.0

pytestmark = pytest.mark.alone


async def test_hostile_connections_cost_a_manager_little(short_dir: Path) -> None:
    """Of every kind, one after the other, from the address that nodes come from too."""
    managers = Managers(short_dir, 1, "etcd")
    try:
        await managers.start()
        leader = await managers.leader()
        keys = await insider(managers, leader, short_dir)
        for n, kind in enumerate(KINDS):
            trial = Trial(managers, leader, kind, 100 * n)
            await trial.run(CONNECTIONS, TIME_S, 0, keys)
            print(kind, vars(trial))
            assert trial.lead[0] == trial.lead[1], kind
            assert trial.failed == [], kind
            assert trial.p99_s < 1, kind
            assert trial.joins_s, kind
            assert max(trial.joins_s) < 5, kind
            assert trial.rss_mb < 100, kind
    finally:
        await managers.end()


async def test_a_manager_opens_as_many_files_as_the_machine_lets_it(short_dir: Path) -> None:
    managers = Managers(short_dir, 1, "etcd")
    try:
        await managers.start()
        leader = await managers.leader()
        assert leader._child is not None
        limits = Path(f"/proc/{leader._child.pid}/limits").read_text().splitlines()
        (line,) = (line for line in limits if line.startswith("Max open files"))
        assert line.split()[3] == line.split()[4]
    finally:
        await managers.end()
