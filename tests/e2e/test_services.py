"""Services through the docker client: what a user types and sees."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from .hosts import Swarm, containers, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]


@pytest.fixture
def service(swarm: Swarm, request: pytest.FixtureRequest) -> Iterator[str]:
    """A name for a service that is removed after the test."""
    name = request.node.name.split("[")[0].replace("test_", "")[:50].strip("_")
    yield name
    swarm.manager.run("service rm", name, check=False)
    for host in swarm.hosts:
        swarm.manager.run("node update --availability active", host.name, check=False)


def test_create_shows_progress_and_ends_by_itself(swarm: Swarm, service: str, busybox_image: str) -> None:
    shown = swarm.manager.docker("service create --name {} --replicas 3 {} sleep 1d", service, busybox_image)
    assert "converged" in shown
    assert len(swarm.manager.running(service)) == 3
    assert swarm.manager.docker("service ls --format '{{.Name}} {{.Replicas}}'") == f"{service} 3/3"
    assert {row["Node"] for row in swarm.manager.running(service)} == {"mg0", "w0", "w1"}


def test_tasks_are_containers_named_and_labelled_as_docker_does(
    swarm: Swarm, service: str, busybox_image: str
) -> None:
    manager = swarm.manager
    manager.docker(
        (
            "service create -q --name {} --env NODE={{.Node.Hostname}}"
            " --hostname {{.Service.Name}}-{{.Task.Slot}} {} sleep 1d"
        ),
        service,
        busybox_image,
    )
    (task,) = manager.running(service)
    (found,) = containers(swarm.engine.removeprefix("unix://"), f"com.docker.swarm.task.id={task['ID']}")
    assert found["Names"] == f"{service}.1.{task['ID']}"
    inspected = manager.json("inspect", found["ID"])[0]
    labels = inspected["Config"]["Labels"]
    assert labels["com.docker.swarm.service.name"] == service
    assert labels["com.docker.swarm.task.name"] == f"{service}.1.{task['ID']}"
    assert inspected["Config"]["Hostname"] == f"{service}-1"
    assert f"NODE={task['Node']}" in inspected["Config"]["Env"]


def test_a_container_that_dies_is_replaced(swarm: Swarm, service: str, busybox_image: str) -> None:
    manager = swarm.manager
    manager.docker(
        "service create -q -d --name {} --restart-delay 500ms {} sleep 1d",
        service,
        busybox_image,
    )
    (task,) = wait_until("it runs", lambda: manager.running(service))
    manager.docker("kill {}.1.{}", service, task["ID"])
    (second,) = wait_until(
        "another runs", lambda: [r for r in manager.running(service) if r["ID"] != task["ID"]]
    )
    rows = {row["ID"]: row for row in manager.tasks(service)}
    assert rows[task["ID"]]["DesiredState"] == "Shutdown"
    assert rows[task["ID"]]["Error"] == '"task: non-zero exit (137)"'
    assert rows[second["ID"]]["DesiredState"] == "Running"


def test_scaling_up_and_down_and_removal_leave_nothing(
    swarm: Swarm, service: str, busybox_image: str
) -> None:
    manager, socket = swarm.manager, swarm.engine.removeprefix("unix://")
    manager.docker(
        "service create -q --name {} --stop-grace-period 1s {} sleep 1d",
        service,
        busybox_image,
    )
    manager.docker("service scale {}=6", service)
    assert len(manager.running(service)) == 6
    manager.docker("service scale -d {}=2", service)
    label = f"com.docker.swarm.service.name={service}"
    wait_until("four containers are gone", lambda: len(list(containers(socket, label))) == 2)
    assert len(manager.tasks(service)) == 2
    manager.docker("service rm", service)
    wait_until("all are gone", lambda: not list(containers(socket, label)))


def test_a_rolling_update_replaces_every_task(swarm: Swarm, service: str, busybox_image: str) -> None:
    manager = swarm.manager
    manager.docker(
        (
            "service create -q --name {} --replicas 3 --stop-grace-period 0s --update-parallelism 2"
            " --update-monitor 1s {} sleep 1d"
        ),
        service,
        busybox_image,
    )
    manager.docker("service update -q --env-add A=1", service)
    spec = manager.json("service inspect", service)[0]
    assert spec["UpdateStatus"]["State"] == "completed"
    assert spec["Spec"]["TaskTemplate"]["ContainerSpec"]["Env"] == ["A=1"]
    rows = manager.tasks(service)
    assert sorted(row["DesiredState"] for row in rows) == ["Running"] * 3 + ["Shutdown"] * 3
    manager.docker("service rollback -q", service)
    spec = manager.json("service inspect", service)[0]
    assert "Env" not in spec["Spec"]["TaskTemplate"]["ContainerSpec"]
    wait_until(
        "the rollback is complete",
        lambda: manager.json("service inspect", service)[0]["UpdateStatus"]["State"] == "rollback_completed",
    )


def test_a_failing_update_pauses_and_says_why(swarm: Swarm, service: str, busybox_image: str) -> None:
    manager = swarm.manager
    manager.docker(
        "service create -q --name {} --stop-grace-period 0s {} sleep 1d",
        service,
        busybox_image,
    )
    done = manager.run("service update --args false", service, check=False)
    assert done.returncode != 0
    assert "service update paused: update paused due to failure or early termination of task" in done.stderr


def test_draining_moves_tasks_and_pausing_takes_no_new_ones(
    swarm: Swarm, service: str, busybox_image: str
) -> None:
    manager = swarm.manager
    manager.docker(
        "service create -q --name {} --replicas 3 --stop-grace-period 0s {} sleep 1d",
        service,
        busybox_image,
    )
    manager.docker("node update --availability drain w0")
    wait_until(
        "three run without w0",
        lambda: (
            [r["Node"] for r in manager.running(service)].count("w0") == 0
            and len(manager.running(service)) == 3
        ),
    )
    manager.docker("node update --availability pause w1")
    manager.docker("service scale {}=6", service)
    assert [r["Node"] for r in manager.running(service)].count("w1") <= 2


def test_a_task_that_fits_nowhere_says_why(swarm: Swarm, service: str, busybox_image: str) -> None:
    manager = swarm.manager
    manager.docker(
        "service create -q -d --name {} --constraint node.labels.disk==ssd {} sleep 1d",
        service,
        busybox_image,
    )
    (row,) = wait_until("a row is there", lambda: manager.tasks(service))
    assert row["CurrentState"].startswith("Pending")
    assert row["Error"] == '"no suitable node (scheduling constraints not satisfied on 3 nodes)"'
    manager.docker("node update --label-add disk=ssd w1")
    (running,) = wait_until("it runs", lambda: manager.running(service))
    assert running["Node"] == "w1"
    manager.docker("node update --label-rm disk w1")


def test_a_global_service_runs_once_per_node(swarm: Swarm, service: str, busybox_image: str) -> None:
    manager = swarm.manager
    manager.docker(
        "service create -q --name {} --mode global --stop-grace-period 0s {} sleep 1d",
        service,
        busybox_image,
    )
    assert sorted(r["Node"] for r in manager.running(service)) == ["mg0", "w0", "w1"]
    manager.docker("node update --availability drain w1")
    wait_until("two are left", lambda: len(manager.running(service)) == 2)
    manager.docker("node update --availability active w1")
    wait_until("three again", lambda: len(manager.running(service)) == 3)


def test_a_missing_image_is_rejected_in_dockers_words(swarm: Swarm, service: str) -> None:
    manager = swarm.manager
    manager.docker(
        "service create -q -d --name {} --restart-condition none no-such-image-here:1",
        service,
    )
    row = wait_until(
        "it is rejected",
        lambda: next((r for r in manager.tasks(service) if r["CurrentState"].startswith("Rejected")), None),
        60,
    )
    assert "No such image: no-such-image-here:1" in row["Error"]


def test_errors_are_dockers(swarm: Swarm, service: str, busybox_image: str) -> None:
    manager = swarm.manager
    manager.docker("service create -q -d --name {} {} sleep 1d", service, busybox_image)
    again = manager.run("service create -d --name", service, busybox_image, check=False)
    assert "name conflicts with an existing object" in again.stderr
    assert "no such service: nope" in manager.run("service inspect nope", check=False).stderr.lower()
    worker = swarm.workers[0].run("service ls", check=False)
    assert "This node is not a swarm manager. Worker nodes can't be used to view or modify" in worker.stderr
    bad = manager.run("service create -d --constraint node.role=x", busybox_image, check=False)
    assert "constraint expected one operator from ==, !=" in bad.stderr


def test_debians_older_client_works_too(swarm: Swarm, service: str, busybox_image: str) -> None:
    manager = swarm.manager
    command = ["/usr/bin/docker", "-H", manager.url]
    subprocess.run(
        [*command, "service", "create", "-q", "--name", service, busybox_image, "sleep", "1d"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    listed = subprocess.run([*command, "service", "ls"], check=True, capture_output=True, text=True).stdout
    assert f"{service}" in listed
    assert "1/1" in listed
