"""What hostile connections cost a swarm of three managers: its lead, its API, its memory, a node that joins.

    .venv/bin/python bench/strangers.py [--kinds silent,half,…] [--connections 2000] [--seconds 60]

All on loopback. Each kind attacks the leader's port by itself (`tests/hostile.py`) while one client asks the
leader's API and a new worker joins every five seconds; figures are printed per kind, as rows of a table.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

import click

from skep.cli.bench.processes import BenchManagers
from skep.cli.files import raise_file_limit

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.hostile import KINDS  # noqa: E402
from tests.strangers import HEAD, Trial, insider  # noqa: E402

CALM_S = 12.0  # between two kinds


async def run(kinds: list[str], connections: int, time_s: float, hosts: int) -> None:
    directory = Path(tempfile.mkdtemp(prefix="skep-strangers-"))
    managers = BenchManagers(directory, 3, "etcd")
    try:
        await managers.start()
        keys = await insider(managers, await managers.leader(), directory)
        print(HEAD + "\n" + "|---" * 8 + "|", flush=True)
        for n, kind in enumerate(kinds):
            trial = Trial(managers, await managers.leader(), kind, 100 * n)
            await trial.run(connections, time_s, hosts, keys)
            print(trial.row(), flush=True)
            await asyncio.sleep(CALM_S)
    finally:
        await managers.end()
        shutil.rmtree(directory, ignore_errors=True)


@click.command()
@click.option("--kinds", default=",".join(KINDS), show_default=True)
@click.option("--connections", default=2000, show_default=True)
@click.option("--seconds", default=60.0, show_default=True)
@click.option("--hosts", default=8, show_default=True, help="They come from so many addresses; 0: 127.0.0.1.")
def main(kinds: str, connections: int, seconds: float, hosts: int) -> None:
    """Hostile connections against three managers."""
    raise_file_limit()
    asyncio.run(run(kinds.split(","), connections, seconds, hosts))


if __name__ == "__main__":
    main()
