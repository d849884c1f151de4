"""One `skepd` on a simulated engine for all fuzzing, and what must hold of it afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.fixtures import starting
from tests.e2e.hosts import Swarm, free_port

from .target import Target

# RSS may grow by what Python and its allocator keep of the largest bodies; a leak per request would be far more.
GROWTH_MAX_BYTES = 96 << 20
STALL_MAX_S = (
    0.5  # a tenth of what costs a leader its lead; of the daemon's own work, however busy the machine
)
SIGNS = ("Traceback", "api.failed", "crashed", "never retrieved", '"level": "error"')
FACTOR = int(os.environ.get("SKEP_FUZZ", "1"))  # ten: some minutes, a hundred: a night


@pytest.fixture(scope="session")
def target(session_dir: Path) -> Iterator[Target]:
    made = Swarm(session_dir, "simulated", workers=0)
    port = free_port()
    made.manager.options = ("--host", f"tcp://127.0.0.1:{port}")
    with starting(made):
        yield Target(made.manager, port, FACTOR)


@pytest.fixture(autouse=True)
def unharmed(target: Target) -> Iterator[None]:
    """After each test the same process answers, has what it had, and has not grown."""
    assert target.host.process is not None
    process = psutil.Process(target.host.process.pid)
    target.tidy()
    before, tasks = process.memory_info().rss, target.tasks()
    target.stall_s()
    yield
    assert target.host.process.poll() is None, target.host.log()
    assert target.stall_s() < STALL_MAX_S, "a request of this test held the loop"
    target.tidy()
    assert target.ask("GET", "/_ping").status == 200
    assert target.ask("GET", "/services").json() == []
    assert len(target.ask("GET", "/nodes").json()) == 1
    assert target.tasks() <= tasks + 100
    assert process.memory_info().rss < before + GROWTH_MAX_BYTES
    log = target.new_log()
    at = min((log.find(sign) for sign in SIGNS if sign in log), default=-1)
    assert at < 0, log[max(0, at - 500) : at + 4000]
