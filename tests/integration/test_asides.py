"""A decider that fails for one service or node costs nobody else a decision, and no manager the lead."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from skep.manager import asides, quorum, reconcile
from skep.manager.allocator import tasks as addresses
from skep.manager.orchestrator import global_service, replicated, slot
from skep.manager.rollouts import Rollouts
from skep.manager.scheduler.place import Round
from skep.model.node import READY, Node, NodeDescription, NodeResources, NodeStatus
from skep.runtime.errors import Deposed, Unavailable
from skep.store import buckets, codec
from tests.api_process import Api, running_api

pytestmark = pytest.mark.timeout(60)

BAD = "bad"
TROUBLE = "the decider has come to nothing"


class Fault(Exception):
    """What nobody thought of."""


def fails_for_bad(what: Callable[..., Any], service_of: Callable[..., set[str]]) -> Callable[..., Any]:
    """Returns the function, which fails for services of that name."""

    def failing(*given: Any, **named: Any) -> Any:
        if BAD in service_of(*given):
            raise Fault(TROUBLE)
        return what(*given, **named)

    return failing


@pytest.fixture
async def api(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    monkeypatch.setattr(asides, "AGAIN_MIN_S", 0.3)
    with capture_logs():  # traces as a terminal has them take a second each
        async with running_api() as made:
            ready(made)
            yield made


def ready(api: Api) -> None:
    """Its node can take tasks."""
    view = api.leader.view
    (node,) = view.nodes.values()
    resources = NodeResources(nano_cpus=8_000_000_000, memory_bytes=1 << 33)
    view.put_node(replace(node, description=replace(node.description, resources=resources)))
    view.put_node_status(node.id, NodeStatus(READY))
    api.leader.reconciler.enqueue_node(node.id)


async def create(api: Api, name: str, mode: dict[str, Any] | None = None) -> str:
    spec = {
        "Name": name,
        "TaskTemplate": {"ContainerSpec": {"Image": "busybox"}},
        "Mode": mode or {"Replicated": {"Replicas": 2}},
    }
    answer = await api.ask("POST", "/v1.51/services/create", spec)
    assert answer.status == 201, answer.message
    return str(answer.json["ID"])


async def tasks_of(api: Api, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (
        await api.ask("GET", f'/v1.51/tasks?filters={{"service":{{"{name}":true}}}}')
    ).json
    return found


async def until(what: str, test: Callable[[], Any]) -> None:
    try:
        async with asyncio.timeout(10):
            while not test():
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"not within 10 s: {what}")


def live(api: Api, service_id: str) -> int:
    return sum(api.leader.view.live.get(service_id, {}).values())


DECIDERS = {
    "scale": (replicated, "decide_scale", lambda view, service, *_: {service.spec.name}),
    "step": (Rollouts, "take", lambda steps, service, *_: {service.spec.name}),
    "slot": (slot, "decide_slot", lambda view, service, *_: {service.spec.name}),
    "scheduler": (
        Round,
        "place",
        lambda round_, wanted: {round_._view.services[w.service_id].spec.name for w in wanted},
    ),
    "allocator": (
        addresses,
        "give",
        lambda view, tasks: {view.services[t.service_id].spec.name for t in tasks},
    ),
}


@pytest.mark.parametrize("decider", [name for name in DECIDERS if name != "slot"])
async def test_a_service_that_a_decider_fails_on_is_set_aside_and_the_others_go_on(
    api: Api, monkeypatch: pytest.MonkeyPatch, decider: str
) -> None:
    module, name, service_of = DECIDERS[decider]
    whole = getattr(module, name)
    monkeypatch.setattr(module, name, fails_for_bad(whole, service_of))
    api.leader.reconciler.enqueue_room()
    first = await create(api, "first")
    bad = await create(api, BAD)
    last = await create(api, "last")
    await until("the others have their tasks", lambda: live(api, first) == live(api, last) == 2)
    await until("the bad one is set aside", lambda: ("service", bad) in api.leader.view.asides)
    assert live(api, bad) == 0
    assert api.leader.is_sure

    shown = await tasks_of(api, BAD)
    assert shown
    assert all(TROUBLE in each["Status"]["Err"] for each in shown), "docker service ps"
    explained = (await api.ask("GET", f"/skep/v1/services/{BAD}/explain")).json
    assert TROUBLE in explained["Sentences"][0]
    (aside,) = (await api.ask("GET", "/skep/v1/asides")).json["Asides"]
    assert (aside["Kind"], aside["ID"], aside["Name"]) == ("service", bad, BAD)
    assert any(bad in each for each in (await api.ask("GET", "/v1.51/info")).json["Warnings"])

    monkeypatch.setattr(module, name, whole)
    await until("it is tried again by itself", lambda: live(api, bad) == 2)
    assert not api.leader.view.asides
    assert len(await tasks_of(api, BAD)) == 2


async def test_a_slot_that_fails_costs_its_service_only_and_its_tasks_stay(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, other = await create(api, BAD), await create(api, "other")
    await until("both have their tasks", lambda: live(api, bad) == live(api, other) == 2)
    before = {task.id for task in api.leader.view.tasks_of_service(bad)}
    _, _, service_of = DECIDERS["slot"]
    monkeypatch.setattr(slot, "decide_slot", fails_for_bad(slot.decide_slot, service_of))
    (node_id,) = api.leader.view.nodes
    api.leader.reconciler.enqueue_node(node_id)
    await until("the bad one is set aside", lambda: ("service", bad) in api.leader.view.asides)
    for name, replicas in ((BAD, 5), ("other", 5)):
        service = api.leader.view.services[api.leader.view.service_ids[name]]
        mode = replace(service.spec.mode, replicated=replace(service.spec.mode.replicated, replicas=replicas))
        await api.leader.services.update(service.id, service.version, replace(service.spec, mode=mode))
    await until("the other one goes on", lambda: live(api, other) == 5)
    assert {task.id for task in api.leader.view.tasks_of_service(bad)} >= before
    assert all(t.desired_state < 600 for t in api.leader.view.tasks_of_service(bad))


async def test_a_change_of_the_service_is_tried_at_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asides, "AGAIN_MIN_S", 100.0)
    whole = replicated.decide_scale
    monkeypatch.setattr(
        replicated,
        "decide_scale",
        fails_for_bad(
            whole, lambda view, service, *_: {service.spec.name} if service.spec.replicas == 2 else set()
        ),
    )
    bad = await create(api, BAD)
    await until("it is set aside", lambda: ("service", bad) in api.leader.view.asides)
    await asyncio.sleep(0.3)
    assert api.leader.view.asides["service", bad].tries == 1, "it is not tried before its time"
    service = api.leader.view.services[bad]
    mode = replace(service.spec.mode, replicated=replace(service.spec.mode.replicated, replicas=3))
    await api.leader.services.update(bad, service.version, replace(service.spec, mode=mode))
    await until("it is decided about", lambda: live(api, bad) == 3)
    assert not api.leader.view.asides


async def test_tries_come_later_and_later(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asides, "AGAIN_MIN_S", 0.05)
    tried: list[float] = []

    def failing(*given: Any) -> Any:
        tried.append(asyncio.get_running_loop().time())
        raise Fault(TROUBLE)

    monkeypatch.setattr(replicated, "decide_scale", failing)
    await create(api, BAD)
    await until("it was tried", lambda: len(tried) == 5)
    waits = [after - before for before, after in itertools.pairwise(tried)]
    # A busy machine makes each of them longer, and none shorter.
    assert all(wait >= 0.9 * 0.05 * 2**number for number, wait in enumerate(waits)), waits


async def test_a_removed_service_goes_though_it_was_set_aside(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asides, "AGAIN_MIN_S", 100.0)
    bad = await create(api, BAD)
    await until("it has its tasks", lambda: live(api, bad) == 2)
    monkeypatch.setattr(
        replicated, "decide_scale", fails_for_bad(replicated.decide_scale, lambda v, s, *_: {s.spec.name})
    )
    api.leader.reconciler.enqueue_service(bad)
    await until("it is set aside", lambda: ("service", bad) in api.leader.view.asides)
    assert (await api.ask("DELETE", f"/v1.51/services/{BAD}")).status == 200
    for task in list(api.leader.view.tasks_of_service(bad)):
        api.leader.view.put_status(task, replace(slot_ended(), at=1.0))
        api.leader.reconciler.enqueue_slot(bad, task.slot)
    await until("its tasks go", lambda: not api.leader.view.slots.get(bad))
    assert not api.leader.view.asides


def slot_ended() -> Any:
    from skep.model.states import SHUTDOWN
    from skep.model.task import TaskStatus

    return TaskStatus(SHUTDOWN, 0.0)


async def test_a_node_that_fails_alone_is_to_blame_and_not_the_services(api: Api) -> None:
    """What one node has said, and nobody can reckon with, stopped every decision on every manager."""
    view = api.leader.view
    (good,) = view.nodes.values()
    broken = replace(good, id="broken", spec=replace(good.spec, role="worker"))
    resources = NodeResources(nano_cpus="many", memory_bytes=1 << 33)  # type: ignore[arg-type]
    view.put_node(replace(broken, description=replace(good.description, hostname="odd", resources=resources)))
    view.put_node_status("broken", NodeStatus(READY))
    api.leader.reconciler.enqueue_node("broken")
    web, everyone = await create(api, "web"), await create(api, "everyone", {"Global": {}})
    await until("both services have tasks", lambda: live(api, web) == 2 and live(api, everyone) == 1)
    assert list(view.asides) == [("node", "broken")]

    (shown,) = [n for n in (await api.ask("GET", "/v1.51/nodes")).json if n["ID"] == "broken"]
    assert shown["Status"]["State"] == "unknown"
    assert "set aside" in shown["Status"]["Message"]
    explained = (await api.ask("GET", "/skep/v1/services/web/explain")).json
    assert any("odd takes no tasks" in each for each in explained["Sentences"])

    view.put_node(replace(broken, version=good.version + 1))
    api.leader.reconciler.enqueue_node("broken")
    await until("it is a node like others", lambda: live(api, everyone) == 2)
    assert not view.asides


async def test_what_cannot_be_written_costs_nobody_else(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = buckets.encode_bucket

    def encode(tasks: Any) -> bytes:
        kept = list(tasks)
        if any(api.leader.view.services[t.service_id].spec.name == BAD for t in kept):
            raise OverflowError("can't be written")
        return whole(kept)

    monkeypatch.setattr(buckets, "encode_bucket", encode)
    bad, other = await create(api, BAD), await create(api, "other")
    await until("the other one goes on", lambda: live(api, other) == 2)
    await until("the bad one is set aside", lambda: ("service", bad) in api.leader.view.asides)
    monkeypatch.setattr(buckets, "encode_bucket", whole)
    await until("it goes on", lambda: live(api, bad) == 2)


async def test_a_global_service_that_fails_costs_nobody_else(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = global_service.wants
    monkeypatch.setattr(
        global_service, "wants", fails_for_bad(whole, lambda view, service, node: {service.spec.name})
    )
    bad, other = await create(api, BAD, {"Global": {}}), await create(api, "other", {"Global": {}})
    await until("the other one goes on", lambda: live(api, other) == 1)
    await until("the bad one is set aside", lambda: ("service", bad) in api.leader.view.asides)


async def test_a_pass_that_fails_is_begun_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is of no service alone."""
    monkeypatch.setattr(reconcile, "AGAIN_MIN_S", 0.1)
    failed: list[int] = []
    whole = reconcile.Reconciler._finish_removed

    def failing(self: Any, changes: Any) -> None:
        if len(failed) < 3:
            failed.append(1)
            raise Fault(TROUBLE)
        whole(self, changes)

    monkeypatch.setattr(reconcile.Reconciler, "_finish_removed", failing)
    web = await create(api, "web")
    await until("it is decided", lambda: live(api, web) == 2)
    assert len(failed) == 3


