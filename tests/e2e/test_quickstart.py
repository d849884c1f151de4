"""The first command of the README, as a new user runs it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def quickstart(home: Path, engine: str, *arguments: str) -> str:
    environment = {**os.environ, "SKEP_QUICKSTART_DIR": str(home), "SKEP_QUICKSTART_ENGINE": engine}
    done = subprocess.run(
        [ROOT / "quickstart", *arguments], env=environment, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.root
def test_quickstart_leaves_a_running_swarm_finds_it_again_and_takes_it_down(
    engine_socket: str, short_dir: Path
) -> None:
    home, engine = short_dir / "q", f"unix://{engine_socket}"
    try:
        last = quickstart(home, engine).splitlines()[-1]
        assert last == f"export DOCKER_HOST=unix://{home}/mg0.sock"
        host = last.removeprefix("export DOCKER_HOST=")
        again = quickstart(home, engine)
        assert again.splitlines()[-1] == last
        assert "service create" not in again
        ps = ["docker", "-H", host, "service", "ps", "hello", "--format", "{{.CurrentState}}"]
        states = subprocess.run(ps, capture_output=True, text=True, check=True).stdout.split("\n")
        assert len([state for state in states if state.startswith("Running")]) == 3
        assert "service ls" in quickstart(home, engine, "status")
    finally:
        quickstart(home, engine, "down")
    assert not home.exists()
    left = ["docker", "-H", engine, "ps", "-aq", "--filter", "label=com.docker.swarm.service.name=hello"]
    assert subprocess.run(left, capture_output=True, text=True, check=True).stdout == ""
    assert subprocess.run(["pgrep", "-f", str(home)], capture_output=True).returncode == 1
