"""A worker whose engine is Podman, beside a manager with Docker's: what works, and what is said where it does not."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from skep.model.network import COPY_LABEL
from tests.e2e.engine_roots import MIXED, root_of
from tests.e2e.hosts import wait_until
from tests.e2e.mesh import CLIENT, MeshHost, MeshSwarm, steady
from tests.e2e.overlay_tasks import Task, tasks_of, vip_of
from tests.images import IMAGE as BUSYBOX
from tests.mesh_image import IMAGE

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]
PORT = 8080
CREATE = ("service", "create", "-d", "--no-resolve-image", "--stop-grace-period", "1s")


# 5.4 and 5.8. The older one takes less: a subnet that the host has it refuses for unmanaged networks, too.
RELEASES = ("13", "testing") if os.environ.get(MIXED) == "mixed" else ("13",)


@pytest.fixture(scope="module", params=RELEASES)
def swarm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshSwarm]:
    engines = ((), ("--podman", *root_of(request.param)))
    made = MeshSwarm(tmp_path_factory.mktemp("p"), names=("docker", "podman"), engines=engines)
    try:
        made.start()
        made.manager.docker("network create -d overlay --attachable back")
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def podman(swarm: MeshSwarm) -> MeshHost:
    (worker,) = swarm.workers
    return worker


@pytest.fixture(scope="module")
def web(swarm: MeshSwarm) -> Iterator[list[Task]]:
    """A task on each host, published, with an alias."""
    options = ["--network", "name=back,alias=door", "-p", f"{PORT}:80", "--hostname", "{{.Node.Hostname}}"]
    swarm.manager.docker(*CREATE, "--name", "web", "--mode", "global", *options, IMAGE, "-", "80")
    tasks = tasks_of(swarm, "web", 2)
    _wait_names(tasks)
    swarm.wait_answers(PORT, 2)
    yield tasks
    swarm.manager.docker("service rm web")


def _wait_names(tasks: list[Task]) -> None:
    for one in tasks:
        for other in tasks:
            addresses = {each.address for each in tasks}
            wait_until("names are known", lambda: one.resolve("tasks.web") == addresses)  # noqa: B023
            wait_until("it answers", lambda: one.ask(other.address).startswith(other.host.name))  # noqa: B023


def _on_podman(swarm: MeshSwarm, name: str, *arguments: str) -> None:
    swarm.manager.docker(*CREATE, "--name", name, "--constraint", "node.hostname==podman", *arguments)


def _wait_said(swarm: MeshSwarm, service: str, text: str) -> None:
    wait_until(
        f"{service}: {text}", lambda: any(text in each["Error"] for each in swarm.manager.tasks(service))
    )


def test_the_node_says_that_its_engine_is_podman(swarm: MeshSwarm) -> None:
    shown = swarm.manager.docker("node inspect --format {{.Description.Engine.EngineVersion}} podman")
    assert shown.startswith("5.")
    assert shown.endswith(" (Podman)")


def test_containers_of_both_engines_reach_each_other(swarm: MeshSwarm, web: list[Task]) -> None:
    hosts = {each.host.name for each in web}
    assert hosts == {"docker", "podman"}
    for one in web:
        for name in ("web", "door"):
            assert one.resolve(name) == {vip_of(swarm, "web")}, (one.host.name, name)
            assert {one.ask(name).split()[0] for _ in range(4)} == hosts
        for other in web:
            assert one.ask(other.address) == f"{other.host.name} {one.address}"
            if one is not other:
                assert one.ask(other.name) == f"{other.host.name} {one.address}"


def test_every_host_leads_to_both_and_they_see_the_client(swarm: MeshSwarm, web: list[Task]) -> None:
    for host in swarm.hosts:
        assert Counter(swarm.ask(host, PORT, 6)) == {f"{name} {CLIENT}": 3 for name in ("docker", "podman")}


def test_a_task_that_ends_is_replaced_and_its_network_may_go_and_come(
    swarm: MeshSwarm, web: list[Task], podman: MeshHost
) -> None:
    (before,) = [each for each in web if each.host is podman]
    podman.on_engine("kill", before.container)
    _wait_said(swarm, "web", "non-zero exit (137)")
    wait_until("there is another", lambda: before.container not in podman.docker("ps -q").split())
    _wait_names(tasks_of(swarm, "web", 2))
    assert len(_bridges(podman)) == 2  # the ingress network's, too
    swarm.manager.docker("service update -d --constraint-add node.hostname==docker web")
    wait_until("podman has no network of the swarm's", lambda: _bridges(podman) == [])
    # Its bridge is there still, with an address, or has gone already: Podman refuses a subnet that the host has. That
    # of published ports is there, and leads on to the other host while Podman is made to take it.
    with steady(swarm.client, podman.address, PORT) as answers:
        swarm.manager.docker("service update -d --constraint-rm node.hostname==docker web")
        _wait_names(tasks_of(swarm, "web", 2))
        swarm.wait_answers(PORT, 2)
    assert {each.split()[0] for each in answers} == {"docker", "podman"}, Counter(answers)


def _bridges(host: MeshHost) -> list[str]:
    return host.on_engine("network ls -q --filter label={}", COPY_LABEL).split()


def test_logs_exec_and_exits_are_seen(swarm: MeshSwarm, podman: MeshHost) -> None:
    program = "echo said so; echo apart >&2; while test ! -e /tmp/end; do sleep 0.1; done; exit 3"
    _on_podman(swarm, "brief", "--restart-condition", "none", BUSYBOX, "sh", "-c", program)
    try:
        (task,) = wait_until("it runs", lambda: swarm.manager.running("brief"))
        done = swarm.manager.run("service logs brief")
        assert "| said so" in done.stdout
        assert "| apart" in done.stderr
        assert "podman" in done.stdout
        assert podman.docker("exec brief.1.{} echo within", task["ID"]) == "within"
        podman.docker("exec brief.1.{} touch /tmp/end", task["ID"])
        _wait_said(swarm, "brief", "non-zero exit (3)")
    finally:
        swarm.manager.docker("service rm brief")


def test_what_a_service_says_is_so_inside(swarm: MeshSwarm, podman: MeshHost) -> None:
    mounts = ["type=volume,source=skep-podman,target=/kept", "type=tmpfs,target=/small,tmpfs-size=1048576"]
    options = [part for each in mounts for part in ("--mount", each)]
    options += ["--limit-memory", "64m", "--limit-cpu", "0.5", "--init", "--read-only", "--user", "1234"]
    options += ["--env", "A=b c", "--hostname", "{{.Service.Name}}", "--cap-drop", "CAP_CHOWN"]
    _on_podman(swarm, "inside", *options, BUSYBOX, "sleep", "600")
    try:
        (task,) = wait_until("it runs", lambda: swarm.manager.running("inside"))
        name = f"inside.1.{task['ID']}"
        script = "id -u; hostname; echo $A; head -c 40 /proc/1/cmdline; echo; cat /proc/mounts"
        said = podman.docker("exec {} sh -c {}", name, script).splitlines()
        assert said[:3] == ["1234", "inside", "b c"]
        assert "init" in said[3]
        assert any(" /kept " in line for line in said)
        assert any(" /small tmpfs " in line for line in said)
        assert podman.run("exec {} touch /new", name, check=False).returncode != 0
        (found,) = podman.json("inspect", name)
        assert found["HostConfig"]["Memory"] == 64 << 20
        assert found["HostConfig"]["NanoCpus"] == 5 * 10**8
        assert found["HostConfig"]["CapDrop"] == ["CHOWN"]  # Podman leaves out the prefix
    finally:
        swarm.manager.docker("service rm inside")


def test_a_job_runs_to_its_end(swarm: MeshSwarm) -> None:
    _on_podman(swarm, "job", "--mode", "replicated-job", "--replicas", "2", BUSYBOX, "true")
    try:
        wait_until("both are complete", lambda: _states(swarm, "job") == ["complete", "complete"])
    finally:
        swarm.manager.docker("service rm job")


def _states(swarm: MeshSwarm, service: str) -> list[str]:
    return [task["Status"]["State"] for task in swarm.manager.get("/tasks", service=service)]


def test_a_port_of_the_host_itself(swarm: MeshSwarm, podman: MeshHost) -> None:
    _on_podman(swarm, "own", "-p", "mode=host,published=8090,target=80", IMAGE, "here", "80")
    try:
        wait_until("it answers", lambda: swarm.ask(podman, 8090) == [f"here {CLIENT}"])
    finally:
        swarm.manager.docker("service rm own")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--health-cmd", "true"], "health checks need systemd"),
        (["--network", "back", "-p", "mode=host,published=8091,target=80"], "no port in mode host"),
        (
            ["--mount", "type=bind,source=/no/such/path,target=/x"],
            "bind source path does not exist: /no/such",
        ),
    ],
    ids=["health check", "port of the host", "path that is not there"],
)
def test_what_podman_does_not_do_is_said(
    swarm: MeshSwarm, podman: MeshHost, options: list[str], said: str
) -> None:
    _on_podman(swarm, "asks", "--restart-condition", "none", *options, IMAGE, "-", "80")
    try:
        _wait_said(swarm, "asks", said)
    finally:
        swarm.manager.docker("service rm asks")


def test_a_single_container_is_refused_with_the_reason(
    swarm: MeshSwarm, web: list[Task], podman: MeshHost
) -> None:
    done = podman.run("run --rm --network back {} true", BUSYBOX, check=False)
    assert done.returncode != 0
    assert "attached to network back of the swarm here: the engine of this node is Podman" in done.stderr
    assert podman.docker("run --rm {} echo alone", BUSYBOX) == "alone"


def test_skepd_finds_its_containers_again(swarm: MeshSwarm, web: list[Task], podman: MeshHost) -> None:
    before = podman.docker("ps -q --no-trunc").split()
    podman.kill()
    podman.start()
    wait_until("the node is back", lambda: len(swarm.manager.running("web")) == 2)
    time.sleep(2)  # what it did not know it would end by now
    assert podman.docker("ps -q --no-trunc").split() == before
    swarm.wait_answers(PORT, 2)
