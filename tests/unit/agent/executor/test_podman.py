"""Podman as a node's engine: its words for networks, and what is refused there."""

from __future__ import annotations

from typing import Any

import pytest

from skep.agent.executor import podman
from skep.agent.executor.interfaces import TaskContext
from skep.model.container import ContainerSpec, HealthConfig, PortConfig
from skep.model.spec import TaskSpec
from skep.model.states import RUNNING
from skep.rpc.messages import AssignedTask, ServiceTemplate, TaskNetwork
from skep.runtime.errors import Invalid, Unsupported

Json = dict[str, Any]
OPTIONS = {podman.BRIDGE_OPTION: "skb4097", podman.MTU_OPTION: "1450"}
WANTED: Json = {
    "Name": "back",
    "Driver": "bridge",
    "Labels": {"skep.network": "n1"},
    "Internal": True,
    "Options": OPTIONS,
    "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.0.1.0/24", "Gateway": "10.0.1.3"}]},
}


def test_a_network_on_a_bridge_is_asked_for_without_rules_and_names_and_is_known_again() -> None:
    assert podman.is_unmanaged(WANTED)
    asked = podman.network_body(WANTED)
    assert asked["options"] == {"mode": "unmanaged", "mtu": "1450"}
    assert (asked["network_interface"], asked["dns_enabled"], asked["internal"]) == ("skb4097", False, True)
    found = podman.network_of({**asked, "id": "b079"})
    assert found["Id"] == "b079"
    assert {name: found[name] for name in WANTED} == WANTED


def test_what_podman_says_of_its_own_network_can_be_read() -> None:
    own = {"name": "podman", "id": "2f25", "driver": "bridge", "network_interface": "podman0", "labels": None}
    found = podman.network_of({**own, "subnets": [{"subnet": "10.88.0.0/16"}]})
    assert found["IPAM"]["Config"] == [{"Subnet": "10.88.0.0/16"}]
    assert (found["Labels"], found["Options"]) == ({}, {podman.BRIDGE_OPTION: "podman0"})
    assert not podman.is_unmanaged({"Driver": "bridge", "Options": {}})
    assert not podman.is_unmanaged({"Driver": "macvlan", "Options": OPTIONS})


def _context(container: ContainerSpec, *networks: str, ports: list[PortConfig] = []) -> TaskContext:  # noqa: B006
    given = [TaskNetwork(name, name, name) for name in networks]
    spec = TaskSpec(container_spec=container)
    template = ServiceTemplate("s1", 1, "web", {}, spec, ports, networks=given)
    return TaskContext(AssignedTask("t1", "s1", 1, 1, RUNNING), template, "n1", "host")


def test_health_checks_need_systemd() -> None:
    checked = _context(ContainerSpec(healthcheck=HealthConfig(test=["CMD-SHELL", "true"])))
    podman.check_supported(checked, has_systemd=True)
    with pytest.raises(Invalid, match="health checks need systemd"):
        podman.check_supported(checked, has_systemd=False)
    for test in ([], ["NONE"]):
        podman.check_supported(_context(ContainerSpec(healthcheck=HealthConfig(test=test))), False)
    podman.check_supported(_context(ContainerSpec()), False)


def test_ports_of_the_host_need_a_network_of_podmans() -> None:
    ports = [PortConfig(target_port=80, published_port=8080)]
    podman.check_supported(_context(ContainerSpec(), "bridge", ports=ports), True)
    podman.check_supported(_context(ContainerSpec(), "overlay"), True)
    with pytest.raises(Invalid, match="no port in mode host"):
        podman.check_supported(_context(ContainerSpec(), "overlay", ports=ports), True)


def test_paths_are_needed_unless_they_are_to_be_made() -> None:
    mounts = [
        {"Type": "bind", "Source": "/a", "Target": "/x"},
        {"Type": "bind", "Source": "/b", "Target": "/x", "BindOptions": {"CreateMountpoint": True}},
        {"Type": "volume", "Source": "v", "Target": "/x"},
    ]
    assert podman.needed_sources({"HostConfig": {"Mounts": mounts}}) == ["/a"]
    assert podman.needed_sources({"HostConfig": {}}) == []


def test_single_containers_are_refused_with_the_reason() -> None:
    with pytest.raises(Unsupported, match=r"attached to network back .* Podman"):
        podman.refuse_single("back")
