"""Overlay networks through the docker client."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from .hosts import Swarm, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

STACK = """
services:
  web: {image: "%s", command: "sleep 1d", networks: [front, default]}
  db: {image: "%s", command: "sleep 1d"}
networks: {front: {}}
"""


def test_networks_of_the_swarm_and_of_the_engine_are_one_list(swarm: Swarm) -> None:
    manager = swarm.manager
    manager.docker("network", "create", "-d", "overlay", "--label", "of=me", "listed")
    manager.docker("network", "create", "local1")
    try:
        rows = manager.docker("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}").splitlines()
        assert {"listed overlay swarm", "ingress overlay swarm", "local1 bridge local"} <= set(rows)
        assert len(rows) == len(set(rows))
        swarms = manager.docker("network", "ls", "--filter", "scope=swarm", "--format", "{{.Name}}")
        assert set(swarms.splitlines()) == {"listed", "ingress"}
        assert manager.docker("network", "ls", "-q", "--filter", "label=of=me", "--no-trunc") == str(
            manager.json("network", "inspect", "listed")[0]["Id"]
        )
        for name in ("listed", "local1"):
            refused = manager.run("network", "create", "-d", "overlay", name, check=False)
            assert f"network with name {name} already exists" in refused.stderr
        assert "already exists" in manager.run("network", "create", "listed", check=False).stderr
    finally:
        assert manager.docker("network", "rm", "listed", "local1") == "listed\nlocal1"


def test_inspect_shows_what_was_asked_for_and_what_was_given(swarm: Swarm) -> None:
    manager = swarm.manager
    options = "--attachable --internal --subnet 10.77.0.0/24 --gateway 10.77.0.9 --opt encrypted"
    network_id = manager.docker("network", "create", "-d", "overlay", *options.split(), "shown")
    try:
        (found,) = manager.json("network", "inspect", "shown")
        assert found["Id"] == network_id
        assert found["IPAM"]["Config"] == [{"Subnet": "10.77.0.0/24", "Gateway": "10.77.0.9"}]
        assert found["Options"]["encrypted"] == ""
        assert int(found["Options"]["com.docker.network.driver.overlay.vxlanid_list"]) > 4096
        assert (found["Attachable"], found["Internal"], found["Ingress"]) == (True, True, False)
        (again,) = manager.json("network", "inspect", network_id[:8])
        assert again == found
    finally:
        manager.docker("network", "rm", "shown")
    assert "not found" in manager.run("network", "inspect", "shown", check=False).stderr


def test_a_worker_refuses_to_make_networks_of_the_swarm(swarm: Swarm) -> None:
    refused = swarm.workers[0].run("network", "create", "-d", "overlay", "x", check=False)
    assert "This node is not a swarm manager" in refused.stderr


def test_a_stack_is_deployed_with_its_networks_and_taken_away(
    swarm: Swarm, busybox_image: str, tmp_path: Path
) -> None:
    manager = swarm.manager
    compose = tmp_path / "c.yml"
    compose.write_text(STACK % (busybox_image, busybox_image))
    manager.docker("stack", "deploy", "-d", "-c", str(compose), "st")
    try:
        ids = {n["Name"]: n["Id"] for n in manager.json("network", "inspect", "st_default", "st_front")}
        (service,) = manager.json("service", "inspect", "st_web")
        attached = {each["Target"] for each in service["Spec"]["TaskTemplate"]["Networks"]}
        assert attached == set(ids.values())
        refused = manager.run("network", "rm", "st_front", check=False)
        assert f"is in use by service {service['ID']}" in refused.stderr
        wait_until("the stack runs", lambda: manager.running("st_web") and manager.running("st_db"))
    finally:
        manager.docker("stack", "rm", "st")
    assert manager.docker("network", "ls", "-q", "--filter", "name=st_") == ""


def test_tasks_have_the_addresses_that_the_swarm_gave_them(swarm: Swarm, busybox_image: str) -> None:
    manager = swarm.manager
    manager.docker("network", "create", "-d", "overlay", "--subnet", "10.78.0.0/24", "net")
    options = [
        "--name",
        "web",
        "--replicas",
        "3",
        "--network",
        "name=net,alias=www",
        "-p",
        "8095:80",
        "--stop-signal",
        "KILL",
    ]
    created = manager.run("service", "create", "-d", *options, busybox_image, "sleep", "1d")
    try:
        assert "no routing mesh yet" in created.stderr
        wait_until("three run", lambda: len(manager.running("web")) == 3)
        (service,) = manager.json("service", "inspect", "web")
        ports = service["Endpoint"]["Ports"]
        assert [(p["PublishedPort"], p["PublishMode"]) for p in ports] == [(8095, "ingress")]
        assert manager.docker("service", "ls", "--format", "{{.Ports}}") == "*:8095->80/tcp"
        assert [v["Addr"].partition(".")[0] for v in service["Endpoint"]["VirtualIPs"]] == ["10", "10"]
        given: dict[str, str] = {}
        for row in manager.running("web"):
            (task,) = manager.json("inspect", "--type", "task", row["ID"])
            networks = {a["Network"]["Spec"]["Name"]: a["Addresses"] for a in task["NetworksAttachments"]}
            assert set(networks) == {"net", "ingress"}
            given[task["Status"]["ContainerStatus"]["ContainerID"]] = networks["net"][0]
        assert len(set(given.values())) == 3
        for container, address in given.items():
            (inspected,) = manager.json("inspect", container)
            attached = inspected["NetworkSettings"]["Networks"]
            assert attached["net"]["IPAddress"] == address.partition("/")[0]
        (network,) = manager.json("network", "inspect", "net")
        assert {c: e["IPv4Address"] for c, e in network["Containers"].items()} == given
        first = next(iter(given))
        found = manager.docker("exec", first, "nslookup", "www")
        assert all(address.partition("/")[0] in found for address in given.values())
        rows = manager.docker("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}").splitlines()
        assert [row for row in rows if row.startswith(("net ", "ingress "))] == [
            "ingress overlay swarm",
            "net overlay swarm",
        ]
        swarm.workers[0].docker("network", "inspect", "net")
        (verbose,) = manager.json("network", "inspect", "--verbose", "net")
        tasks = verbose["Services"]["web"]["Tasks"]
        assert {task["EndpointIP"] for task in tasks} == {a.partition("/")[0] for a in given.values()}
        assert verbose["Services"]["web"]["VIP"] in [
            v["Addr"].partition("/")[0] for v in service["Endpoint"]["VirtualIPs"]
        ]
    finally:
        manager.docker("service", "rm", "web")
    manager.docker("network", "rm", "net")
    engine = ("docker", "-H", swarm.engine, "network", "ls", "-q", "--filter", "name=^net$")

    def bridges() -> str:
        return subprocess.run(engine, check=True, capture_output=True, text=True).stdout

    wait_until("the bridges are gone", lambda: not bridges())


def test_single_containers_are_kept_from_the_bridges_of_the_swarms_networks(
    swarm: Swarm, busybox_image: str
) -> None:
    """The engine would give them the addresses of tasks."""
    manager = swarm.manager
    manager.docker("network", "create", "-d", "overlay", "closed")
    manager.docker("network", "create", "-d", "overlay", "--attachable", "open")
    container = manager.docker("create", busybox_image, "true")
    texts = {"closed": "network closed not manually attachable", "open": "not supported by this version"}
    try:
        for name, text in texts.items():
            for command in (
                ["run", "--rm", "--network", name, busybox_image, "true"],
                ["network", "connect", name, container],
            ):
                refused = manager.run(*command, check=False)
                assert refused.returncode != 0
                assert text in refused.stderr
        assert "hello" in manager.docker("run", "--rm", "--network", "none", busybox_image, "echo", "hello")
    finally:
        manager.docker("rm", container)
        manager.docker("network", "rm", "closed", "open")


def test_nodes_own_networks_can_be_a_services(swarm: Swarm, busybox_image: str) -> None:
    manager = swarm.manager
    manager.docker(
        "service",
        "create",
        "-q",
        "--name",
        "hn",
        "--network",
        "host",
        "--stop-signal",
        "KILL",
        busybox_image,
        "sleep",
        "1d",
    )
    try:
        (row,) = manager.running("hn")
        (task,) = manager.json("inspect", "--type", "task", row["ID"])
        (inspected,) = manager.json("inspect", task["Status"]["ContainerStatus"]["ContainerID"])
        assert inspected["HostConfig"]["NetworkMode"] == "host"
    finally:
        manager.docker("service", "rm", "hn")


def test_a_published_port_is_one_services(swarm: Swarm, busybox_image: str) -> None:
    manager = swarm.manager
    manager.docker(
        "service", "create", "-d", "--name", "p1", "--replicas", "0", "-p", "8096:80", busybox_image
    )
    try:
        refused = manager.run("service", "create", "-d", "-p", "8096:81", busybox_image, check=False)
        assert "port '8096' is already in use by service 'p1'" in refused.stderr
        assert "as an ingress port" in refused.stderr
        manager.docker("service", "update", "-d", "--publish-rm", "80", "--publish-add", "90", "p1")
        assert manager.docker("service", "ls", "--format", "{{.Ports}}") == "*:30000->90/tcp"
    finally:
        manager.docker("service", "rm", "p1")


def test_prune_removes_what_nobody_uses(swarm: Swarm) -> None:
    manager = swarm.manager
    manager.docker("network", "create", "-d", "overlay", "idle")
    assert "idle" in manager.docker("network", "prune", "-f")
    left = manager.docker("network", "ls", "--filter", "scope=swarm", "--format", "{{json .}}")
    assert [json.loads(line)["Name"] for line in left.splitlines()] == ["ingress"]
