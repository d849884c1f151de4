"""Overlay networks through the docker client."""

from __future__ import annotations

import json
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


def test_prune_removes_what_nobody_uses(swarm: Swarm) -> None:
    manager = swarm.manager
    manager.docker("network", "create", "-d", "overlay", "idle")
    assert "idle" in manager.docker("network", "prune", "-f")
    left = manager.docker("network", "ls", "--filter", "scope=swarm", "--format", "{{json .}}")
    assert [json.loads(line)["Name"] for line in left.splitlines()] == ["ingress"]
