"""Updates and rollbacks through the docker client, on simulated engines: `false` is an image that fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .hosts import Swarm, wait_until

pytestmark = [pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    made = Swarm(tmp_path_factory.mktemp("u"), "simulated", workers=1)
    try:
        yield made.start()
    finally:
        made.stop()


def create(swarm: Swarm, name: str, *options: str, command: tuple[str, ...] = ("sleep", "1d")) -> None:
    monitors = ("--update-monitor", "300ms", "--rollback-monitor", "300ms")
    fixed = ("service", "create", "-q", "-d", "--no-resolve-image", "--name", name, *monitors)
    swarm.manager.docker(*fixed, *options, "busybox", *command)


def update(swarm: Swarm, name: str, *options: str) -> None:
    swarm.manager.docker("service", "update", "-q", "-d", "--no-resolve-image", *options, name)


def status(swarm: Swarm, name: str) -> Any:
    return swarm.manager.json("service", "inspect", name)[0].get("UpdateStatus") or {}


def until(swarm: Swarm, name: str, state: str) -> Any:
    return wait_until(state, lambda: (s := status(swarm, name)).get("State") == state and s)


def arguments(swarm: Swarm, name: str) -> list[str]:
    spec = swarm.manager.json("service", "inspect", name)[0]["Spec"]
    return list(spec["TaskTemplate"]["ContainerSpec"]["Args"])


def test_changes_that_need_no_new_task_make_none(swarm: Swarm) -> None:
    create(swarm, "keep", "--replicas", "2")
    wait_until("two run", lambda: len(swarm.manager.running("keep")) == 2)
    before = {row["ID"] for row in swarm.manager.running("keep")}
    update(swarm, "keep", "--label-add", "a=1", "--update-delay", "1s", "--replicas", "3")
    update(swarm, "keep", "--constraint-add", "node.hostname!=nowhere")
    update(swarm, "keep", "--placement-pref-add", "spread=node.labels.zone")
    wait_until("three run", lambda: len(swarm.manager.running("keep")) == 3)
    assert before < {row["ID"] for row in swarm.manager.running("keep")}
    assert status(swarm, "keep") == {}
    update(swarm, "keep", "--container-label-add", "a=1")
    until(swarm, "keep", "completed")
    assert not before & {row["ID"] for row in swarm.manager.running("keep")}


def test_a_rollback_that_is_rolled_back_goes_forward_again(swarm: Swarm) -> None:
    create(swarm, "twice")
    update(swarm, "twice", "--args", "sleep 2d")
    until(swarm, "twice", "completed")
    for there, message in ((["sleep", "1d"], "rollback completed"), (["sleep", "2d"], "rollback completed")):
        swarm.manager.docker("service", "rollback", "-q", "-d", "twice")
        assert arguments(swarm, "twice") == there
        assert until(swarm, "twice", "rollback_completed")["Message"] == message


def test_an_update_that_fails_rolls_itself_back_once(swarm: Swarm) -> None:
    create(swarm, "auto", "--update-failure-action", "rollback", "--restart-delay", "100ms")
    wait_until("it runs", lambda: swarm.manager.running("auto"))
    update(swarm, "auto", "--args", "false")
    until(swarm, "auto", "rollback_completed")
    assert arguments(swarm, "auto") == ["sleep", "1d"]
    refused = swarm.manager.run("service", "rollback", "-d", "auto", check=False)
    assert "does not have a previous spec" in refused.stderr


def test_a_task_that_ends_early_pauses_the_update_also_where_it_ended_well(swarm: Swarm) -> None:
    create(swarm, "early", "--replicas", "2", "--restart-delay", "1s")
    wait_until("two run", lambda: len(swarm.manager.running("early")) == 2)
    update(swarm, "early", "--args", "true")
    message = until(swarm, "early", "paused")["Message"]
    assert message.startswith("update paused due to failure or early termination of task ")
    update(swarm, "early", "--args", "sleep 3d")  # a paused update gives way to the next
    until(swarm, "early", "completed")
    assert len(swarm.manager.running("early")) == 2


def test_tasks_that_ended_for_good_are_updated_too(swarm: Swarm) -> None:
    create(swarm, "ended", "--restart-condition", "none", command=("true",))
    wait_until(
        "it ended", lambda: [r for r in swarm.manager.tasks("ended") if "Complete" in r["CurrentState"]]
    )
    update(swarm, "ended", "--args", "sleep 1d")
    until(swarm, "ended", "completed")
    assert len(swarm.manager.running("ended")) == 1
