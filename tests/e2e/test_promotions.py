"""A promotion and a demotion of another manager at one time."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from .hosts import Host, wait_until
from .managers import Managers

pytestmark = pytest.mark.timeout(180)
LEARNER = "membership.learner"


def learners(leader: Host, directory: Path) -> list[str]:
    """Returns the node ids of those that the leader gave a copy of the store, in that order."""
    lines = (directory / f"{leader.name}.log").read_text().splitlines()
    said = [json.loads(line) for line in lines if LEARNER in line]
    return [each["node_id"] for each in said if each["event"] == LEARNER]


def test_a_manager_joins_though_another_goes_while_it_does(short_dir: Path) -> None:
    """Its etcd was started with members of which one was no more, again and again."""
    swarm = Managers(short_dir, managers=1, workers=2)
    try:
        swarm.start()
        ids = {name: swarm.first.docker("node inspect -f {{.ID}}", name) for name in ("w0", "w1")}
        for _ in range(3):
            before = len(learners(swarm.first, short_dir))
            swarm.first.docker("node promote w0 w1")
            deadline = time.monotonic() + 30
            while len(found := learners(swarm.first, short_dir)) < before + 2:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            joining = next(name for name, node_id in ids.items() if node_id == found[-1])
            other = next(name for name in ids if name != joining)
            swarm.first.docker("node demote", other)
            wait_until("it joins", lambda joining=joining: swarm.nodes()[joining][1] == "Reachable", 40)
            swarm.first.docker("node demote", joining)
            wait_until("none is left", lambda: {swarm.nodes()[name][1] for name in ids} == {""}, 40)
    finally:
        swarm.stop()