async def test_the_loss_of_the_lead_still_ends_it(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*given: Any) -> Any:
        raise Deposed

    monkeypatch.setattr(replicated, "decide_scale", failing)
    leading = api.leading
    await create(api, "web")
    await until("the leader has ended", leading.done)
    assert leading.exception() is None


async def test_another_part_of_the_leader_that_fails_costs_no_lead(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The care for managers decides about each member: it failed every leader in turn."""
    whole, failed = quorum.decide, []

    def failing(*given: Any) -> Any:
        failed.append(1)
        raise Fault(TROUBLE)

    monkeypatch.setattr(quorum, "decide", failing)
    web = await create(api, "web")
    await until("it has failed again", lambda: len(failed) >= 2)
    await until("others go on", lambda: live(api, web) == 2)
    assert not api.leading.done()
    monkeypatch.setattr(quorum, "decide", whole)


async def test_a_node_that_cannot_be_written_keeps_no_other_from_it(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = codec.encode_object

    def encode(value: Any) -> bytes:
        if isinstance(value, Node) and value.description.hostname == BAD:
            raise OverflowError("can't be written")
        return whole(value)

    monkeypatch.setattr(codec, "encode_object", encode)
    said = [NodeDescription(hostname=name) for name in ("a", BAD, "b")]
    nodes = api.leader.nodes
    added = await asyncio.gather(
        *(nodes.add(f"new-{d.hostname}", "worker", "active", d, "10.0.0.1") for d in said),
        return_exceptions=True,
    )
    assert [getattr(each, "id", type(each).__name__) for each in added] == ["new-a", "Invalid", "new-b"]
    writer = api.leader._writer
    for node_id, hostname in (("new-a", BAD), ("new-b", "c")):
        writer.describe(node_id, NodeDescription(hostname=hostname), "10.0.0.1")
    await until("the other is written", lambda: api.leader.view.nodes["new-b"].description.hostname == "c")
    await asyncio.sleep(0.3)
    assert api.leader.view.nodes["new-a"].description.hostname == "a"
    assert not api.leading.done()


async def test_in_safe_mode_orders_are_written_and_nothing_is_decided() -> None:
    with capture_logs() as logs:
        async with running_api(safe_mode=True) as api:
            ready(api)
            web = await create(api, "web")
            written = api.state.changed_at
            await asyncio.sleep(0.5)
            assert live(api, web) == 0
            assert api.state.changed_at == written, "the order, and no writes of the leader's own"
            warnings = (await api.ask("GET", "/v1.51/info")).json["Warnings"]
            assert any("safe mode" in each for each in warnings)
            assert (await api.ask("DELETE", "/v1.51/services/web")).status == 200
            with pytest.raises(Unavailable, match="safe mode"):
                await api.leader.nodes.add("n", "worker", "active", NodeDescription(hostname="n"), "")
            assert not api.leading.done()
    assert [each for each in logs if each["event"] == "leader.safe_mode"]
