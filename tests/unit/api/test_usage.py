"""What of their hosts nodes take, as the API says it."""

from __future__ import annotations

import pytest

from skep.model.usage import HostUsage, NodeUsage
from tests.api_process import running_api
from tests.unit.builders import add_node, add_service, add_task

pytestmark = pytest.mark.real_time  # the API answers at a socket


async def test_what_is_known_of_each_node() -> None:
    async with running_api() as api:
        view = api.leader.view
        add_node(view, "a", cpus=4)
        add_node(view, "b", state="down", availability="drain")
        add_service(view, replicas=0)
        add_task(view, "t1", "a", 1)
        api.leader.node_usage.put("a", NodeUsage(1.5, HostUsage(2.25, 1 << 30, 3.5)))
        found = (await api.ask("GET", "/skep/v1/nodes/usage?sample=0")).json
        nodes = {each["ID"]: each for each in found["Nodes"]}
        assert nodes["a"] == {
            "ID": "a",
            "Hostname": "host-a",
            "Role": "worker",
            "State": "ready",
            "Availability": "active",
            "Leader": False,
            "NanoCPUs": 4_000_000_000,
            "MemoryBytes": 8 << 30,
            "TasksRunning": 1,
            "Usage": {
                "At": "1970-01-01T00:00:01.500000000Z",
                "CPUCores": 2.25,
                "MemoryUsedBytes": 1 << 30,
                "Load1": 3.5,
            },
        }
        assert (nodes["b"]["State"], nodes["b"]["Availability"], nodes["b"]["Usage"]) == (
            "down",
            "drain",
            None,
        )
        leader = nodes[api.leader.node_id]
        assert (leader["Leader"], leader["Role"], leader["Usage"]) == (True, "manager", None)


async def test_a_node_that_is_gone_is_not_known() -> None:
    async with running_api() as api:
        add_node(api.leader.view, "a", state="down")
        api.leader.node_usage.put("a", NodeUsage(1.5, HostUsage(2.25, 1 << 30, 3.5)))
        await api.leader.nodes.remove("a", force=True)
        assert api.leader.node_usage.of("a") is None


async def test_a_sample_is_one_or_none() -> None:
    async with running_api() as api:
        answer = await api.ask("GET", "/skep/v1/nodes/usage?sample=often")
        assert (answer.status, "sample" in answer.message) == (400, True)
