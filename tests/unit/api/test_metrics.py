"""The leader's numbers in JSON, and each daemon's as text for Prometheus."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from skep.api.exposition import CONTENT_TYPE
from skep.api.routes import metrics as routes
from skep.manager.scheduler import explain
from skep.model.kernel_net import Carried
from skep.model.service import UPDATE_STATES
from skep.model.states import STATE_NAMES
from skep.model.usage import HostUsage, NodesAsked, NodeUsage
from skep.runtime.errors import NotManager
from tests.api_process import Api, running_api
from tests.unit.builders import add_node, add_service, add_task

pytestmark = pytest.mark.real_time
SERVICE = {"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "i"}}}


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


def of(metric: Any, suffix: str = "") -> float:
    return sum(sample["Value"] for sample in metric["Samples"] if sample["Suffix"] == suffix)


async def lines(api: Api, path: str = "/metrics") -> list[str]:
    answer = await api.ask("GET", path)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == CONTENT_TYPE
    return answer.body.decode().splitlines()


async def test_all_the_leader_counts_is_there_with_zeros() -> None:
    async with running_api() as api:
        found = await named(api)
        assert found["skep_tasks"]["Kind"] == "gauge"
        assert found["skep_tasks"]["Help"]
        assert values(found["skep_tasks"], "state") == dict.fromkeys(STATE_NAMES.values(), 0)
        assert found["skep_tasks_running"]["Samples"] == [{"Suffix": "", "Labels": {}, "Value": 0}]
        assert values(found["skep_materials"], "kind") == {"secret": 0, "config": 0}
        assert values(found["skep_managers"], "reachability") == {
            "reachable": 1,
            "unreachable": 0,
            "unknown": 0,
        }
        assert values(found["skep_services_updating"], "state") == dict.fromkeys(UPDATE_STATES, 0)
        reasons = values(found["skep_placement_failures_total"], "reason")
        assert reasons == dict.fromkeys(explain.REASONS, 0)
        suffixes = {sample["Suffix"] for sample in found["skep_commit_seconds"]["Samples"]}
        assert suffixes == {"_bucket", "_sum", "_count"}
        assert of(found["skep_store_commit_seconds"], "_count") > 0  # it has written that it leads
        assert of(found["skep_root_certificate_expiry_seconds"]) > 1e9
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


async def test_tasks_that_wait_are_counted_once_for_each_reason_and_their_wait_when_it_is_over() -> None:
    async with running_api() as api:
        leader = api.leader
        body = SERVICE | {"Mode": {"Replicated": {"Replicas": 3}}}
        assert (await api.ask("POST", "/services/create", body)).status == 201
        async with asyncio.timeout(5):
            while len(leader.view.pending_ids) < 3:
                await asyncio.sleep(0.02)
        leader.reconciler.enqueue_room()  # tried again, in vain
        await asyncio.sleep(0.7)
        found = await named(api)
        assert values(found["skep_placement_failures_total"], "reason")["available"] == 3
        assert of(found["skep_placement_failures_total"]) == 3
        assert of(found["skep_scheduling_delay_seconds"], "_count") == 0
        add_node(leader.view, "a")
        leader.reconciler.enqueue_node("a")
        async with asyncio.timeout(5):
            while len(leader.view.tasks) < 3:
                await asyncio.sleep(0.02)
        delay = (await named(api))["skep_scheduling_delay_seconds"]
        assert of(delay, "_count") == 3
        assert 3 * 0.7 <= of(delay, "_sum") < 3 * 5


async def test_prometheus_is_told_all_of_it_by_ours_and_by_dockerds_names() -> None:
    async with running_api() as api:
        add_node(api.leader.view, "a")
        add_service(api.leader.view)
        add_task(api.leader.view, "t1", "a", 1)
        found = await lines(api)
        for each in await named(api):
            assert f"# TYPE {each} " in "\n".join(found)
        for line in (
            "swarm_manager_leader 1.0",
            "swarm_node_manager 1.0",
            'swarm_manager_nodes{state="ready"} 1.0',
            'swarm_manager_nodes{state="disconnected"} 0.0',
            'swarm_manager_tasks_total{state="running"} 1.0',
            "swarm_manager_services_total 1.0",
            "swarm_manager_secrets_total 0.0",
            "swarm_raft_transaction_latency_seconds_count",
        ):
            assert any(each.startswith(line) for each in found), line
        assert sum(line.startswith("swarm_manager_tasks_total{") for line in found) == len(STATE_NAMES)
        assert await lines(api, "/v1.41/metrics")


async def test_who_does_not_lead_says_what_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_api() as api:

        def manager() -> None:
            raise NotManager("another one leads")

        monkeypatch.setattr(api.node, "manager", manager)
        found = await lines(api)
        assert "swarm_manager_leader 0.0" in found
        assert any(line.startswith("skep_loop_stall_seconds_count ") for line in found)
        assert not any(line.startswith(("swarm_manager_nodes", "skep_tasks", "skep_nodes")) for line in found)
        for path in ("/metrics/nodes", "/metrics/services"):
            assert all(line.startswith("#") for line in await lines(api, path))


async def test_nodes_and_services_have_paths_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "KEPT_S", -1.0)
    async with running_api() as api:
        view = api.leader.view
        add_node(view, "a", cpus=4)
        add_node(view, "b", state="down")
        add_service(view, replicas=3)
        add_task(view, "t1", "a", 1)
        api.leader.node_usage.put("a", NodeUsage(time.time(), HostUsage(1.5, 1 << 30, 0.1)))
        api.leader.node_usage.put("b", NodeUsage(time.time() - 120, HostUsage(3.5, 1 << 30, 0.1)))
        found = await lines(api, "/metrics/nodes")
        for line in (
            'skep_node_info{engine_version="",hostname="host-a",node_id="a",role="worker"} 1.0',
            'skep_node_up{node_id="a"} 1.0',
            'skep_node_up{node_id="b"} 0.0',
            'skep_node_tasks_running{node_id="a"} 1.0',
            'skep_node_tasks_running{node_id="b"} 0.0',
            'skep_node_cpu_cores{node_id="a"} 4.0',
            'skep_node_cpu_cores_used{node_id="a"} 1.5',
            'skep_node_memory_used_bytes{node_id="a"} 1073741824.0',
        ):
            assert line in found
        assert not any(line.startswith('skep_node_cpu_cores_used{node_id="b"') for line in found)
        labels = '{service_id="s",service_name="name-s"}'
        found = await lines(api, "/metrics/services")
        assert f"skep_service_tasks_desired{labels} 3.0" in found
        assert f"skep_service_tasks_running{labels} 1.0" in found
        assert f"skep_service_tasks_pending{labels} 0.0" in found


async def test_each_node_says_what_it_has_led_to_services(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_api() as api:
        asked = 0

        async def carried() -> list[tuple[str, Carried]]:
            nonlocal asked
            asked += 1
            return [('we"b', Carried("8080/tcp", 3, 300, 1 << 60)), ("db", Carried("10.1.0.2", 1, 60, 0))]

        monkeypatch.setattr(api.node, "carried", carried)
        found = await lines(api, "/metrics/mesh")
        for line in (
            "# TYPE skep_mesh_connections_total counter",
            'skep_mesh_connections_total{service_name="we\\"b",to="8080/tcp"} 3.0',
            'skep_mesh_received_bytes_total{service_name="db",to="10.1.0.2"} 60.0',
            f'skep_mesh_sent_bytes_total{{service_name="we\\"b",to="8080/tcp"}} {float(1 << 60)!r}',
        ):
            assert line in found
        assert await lines(api, "/metrics/mesh") == found
        assert asked == 1, "reading counters takes a while, and anybody may ask"


async def test_nodes_are_asked_what_they_use_where_somebody_wants_to_know_but_not_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running_api() as api:
        ages: list[float] = []

        async def ask_nodes(age_s: float) -> NodesAsked:
            ages.append(age_s)
            return NodesAsked(1, 1)

        monkeypatch.setattr(api.leader.usage, "ask_nodes", ask_nodes)
        await lines(api, "/metrics/nodes")
        assert ages == []
        await lines(api, "/metrics/nodes?usage=1")
        await lines(api, "/metrics/nodes?usage=true")
        assert ages == [routes.SCRAPED_S], "who asks at once again gets the same"
        assert (await api.ask("GET", "/metrics/nodes?usage=some")).status == 400


async def test_who_asks_at_once_again_gets_the_same() -> None:
    """What costs a loop over the nodes costs it once a second, whoever asks how often."""
    async with running_api() as api:
        first = await lines(api, "/metrics/nodes")
        add_node(api.leader.view, "a")
        assert await lines(api, "/metrics/nodes") == first
        await asyncio.sleep(routes.KEPT_S + 0.1)
        assert 'skep_node_up{node_id="a"} 1.0' in await lines(api, "/metrics/nodes")


async def test_many_who_ask_at_once_have_it_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reaches the metrics' address may ask: it is not to keep a leader from its own work."""
    written = 0

    def exposed(*given: Any) -> bytes:
        nonlocal written
        written += 1
        return real(*given)

    real = routes.exposed
    monkeypatch.setattr(routes, "exposed", exposed)
    monkeypatch.setattr(routes, "MOMENT_S", 60.0)
    async with running_api() as api:
        await asyncio.gather(*(lines(api) for _ in range(50)))
        assert written == 1


class Unwalkable(dict[Any, Any]):
    """Can be asked for one of its members, and for how many there are."""

    def _refuse(self, *_: Any) -> Any:
        raise AssertionError("reading a metric walks what there is one of for each task or node")

    __iter__ = keys = values = items = _refuse


async def test_reading_walks_no_tasks_and_no_nodes() -> None:
    async with running_api() as api:
        view = api.leader.view
        for n in range(40):
            add_node(view, f"n{n}")
        add_service(view, replicas=400)
        for n in range(400):
            add_task(view, f"t{n}", f"n{n % 40}", n + 1)
        for name, held in vars(view).items():
            if isinstance(held, dict) and len(held) >= 40:
                setattr(view, name, Unwalkable(held))
        assert isinstance(view.tasks, Unwalkable)
        assert isinstance(view.nodes, Unwalkable)
        with pytest.raises(AssertionError, match="walks"):
            list(view.tasks.values())
        assert sum(of(each) for each in [(await named(api))["skep_tasks"]]) == 400
        assert 'swarm_manager_tasks_total{state="running"} 400.0' in await lines(api)
