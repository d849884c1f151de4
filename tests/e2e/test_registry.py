"""Images from a registry that wants a password: pulled by nodes, pinned once, never told to anybody else."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.registry import PASSWORD, USER, Registry, registry

from .fixtures import swarm_fixture
from .hosts import Swarm, UnixConnection, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]


pair = swarm_fixture(lambda directory, engine: Swarm(directory, engine, workers=1), on_engine=True)


@pytest.fixture(scope="module")
def private() -> Iterator[Registry]:
    with registry() as made:
        yield made


@pytest.fixture
def login(private: Registry, tmp_path: Path) -> list[str]:
    """The client's options for a user who has logged in."""
    word = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {private.address: {"auth": word}}}))
    return ["--config", str(tmp_path)]


@pytest.fixture
def service(pair: Swarm, request: pytest.FixtureRequest) -> Iterator[str]:
    name = request.node.name.replace("test_", "").replace("_", "-")[:50]
    yield name
    pair.manager.run("service rm", name, check=False)


def forget(pair: Swarm, reference: str) -> None:
    """The nodes' engine has the image no more."""
    images = pair.manager.docker("images -q", reference.rpartition(":")[0]).split()
    if images:
        wait_until(
            "the image can go", lambda: pair.manager.run("rmi", "-f", *images, check=False).returncode == 0
        )


def ask(pair: Swarm, method: str, path: str, body: Any = None, auth: str = "") -> tuple[int, Any]:
    connection = UnixConnection(pair.manager.socket)
    headers = {"Content-Type": "application/json", **({"X-Registry-Auth": auth} if auth else {})}
    connection.request(method, path, json.dumps(body) if body is not None else None, headers)
    answer = connection.getresponse()
    raw = answer.read()
    return answer.status, json.loads(raw) if raw.strip() else None


def auth_of(user: str, password: str) -> str:
    return base64.urlsafe_b64encode(json.dumps({"username": user, "password": password}).encode()).decode()


def spec_of(name: str, image: str) -> dict[str, Any]:
    container = {"Image": image, "StopGracePeriod": 0}
    return {"Name": name, "TaskTemplate": {"ContainerSpec": container, "RestartPolicy": {"Delay": 0}}}


def images_of(pair: Swarm, service: str) -> set[str]:
    return {row["Image"] for row in pair.manager.running(service)}


