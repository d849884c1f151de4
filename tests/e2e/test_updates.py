"""Updates and rollbacks through the docker client, on simulated engines: `false` is an image that fails."""

from __future__ import annotations

from typing import Any

import pytest

from .fixtures import swarm_fixture
from .hosts import Swarm, wait_until

pytestmark = [pytest.mark.timeout(120)]


swarm = swarm_fixture(lambda directory: Swarm(directory, "simulated", workers=1))


def create(swarm: Swarm, name: str, *options: str, command: tuple[str, ...] = ("sleep", "1d")) -> None:
    monitors = ("--update-monitor", "300ms", "--rollback-monitor", "300ms")
    fixed = ("service", "create", "-q", "-d", "--no-resolve-image", "--name", name, *monitors)
    swarm.manager.docker(*fixed, *options, "busybox", *command)


def update(swarm: Swarm, name: str, *options: str) -> None:
    swarm.manager.docker("service update -q -d --no-resolve-image", *options, name)


def status(swarm: Swarm, name: str) -> Any:
    return swarm.manager.json("service inspect", name)[0].get("UpdateStatus") or {}


def until(swarm: Swarm, name: str, state: str) -> Any:
    return wait_until(state, lambda: (s := status(swarm, name)).get("State") == state and s)


def arguments(swarm: Swarm, name: str) -> list[str]:
    spec = swarm.manager.json("service inspect", name)[0]["Spec"]
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
        swarm.manager.docker("service rollback -q -d twice")
        assert arguments(swarm, "twice") == there
        assert until(swarm, "twice", "rollback_completed")["Message"] == message


def test_an_update_that_fails_rolls_itself_back_once(swarm: Swarm) -> None:
    create(swarm, "auto", "--update-failure-action", "rollback", "--restart-delay", "100ms")
    wait_until("it runs", lambda: swarm.manager.running("auto"))
    update(swarm, "auto", "--args", "false")
    until(swarm, "auto", "rollback_completed")
    assert arguments(swarm, "auto") == ["sleep", "1d"]
    refused = swarm.manager.run("service rollback -d auto", check=False)
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


def test_a_shorter_history_is_in_force_at_once_for_all_modes(swarm: Swarm) -> None:
    create(swarm, "many", "--replicas", "2")
    create(swarm, "every", "--mode", "global")
    for name in ("many", "every"):
        for n in range(3):
            update(swarm, name, "--env-add", f"N={n}", "--update-parallelism", "0")
            until(swarm, name, "completed")
        wait_until("all are kept", lambda name=name: len(swarm.manager.tasks(name)) == 8)
    swarm.manager.docker("swarm update --task-history-limit 2")
    try:
        for name in ("many", "every"):
            wait_until("two of a slot are kept", lambda name=name: len(swarm.manager.tasks(name)) == 4)
        swarm.manager.docker("swarm update --task-history-limit 0")
        for name in ("many", "every"):
            wait_until("none is kept", lambda name=name: len(swarm.manager.tasks(name)) == 2)
            assert len(swarm.manager.running(name)) == 2
    finally:
        swarm.manager.docker("swarm update --task-history-limit 5")


def test_scaling_while_an_update_is_under_way(swarm: Swarm) -> None:
    """Up and down, while it goes on, and while it waits for somebody."""
    create(swarm, "scaled", "--replicas", "6", "--update-delay", "500ms")
    wait_until("all run", lambda: len(swarm.manager.running("scaled")) == 6)
    update(swarm, "scaled", "--env-add", "A=1")
    swarm.manager.docker("service scale -d scaled=9")
    swarm.manager.docker("service scale -d scaled=3")
    until(swarm, "scaled", "completed")
    wait_until("three run", lambda: len(swarm.manager.tasks("scaled", "desired-state=running")) == 3)
    ids = [row["ID"] for row in swarm.manager.running("scaled")]
    tasks = swarm.manager.json("inspect --type task", *ids)
    assert {tuple(task["Spec"]["ContainerSpec"]["Env"]) for task in tasks} == {("A=1",)}

    update(swarm, "scaled", "--args", "false", "--restart-condition", "none")
    assert until(swarm, "scaled", "paused")
    swarm.manager.docker("service rollback -q -d scaled")
    swarm.manager.docker("service scale -d scaled=5")
    wait_until("five run as before", lambda: len(swarm.manager.running("scaled")) == 5)
    assert arguments(swarm, "scaled") == ["sleep", "1d"]


def test_a_global_service_is_updated_node_by_node_and_rolls_back(swarm: Swarm) -> None:
    create(swarm, "globally", "--mode", "global", "--update-failure-action", "rollback")
    wait_until("both run", lambda: len(swarm.manager.running("globally")) == 2)
    update(swarm, "globally", "--args", "false", "--restart-condition", "none")
    until(swarm, "globally", "rollback_completed")
    assert arguments(swarm, "globally") == ["sleep", "1d"]
    wait_until("both run", lambda: len(swarm.manager.running("globally")) == 2)
    worker = swarm.workers[0].name
    swarm.manager.docker("node update --availability drain", worker)
    wait_until("one runs", lambda: len(swarm.manager.running("globally")) == 1)
    update(
        swarm, "globally", "--args", "sleep 2d", "--restart-condition", "any", "--update-order", "start-first"
    )
    until(swarm, "globally", "completed")
    swarm.manager.docker("node update --availability active", worker)
    wait_until("both run", lambda: len(swarm.manager.running("globally")) == 2)
    ids = [row["ID"] for row in swarm.manager.running("globally")]
    tasks = swarm.manager.json("inspect --type task", *ids)
    assert [task["Spec"]["ContainerSpec"]["Args"] for task in tasks] == [["sleep", "2d"]] * 2
