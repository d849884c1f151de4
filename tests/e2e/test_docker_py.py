"""docker-py, unmodified, against a swarm of simulated nodes and one of real containers."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest

from .hosts import Swarm, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]


@pytest.fixture
def client(swarm: Swarm) -> Iterator[docker.DockerClient]:
    made = docker.DockerClient(base_url=swarm.manager.url)
    yield made
    made.close()


def test_a_service_from_creation_to_removal(client: docker.DockerClient, busybox_image: str) -> None:
    service = client.services.create(
        busybox_image,
        command=["sleep", "1d"],
        name="by-docker-py",
        labels={"made": "here"},
        mode=docker.types.ServiceMode("replicated", replicas=2),
        restart_policy=docker.types.RestartPolicy(condition="any", delay=10**9),
    )
    try:
        wait_until("two run", lambda: states(service) == ["running", "running"])
        assert [s.name for s in client.services.list(filters={"label": "made=here"})] == ["by-docker-py"]
        assert service.scale(3)
        wait_until("three run", lambda: states(service) == ["running"] * 3)
        service.reload()
        service.update(labels={"made": "again"})
        service.reload()
        assert service.attrs["Spec"]["Labels"] == {"made": "again"}
        assert service.attrs["Spec"]["Mode"]["Replicated"]["Replicas"] == 3
    finally:
        service.remove()
    with pytest.raises(docker.errors.NotFound):
        client.services.get("by-docker-py")


def states(service: docker.models.services.Service) -> list[str]:
    return [task["Status"]["State"] for task in service.tasks({"desired-state": "running"})]


def test_the_swarm_and_its_nodes(client: docker.DockerClient) -> None:
    assert client.info()["Swarm"]["Nodes"] == 3
    client.swarm.reload()
    assert client.swarm.attrs["JoinTokens"]["Worker"].startswith("SWMTKN-1-")
    nodes = {node.attrs["Description"]["Hostname"]: node for node in client.nodes.list()}
    assert set(nodes) == {"mg0", "w0", "w1"}
    worker = nodes["w0"]
    spec = {**worker.attrs["Spec"], "Labels": {"disk": "fast"}}
    assert worker.update(spec)
    worker.reload()
    assert worker.attrs["Spec"]["Labels"] == {"disk": "fast"}


def test_a_plain_container(client: docker.DockerClient, busybox_image: str) -> None:
    assert client.containers.run(busybox_image, ["echo", "hello"], remove=True) == b"hello\n"