def test_with_registry_auth(pair: Swarm, private: Registry, login: list[str], service: str) -> None:
    digest = private.push("team/app", "1", "first")
    image = f"{private.address}/team/app:1"
    create = [*login, "service", "create", "-d", "--mode", "global", "--restart-delay", "0s"]
    create += ["--stop-grace-period", "0s"]
    pair.manager.docker(*create, "--with-registry-auth", "--name", service, image)
    wait_until("it runs on both nodes", lambda: len(pair.manager.running(service)) == 2)
    spec = pair.manager.json("service inspect", service)[0]
    assert spec["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] == f"{image}@{digest}"
    # Nobody is told, and nothing is written that shows it.
    word = auth_of(USER, PASSWORD)[:20]
    told = json.dumps(spec) + pair.manager.docker("service ps --format '{{json .}}'", service)
    told += json.dumps(ask(pair, "GET", "/tasks")[1])
    for host in pair.hosts:
        told += host.log()
    told += json.dumps(pair.manager.json("inspect", *pair.manager.docker("ps -q").split()))
    assert PASSWORD not in told
    assert word not in told
    etcd = b"".join(each.read_bytes() for each in pair.manager.state_dir.rglob("*.wal"))
    assert service.encode() in etcd
    assert PASSWORD.encode() not in etcd
    assert auth_of(USER, PASSWORD)[:20].encode() not in etcd


def test_without_it_a_node_cannot_pull(
    pair: Swarm, private: Registry, login: list[str], service: str
) -> None:
    private.push("team/closed", "1", "first")
    image = f"{private.address}/team/closed:1"
    quickly = ["--restart-delay", "0s", "--stop-grace-period", "0s"]
    pair.manager.docker(*login, "service", "create", "-d", *quickly, "--name", service, image)
    error = wait_until(
        "it is rejected",
        lambda: [row["Error"] for row in pair.manager.tasks(service) if "Rejected" in row["CurrentState"]],
    )[0]
    assert f"No such image: {image}" in error
    # An update that brings them, and changes nothing else, lets the next task run.
    pair.manager.docker(*login, "service", "update", "-d", "--with-registry-auth", service)
    wait_until("it runs", lambda: pair.manager.running(service))
    # What users ask of the registry themselves goes through with theirs, too.
    assert "no basic auth credentials" in pair.manager.run("pull", image, check=False).stderr
    assert "Image is up to date" in pair.manager.docker(*login, "pull", image)
    account = {"username": USER, "password": PASSWORD, "serveraddress": private.address}
    assert ask(pair, "POST", "/auth", account)[1]["Status"] == "Login Succeeded"
    assert ask(pair, "POST", "/auth", {**account, "password": "wrong"})[0] >= 400


def test_credentials_alone_need_no_new_task_and_last(pair: Swarm, private: Registry, service: str) -> None:
    image = f"{private.address}/team/kept:1"
    private.push("team/kept", "1", "first")
    good = auth_of(USER, PASSWORD)
    assert ask(pair, "POST", "/services/create", spec_of(service, image), good)[0] == 201
    (first,) = wait_until("it runs", lambda: pair.manager.running(service))

    def update(query: str, auth: str = "", force: int = 0) -> tuple[int, Any]:
        _, found = ask(pair, "GET", f"/services/{service}")
        found["Spec"]["TaskTemplate"]["ForceUpdate"] = force
        version = found["Version"]["Index"]
        return ask(pair, "POST", f"/services/{service}/update?version={version}{query}", found["Spec"], auth)

    assert update("", auth_of("nobody", "x"))[0] == 200
    assert update("&registryAuthFrom=nothing") == (500, {"message": "unsupported registryAuthFrom value"})
    assert update("&registryAuthFrom=previous-spec")[0] == 200  # the good ones again
    assert [row["ID"] for row in pair.manager.running(service)] == [first["ID"]]
    pair.manager.docker("service scale -d {}=0", service)
    wait_until("all gone", lambda: not pair.manager.docker("ps -q --filter name={}.", service))
    forget(pair, image)
    pair.manager.docker("service scale -d {}=1", service)  # the client sends none: they stay
    wait_until("it runs", lambda: pair.manager.running(service))
    assert update("&registryAuthFrom=spec", force=1)[0] == 200
    wait_until("a new one runs", lambda: first["ID"] not in [r["ID"] for r in pair.manager.running(service)])


def test_a_tag_that_moved_is_asked_for_and_taken_as_it_is_where_nobody_answers(
    pair: Swarm, service: str
) -> None:
    with registry() as short_lived:
        short_lived.push("app", "latest", "first")
        image = f"{short_lived.address}/app"
        auth = auth_of(USER, PASSWORD)
        assert ask(pair, "POST", "/services/create", spec_of(service, image), auth)[0] == 201
        (row,) = wait_until("it runs", lambda: pair.manager.running(service))
        assert short_lived.requests
    # The registry is gone; the image is here.
    pair.manager.docker("service update -d --no-resolve-image --force", service)
    wait_until("another runs", lambda: [r for r in pair.manager.running(service) if r["ID"] != row["ID"]])


def test_an_old_clients_image_is_pinned_for_it(
    pair: Swarm, private: Registry, busybox_image: str, service: str
) -> None:
    digest = private.push("team/old", "latest", "first")
    image = f"{private.address}/team/old"
    spec = {**spec_of(service, image), "Mode": {"Replicated": {"Replicas": 0}}}
    status, answer = ask(pair, "POST", "/v1.29/services/create", spec, auth_of(USER, PASSWORD))
    assert (status, answer.get("Warnings")) == (201, None)
    _, found = ask(pair, "GET", f"/services/{service}")
    assert found["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] == f"{image}:latest@{digest}"
    # Its next update uses the credentials that are kept.
    second = private.push("team/old", "2", "second")
    found["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] = f"{image}:2"
    version = found["Version"]["Index"]
    status, answer = ask(pair, "POST", f"/v1.29/services/{service}/update?version={version}", found["Spec"])
    assert (status, answer.get("Warnings")) == (200, None)
    _, found = ask(pair, "GET", f"/services/{service}")
    assert found["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] == f"{image}:2@{second}"
    found["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] = "127.0.0.1:1/no/such:1"
    version = found["Version"]["Index"]
    status, answer = ask(pair, "POST", f"/v1.29/services/{service}/update?version={version}", found["Spec"])
    assert status == 200
    assert answer["Warnings"][0].startswith(
        "image 127.0.0.1:1/no/such:1 could not be accessed on a registry to record\nits digest. Each node"
    )


def test_stack_deploy_passes_them_on(
    pair: Swarm, private: Registry, login: list[str], service: str, tmp_path: Path
) -> None:
    private.push("team/stacked", "1", "first")
    image = f"{private.address}/team/stacked:1"
    compose = tmp_path / "compose.yml"
    compose.write_text(
        f"version: '3.8'\nservices:\n  app:\n    image: {image}\n    stop_grace_period: 0s\n    networks: [own]\nnetworks:\n  own:\n    driver: overlay\n"
    )
    deploy = ["stack", "deploy", "--with-registry-auth", "-c", str(compose), "st"]
    try:
        pair.manager.docker(*login, *deploy)
        wait_until("it runs", lambda: pair.manager.running("st_app"))
    finally:
        done: subprocess.CompletedProcess[str] = pair.manager.run("stack rm st", check=False)
    assert done.returncode == 0
