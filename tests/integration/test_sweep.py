"""What a ./check that was killed with all its processes has left, the next one takes away: `scripts/sweep.sh`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.root


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    """A run's directory with an engine that nobody stopped, and with its container's filesystem on it."""
    made = tmp_path / f"skc.{os.getpid()}"
    merged = made / "t/gw0/m0/e/data/overlay2/x/merged"
    for at in (made / "t/gw0/m0/e/data", merged):
        at.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "left", at], check=True)
    yield made
    for at in (merged, made / "t/gw0/m0/e/data"):
        subprocess.run(["umount", "-l", at], capture_output=True)


def test_what_is_mounted_goes_too(run: Path) -> None:
    beside = run.with_name(f"{run.name}0")
    beside.mkdir()
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", '. scripts/lib.sh; . scripts/sweep.sh; sweep "$1"', "sweep", run],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert not run.exists()
    assert str(run) not in Path("/proc/self/mounts").read_text()
    assert beside.exists(), "only its own"


@pytest.mark.parametrize("network", ["1", "$(stat -Lc %i /proc/self/ns/net)"], ids=["gone", "here"])
def test_an_engine_takes_away_what_is_in_its_own_network_only(tmp_path: Path, network: str) -> None:
    """In another one, where its own is gone, the bridge of Docker's swarm is somebody else's."""
    made = tmp_path / "e"
    (made / "exec").mkdir(parents=True)
    (made / "bridge").write_text("skgone 10.231.9.0/24\n")
    command = f'echo "{network}" >"$0/network"; ip link add docker_gwbridge type bridge; scripts/engine.sh stop "$0"; ip link'
    words = ["unshare", "--net", "--", "bash", "-ec", command, str(made)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ("docker_gwbridge" in done.stdout) == (network == "1")
    assert not made.exists()
