"""Networks of a swarm keep clear of what its hosts have of their own, and say where they cannot."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.mesh_image import IMAGE

from .fixtures import swarm_fixture
from .hosts import wait_until
from .mesh import MeshHost, MeshSwarm
from .skep_cli import skep_ok

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


class HomeSwarm(MeshSwarm):
    """All are at home, where the LAN has the first subnet of Docker's own pool."""

    pool = ()

    def _make(self) -> None:
        super()._make()
        for number, host in enumerate(self.hosts):
            plug(host, "home", f"10.0.0.{7 + number}/24")


def plug(host: MeshHost, device: str, address: str) -> None:
    host.space.run("ip", "link", "add", device, "type", "bridge")
    host.space.run("ip", "addr", "add", address, "dev", device)
    host.space.run("ip", "link", "set", device, "up")


swarm = swarm_fixture(HomeSwarm)


def subnet_of(swarm: HomeSwarm, network: str) -> str:
    return swarm.manager.docker("network inspect -f '{{(index .IPAM.Config 0).Subnet}}'", network)


def message_of(swarm: HomeSwarm, node: str) -> str:
    return swarm.manager.docker("node inspect -f {{.Status.Message}}", node)


def tasks_of(swarm: HomeSwarm, service: str) -> list[dict[str, Any]]:
    listed = swarm.manager.docker("service ps --no-trunc --format '{{json .}}'", service)
    return [json.loads(line) for line in listed.splitlines()]


def test_networks_are_made_around_what_the_first_host_has(swarm: HomeSwarm) -> None:
    assert subnet_of(swarm, "ingress") == "10.0.1.0/24"
    swarm.manager.docker("network create -d overlay --attachable back")
    assert subnet_of(swarm, "back") == "10.0.2.0/24"


def test_a_subnet_that_all_hosts_have_is_refused_with_who_has_it(swarm: HomeSwarm) -> None:
    create = ("network", "create", "-d", "overlay", "--subnet", "10.0.0.128/25", "front")
    refused = swarm.manager.run(*create, check=False)
    assert refused.returncode != 0
    assert (
        "10.0.0.128/25 overlaps hosts' own networks: 10.0.0.0/24 of node m (home), 10.0.0.0/24 of node"
        " w0 (home), 10.0.0.0/24 of node w1 (home). Containers there would take"
        " away the host's ways to others. Choose another one (docker network create --subnet)"
    ) in refused.stderr
    assert "front" not in swarm.manager.docker("network ls --format {{.Name}}").split()


def test_a_node_that_gets_such_a_network_later_says_so_and_gets_no_tasks_of_it(swarm: HomeSwarm) -> None:
    w0 = swarm.workers[0]
    plug(w0, "late", "10.0.2.9/24")
    overlap = "network back (10.0.2.0/24) overlaps its host's own network 10.0.2.0/24 (late)"
    wait_until("w0 says so", lambda: overlap in message_of(swarm, "w0"), 15)
    assert "docker network create --subnet" in message_of(swarm, "w0")
    assert overlap in skep_ok("net inspect w0", on=swarm.manager)
    assert message_of(swarm, "w1") == ""

    create = ("service", "create", "-d", "--no-resolve-image", "--network", "back")
    swarm.manager.docker(*create, "--name", "web", "--replicas", "4", IMAGE, "-", "80")
    swarm.manager.docker(*create, "--name", "all", "--mode", "global", IMAGE, "-", "80")

    def running(service: str) -> set[str]:
        return {t["Node"] for t in tasks_of(swarm, service) if t["CurrentState"].startswith("Running")}

    for service in ("web", "all"):
        wait_until(f"{service} runs", lambda service=service: running(service) == {"m", "w1"}, 60)
    (pending,) = [t for t in tasks_of(swarm, "all") if t["CurrentState"].startswith("Pending")]
    assert "a network of the task overlaps the host's own on 1 node" in pending["Error"]
    assert overlap in skep_ok("explain all", on=swarm.manager)

    w0.space.run("ip", "link", "del", "late")
    wait_until("its task runs on w0, too", lambda: running("all") == {"m", "w0", "w1"}, 60)
    assert message_of(swarm, "w0") == ""
