"""Names as a container of a real engine finds them: by the engine's own resolver, which asks the node."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import pytest
from msgspec.structs import replace

from skep.agent.executor.docker import DockerExecutor
from skep.agent.executor.interfaces import TaskContext
from skep.agent.naming import Naming
from skep.model.overlay import Overlay, OverlayEndpoint, OverlayNetwork, OverlayService
from skep.model.task import TaskAddress
from skep.rpc.messages import TaskNetwork
from skep.runtime.clock import SystemClock

from .dns_hosts import Reply, inside
from .test_docker_executor import Node

pytestmark = [pytest.mark.engine, pytest.mark.root]

BRIDGE = "skb50077"
NETWORK = TaskNetwork("dnsnet", "dnsapp", "overlay", "198.18.77.0/24", bridge=BRIDGE, aliases=["web"])
OWN, ELSEWHERE, GATEWAY = "198.18.77.5", "198.18.77.200", "198.18.77.2"


def overlay(context: TaskContext) -> Overlay:
    """Returns the network with the task, and another one on another node."""
    name = f"web.1.{context.task.id}"
    endpoints = (OverlayEndpoint(OWN, context.node_id, name), OverlayEndpoint(ELSEWHERE, "n2", "web.2.x"))
    network = OverlayNetwork(NETWORK.id, NETWORK.subnet, 50077, 4789, NETWORK.name)
    return Overlay(network, {}, {"svc1": OverlayService("svc1", "web", ("www",), "", endpoints)})


@pytest.fixture
async def node(engine_socket: str, busybox_image: str) -> AsyncIterator[Node]:
    made = Node(engine_socket, busybox_image)
    yield made
    await made.close()
    for network in await made.engine.networks(f"com.docker.swarm.network.id={NETWORK.id}"):
        await made.engine.remove_network(network["Id"])
    subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True)


@pytest.mark.parametrize("is_internal", [False, True])
async def test_a_task_finds_tasks_of_other_nodes_also_after_a_restart(node: Node, is_internal: bool) -> None:
    naming = Naming()
    naming.start()
    node.executor.use_names(naming)
    await node.start()
    made = node.context()
    template = replace(made.template, networks=[replace(NETWORK, is_internal=is_internal)])
    address = TaskAddress(NETWORK.id, f"{OWN}/24", f"{GATEWAY}/24")
    context = replace(made, template=template, task=replace(made.task, addresses=(address,)))
    naming.told({NETWORK.id: overlay(context)}, frozenset())
    seen = await node.run(context)
    space = Path(f"/proc/{seen.pid}/ns/net")
    await _assert_finds(space, context)
    # Of the engine's own network: the container, by the name that it has there, too.
    assert (await _ask(space, f"web.1.{context.task.id}")).records == [OWN]

    await naming.close()
    await node.executor.close()
    try:
        code = (await _ask(space, "web", wait_s=2)).code
    except dns.exception.Timeout:  # as engines of before 28 have it
        code = ""
    assert code in ("", "SERVFAIL"), "what nobody is asked about is not said to be nowhere"
    again = Naming()
    again.start()
    node.executor = DockerExecutor(node.socket, "host-1", SystemClock())
    node.executor.use_names(again)
    await node.start()
    await node.executor.adopt()
    again.told({NETWORK.id: overlay(context)}, frozenset())
    await _assert_finds(space, context)
    assert again.failures == []
    await again.close()


async def _assert_finds(space: Path, context: TaskContext) -> None:
    for name in ("web", "tasks.web", "www", "WEB", "web.dnsapp"):
        assert sorted((await _ask(space, name)).records) == sorted([OWN, ELSEWHERE]), name
        assert repr(await _ask(space, name, "AAAA")) == "NOERROR []", name
    assert (await _ask(space, "web.2.x")).records == [ELSEWHERE]
    assert (await _ask(space, "200.77.18.198.in-addr.arpa", "PTR")).records == ["web.2.x.dnsapp."]


async def _ask(space: Path, name: str, kind: str = "A", wait_s: float = 10) -> Reply:
    """Returns what a program in the container is told by the engine's resolver."""
    asked = dns.message.make_query(name, kind)

    def ask() -> Reply:
        return Reply(inside(space, lambda: dns.query.udp(asked, "127.0.0.11", timeout=wait_s)))

    return await asyncio.to_thread(ask)
