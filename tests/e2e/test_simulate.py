"""Simulated nodes, as a user without root or Docker Engine runs them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .fixtures import swarm_fixture
from .hosts import Swarm, wait_until

pytestmark = pytest.mark.timeout(120)
SKEP = Path(sys.executable).with_name("skep")


lone = swarm_fixture(lambda directory: Swarm(directory, "simulated", workers=0), own=True)


def simulate(swarm: Swarm, *options: str) -> subprocess.Popen[bytes]:
    token = swarm.manager.docker("swarm join-token -q worker")
    command = [SKEP, "simulate", "--join", swarm.address, "--token", token, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_simulated_nodes_run_services(lone: Swarm) -> None:
    nodes = simulate(lone, "--nodes", "30", "--procs", "2", "--start-s", "0.05")
    try:
        wait_until("all are ready", lambda: list(lone.nodes().values()).count("Ready") == 31)
        lone.manager.docker("service create -q -d --name s --replicas 900 image")
        wait_until("all run", lambda: lone.manager.docker("service ls").count("900/900"))
        lone.manager.docker("node update --availability drain sim00003")
        wait_until(
            "drained",
            lambda: lone.manager.docker("node ps -q -f desired-state=running sim00003") == "",
        )
        wait_until("all run again", lambda: lone.manager.docker("service ls").count("900/900"))
    finally:
        nodes.send_signal(signal.SIGINT)
        assert nodes.wait(20) == 0
    wait_until("they are gone", lambda: list(lone.nodes().values()).count("Ready") == 1, 30)


def test_nodes_that_fail_show_in_the_tasks(lone: Swarm) -> None:
    nodes = simulate(lone, "--nodes", "2", "--fail-rate", "1", "--seed", "1")
    try:
        wait_until("all are ready", lambda: len(lone.nodes()) == 3)
        lone.manager.docker("node update --availability drain mg0")
        lone.manager.docker("service create -q -d --name s --restart-delay 100ms image")
        failed = wait_until(
            "tasks fail",
            lambda: [r for r in lone.manager.tasks("s") if r["CurrentState"].startswith("Failed")],
        )
        assert "non-zero exit (1)" in failed[0]["Error"]
    finally:
        nodes.terminate()
        nodes.wait(20)


def test_a_bad_token_ends_it_with_the_reason(lone: Swarm) -> None:
    command = [SKEP, "simulate", "--nodes", "2", "--join", lone.address, "--token", "SWMTKN-1-x-y"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "invalid join token" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_and_version(shell: str) -> None:
    for program in ("skep", "skepd"):
        done = subprocess.run(
            [SKEP, "completion", shell, "--program", program], capture_output=True, text=True, check=True
        )
        assert f"_{program.upper()}_COMPLETE" in done.stdout
        version = subprocess.run([SKEP.with_name(program), "--version"], capture_output=True, text=True)
        assert version.stdout.startswith(f"{program}, version ")
