"""Jobs through the docker client: its progress ends by itself, and `service ls` counts completions."""

from __future__ import annotations

from typing import Any

import pytest

from .fixtures import swarm_fixture
from .hosts import Swarm, wait_until

pytestmark = [pytest.mark.timeout(120)]
CREATE = ("service", "create", "--no-resolve-image", "--name")


# A manager and two workers with simulated engines, which know `true`, `false` and `sleep N`.
swarm = swarm_fixture(lambda directory: Swarm(directory, "simulated", workers=2))


def listed(swarm: Swarm, name: str) -> str:
    return swarm.manager.docker("service ls -f name={} --format '{{.Mode}} {{.Replicas}}'", name)


def inspected(swarm: Swarm, name: str) -> Any:
    return swarm.manager.json("service inspect", name)[0]


def test_a_replicated_job_runs_to_its_end_and_again_at_each_update(swarm: Swarm) -> None:
    manager = swarm.manager
    job = ("--mode", "replicated-job", "--replicas", "3", "--max-concurrent", "1", "busybox", "sleep", "0.2")
    assert "job complete" in manager.docker(*CREATE, "rj", *job)
    assert listed(swarm, "rj") == "replicated job 0/1 (3/3 completed)"
    assert inspected(swarm, "rj")["JobStatus"]["JobIteration"] == {}
    slots = manager.docker("service ps rj --format '{{.Name}} {{.DesiredState}}'").splitlines()
    assert {"rj.1 Complete", "rj.2 Complete"} < set(slots)
    assert "job complete" in manager.docker("service scale rj=2")
    assert listed(swarm, "rj") == "replicated job 0/1 (2/2 completed)"
    assert "job complete" in manager.docker("service update --no-resolve-image --force rj")
    assert inspected(swarm, "rj")["JobStatus"]["JobIteration"] == {"Index": 2}
    assert "job complete" in manager.docker("service rollback rj")
    assert inspected(swarm, "rj")["UpdateStatus"]["State"] == "rollback_completed"


def test_a_global_job_runs_once_on_each_node(swarm: Swarm) -> None:
    manager = swarm.manager
    assert "job complete" in manager.docker(*CREATE, "gj", "--mode", "global-job", "busybox", "sleep", "0.2")
    assert listed(swarm, "gj") == "global job 0/0 (3/3 completed)"
    nodes = manager.docker("service ps gj --format {{.Node}}").splitlines()
    assert sorted(nodes) == ["mg0", "w0", "w1"]
    assert manager.docker("service ls -q -f mode=global-job").count("\n") == 0


def test_a_job_that_fails_is_tried_as_often_as_it_says(swarm: Swarm) -> None:
    manager = swarm.manager
    restart = ("--restart-delay", "100ms", "--restart-max-attempts", "2", "--restart-condition", "any")
    manager.docker(*CREATE, "fj", "-d", "--mode", "replicated-job", *restart, "busybox", "false")
    rows = wait_until(
        "three failed",
        lambda: (
            [r for r in manager.tasks("fj") if r["CurrentState"].startswith("Failed")][2:]
            and manager.tasks("fj")
        ),
    )
    assert len(rows) == 3
    assert listed(swarm, "fj") == "replicated job 0/1 (0/1 completed)"


def test_jobs_have_no_update_config(swarm: Swarm) -> None:
    refused = swarm.manager.run(
        *CREATE, "uj", "--mode", "global-job", "--update-delay", "1s", "busybox", check=False
    )
    assert "update and rollback configuration is not supported for jobs" in refused.stderr
