"""The leader's numbers, in JSON."""

from __future__ import annotations

from typing import Any

import pytest

from skep.model.states import STATE_NAMES
from tests.api_process import Api, running_api
from tests.unit.builders import add_node, add_service, add_task

pytestmark = pytest.mark.real_time


async def named(api: Api) -> dict[str, Any]:
    answer = await api.ask("GET", "/skep/v1/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    said = answer.json
    assert said["Leader"] == api.leader.node_id
    assert said["At"].endswith("Z")
    assert len(said["Metrics"]) == len({each["Name"] for each in said["Metrics"]})
    return {each["Name"]: each for each in said["Metrics"]}


def values(metric: Any, label: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for sample in metric["Samples"]:
        found[sample["Labels"][label]] = found.get(sample["Labels"][label], 0) + sample["Value"]
    return found


async def test_all_the_leader_counts_is_there_with_zeros() -> None:
    async with running_api() as api:
        found = await named(api)
        assert found["skep_tasks"]["Kind"] == "gauge"
        assert found["skep_tasks"]["Help"]
        assert values(found["skep_tasks"], "state") == dict.fromkeys(STATE_NAMES.values(), 0)
        assert found["skep_tasks_running"]["Samples"] == [{"Suffix": "", "Labels": {}, "Value": 0}]
        assert values(found["skep_materials"], "kind") == {"secret": 0, "config": 0}
        suffixes = {sample["Suffix"] for sample in found["skep_commit_seconds"]["Samples"]}
        assert suffixes == {"_bucket", "_sum", "_count"}
        assert "skep_loop_stall_max_seconds" in found  # of its process


async def test_it_says_what_the_view_has() -> None:
    async with running_api() as api:
        view = api.leader.view
        before = values((await named(api))["skep_nodes"], "state")
        add_node(view, "a")
        add_service(view, replicas=2)
        add_task(view, "t1", "a", 1)
        add_task(view, "t2", "a", 2)
        found = await named(api)
        assert values(found["skep_nodes"], "state")["ready"] == before["ready"] + 1
        assert values(found["skep_tasks"], "state")["running"] == 2
        assert values(found["skep_services"], "mode")["replicated"] == 1
