"""Networks that come and go, again and again: nothing is left, in the kernel or in the process.

SKEP_ROUNDS=1000 does it as often as anybody will.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from skep.model.mesh import Mesh
from skep.model.overlay import Overlay, OverlayEndpoint, OverlayNetwork, OverlayService

from .mesh_hosts import MeshHost, three_hosts
from .test_mesh_leaving import LISTED

pytestmark = [pytest.mark.root, pytest.mark.timeout(3600)]

ROUNDS = int(os.environ.get("SKEP_ROUNDS", "20"))
ENDPOINTS = 20
SLACK_MB = 8  # of the process's memory: an allocator keeps some of what it was given back


def _mesh(number: int, nodes: dict[str, str]) -> Mesh:
    """Returns what a node is told that has somebody on a network, and a service with an address of its own."""
    subnet = f"10.{64 + number % 64}.{number // 64 % 256}"
    network = OverlayNetwork(f"net{number}", f"{subnet}.0/24", 5000 + number, 4789, f"n{number}")
    names = sorted(nodes)
    endpoints = tuple(
        OverlayEndpoint(f"{subnet}.{10 + n}", names[n % len(names)], f"web.{n}.x") for n in range(ENDPOINTS)
    )
    service = OverlayService(f"s{number}", "web", vip=f"{subnet}.5", endpoints=endpoints)
    return Mesh(nodes=nodes, overlays={network.id: Overlay(network, nodes, {service.id: service})})


def _used(host: MeshHost) -> tuple[int, float]:
    """Returns how many descriptors the node's process has open, and its memory, in MB."""
    assert host._process is not None
    proc = Path(f"/proc/{host._process.pid}")
    resident = int((proc / "statm").read_text().split()[1])
    return len(list((proc / "fd").iterdir())), resident * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_nothing_is_left_after_many_rounds() -> None:
    with three_hosts() as lan:
        host = lan.hosts[0]
        nodes = {each.node_id: each.address for each in lan.hosts}
        before: tuple[int, float] = (0, 0.0)
        for number in range(ROUNDS):
            for mesh in (_mesh(number, nodes), Mesh(nodes=nodes)):
                assert host.told(mesh, "quick")["failures"] == []
            if number == ROUNDS // 4:
                before = _used(host)
        deadline = time.monotonic() + 30
        while "skb" in host.run("ip", "link") and time.monotonic() < deadline:
            time.sleep(0.5)
            host.told(Mesh(nodes=nodes))
        for command in (
            "ip link",
            "ip rule",
            "ip route show table all",
            "ip neigh",
            "iptables -S",
            "iptables -t nat -S",
        ):
            listed = host.run(*command.split()).splitlines()
            assert [line for line in listed if "skb" in line or "skv" in line] == []
        assert host.run(sys.executable, "-c", LISTED).strip() == "None"
        descriptors, memory_mb = _used(host)
        print(f"{ROUNDS} rounds: {before} then, {descriptors, memory_mb} now")
        assert descriptors <= before[0] + 2
        assert memory_mb <= before[1] + SLACK_MB
