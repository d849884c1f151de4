"""What nodes are told of a large overlay network: their own, and what they have asked for."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from skep.manager.dispatcher import overlay_questions, overlays, told_frames
from skep.manager.dispatcher.overlay_bounds import Bounds
from skep.manager.rates import Rates
from skep.model.container import NetworkAttachmentConfig
from skep.model.overlay import OverlayEndpoint, packed
from skep.model.service import Endpoint, RemovedService, VirtualIP
from skep.model.spec import ReplicatedMode, ServiceMode
from skep.model.states import COMPLETE, RUNNING, SHUTDOWN, STARTING
from skep.model.task import PendingTask
from skep.rpc import messages
from skep.rpc.messages import OVERLAY, OverlayAnswered, OverlayAsk, OverlaysHeld, OverlayTold
from skep.store.view import View
from tests.unit.builders import add_service
from tests.unit.overlays import Line, Swarm, add_attachment, add_on_net, overlay_view

FEW = Bounds(small_max=3, small_again=2, whole_max=4, part_max=4, services_max=2, addresses_max=2)
WEB = OverlayAsk(1, "net", names=["web"])


def _large(bounds: Bounds = FEW) -> Swarm:
    """Returns a swarm of three nodes on a large network: `a` has a task of each service, `web` has its others
    on `b` and `c`, `s` on `b`."""
    view = overlay_view("a", "b", "c")
    add_service(view, "web")
    service = view.services["web"]
    view.put_service(replace(service, spec=replace(service.spec, name="web"), version=0))
    for slot, node_id in enumerate("abc", 1):
        add_on_net(view, f"w{slot}", node_id, slot, service_id="web")
    add_on_net(view, "t11", "a", 11)
    add_on_net(view, "t12", "b", 12)
    return Swarm(view, bounds)


def _scale(view: View, service_id: str, replicas: int) -> None:
    service = view.services[service_id]
    spec = replace(service.spec, mode=ServiceMode(replicated=ReplicatedMode(replicas=replicas)))
    view.put_service(replace(service, spec=spec, version=service.version + 1))


def _told(line: Line, service_id: str = "web") -> list[str]:
    return sorted(each.address[7:] for each in line.overlays["net"].services[service_id].endpoints)


def _serving(line: Line, service_id: str = "web") -> list[str]:
    found = line.overlays["net"].services[service_id].endpoints
    return sorted(each.address[7:] for each in found if each.takes_new)


def _single(line: Line) -> list[str]:
    return sorted(each[7:] for each in line.overlays["net"].endpoints)


async def test_a_node_hears_of_its_own_endpoints_when_it_comes_and_of_nobody_else() -> None:
    swarm = _large()
    a, b = swarm.come("a"), swarm.come("b", OVERLAY)
    assert a.overlays["net"].network.is_large
    assert a.overlays["net"].services == {}
    assert a.overlays["net"].endpoints["10.0.9.101"] == OverlayEndpoint("10.0.9.101", "a", "web.1.w1")
    assert _single(a) == ["101", "111"]
    assert a.overlays["net"].nodes == {"a": "192.0.2.1"}
    assert _single(b) == ["102", "112"], "one that cannot ask, too"
    assert [type(each) for each in a.sent] == [OverlayTold, OverlaysHeld]
    await swarm.settle()
    assert len(a.sent) == 2


async def test_a_new_leader_looks_at_all_before_the_first_node_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlays, "SETTLED_MAX", 2)
    swarm = _large()
    add_on_net(swarm.view, "m", "a", 9, networks=("mesh",))
    swarm = Swarm(swarm.view, FEW)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while (
            swarm.dispatcher._networks.get("net") is None or swarm.dispatcher._networks["net"].state.size < 5
        ):
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.ensure_future(count())
    await swarm.dispatcher.look_at_all()
    await other
    assert turns > 1
    assert swarm.dispatcher._networks["net"].network.is_large
    a = swarm.come("a")
    assert _single(a) == ["101", "111"]
    await swarm.settle()
    assert not swarm.dispatcher._dirty
    assert swarm.ask("a", WEB) == OverlayAnswered(1)
    assert _told(a) == ["101", "102", "103"]


async def test_who_asks_for_a_service_knows_it_before_the_answer_comes() -> None:
    swarm = _large()
    a = swarm.come("a")
    assert swarm.ask("a", WEB) == OverlayAnswered(1)
    assert [type(each) for each in a.heard[-2:]] == [OverlayTold, OverlayAnswered]
    assert _told(a) == ["101", "102", "103"]
    assert a.overlays["net"].nodes == {"a": "192.0.2.1", "b": "192.0.2.2", "c": "192.0.2.3"}
    assert list(a.overlays["net"].services) == ["web"]
    assert _single(a) == ["101", "111"]


async def test_all_hear_from_where_packets_may_come() -> None:
    swarm = _large()
    a = swarm.come("a")
    assert a.overlays["net"].senders == {"192.0.2.1", "192.0.2.2", "192.0.2.3"}
    b = swarm.come("b", data_addr="198.51.100.7")
    await swarm.settle()
    swarm.publish(dropped=(swarm.view.tasks["w3"],))
    await swarm.settle()
    for line in (a, b):
        assert line.overlays["net"].senders == {"192.0.2.1", "198.51.100.7"}
    swarm.publish(add_on_net(swarm.view, "w9", "c", 9, service_id="web"))
    await swarm.settle()
    assert a.sent[-1].senders == packed(["192.0.2.3"])  # type: ignore[union-attr]
    assert a.overlays["net"].senders == {"192.0.2.1", "192.0.2.3", "198.51.100.7"}
    count = len(a.sent)
    swarm.publish(add_on_net(swarm.view, "w10", "c", 10, service_id="web"))
    await swarm.settle()
    assert len(a.sent) == count, "it has somebody there already"


async def test_a_service_is_found_by_name_alias_own_address_and_id() -> None:
    swarm = _large()
    service = swarm.view.services["web"]
    attached = [NetworkAttachmentConfig(target="net", aliases=["Shop"])]
    endpoint = Endpoint(vips=[VirtualIP(network_id="net", addr="10.0.9.50/24")])
    made = replace(service, spec=replace(service.spec, networks=attached), endpoint=endpoint, version=1)
    swarm.view.put_service(made)
    a = swarm.come("a")
    for asked in (
        WEB,
        OverlayAsk(1, "net", names=["shop"]),
        OverlayAsk(1, "net", addresses=["10.0.9.50"]),
        OverlayAsk(1, "net", services=["web"]),
    ):
        assert swarm.ask("a", asked) == OverlayAnswered(1)
        assert a.overlays["net"].services["web"].vip == "10.0.9.50"
        a = swarm.come("a")
        assert a.overlays["net"].services == {}


async def test_services_with_one_alias_are_all_told() -> None:
    swarm = _large()
    for service_id in ("s", "web"):
        service = swarm.view.services[service_id]
        attached = [NetworkAttachmentConfig(target="net", aliases=["shop"])]
        spec = replace(service.spec, networks=attached)
        swarm.view.put_service(replace(service, spec=spec, version=1))
    a = swarm.come("a")
    assert swarm.ask("a", OverlayAsk(1, "net", names=["shop"])) == OverlayAnswered(1)
    assert sorted(a.overlays["net"].services) == ["s", "web"]


async def test_a_container_is_found_by_name_and_by_address() -> None:
    swarm = _large()
    add_attachment(swarm.view, "x", "c", "10.0.9.7/24")
    swarm.dispatcher.attachments_changed(swarm.view.attached["c"].values())
    a = swarm.come("a")
    asked = OverlayAsk(1, "net", names=["web.3.w3"], addresses=["10.0.9.112", "10.0.9.7"])
    assert swarm.ask("a", asked) == OverlayAnswered(1, unknown_addresses=["10.0.9.7"]), "two are the bound"
    assert _single(a) == ["101", "103", "111", "112"]
    assert a.overlays["net"].services == {}
    assert set(a.overlays["net"].nodes) == {"a", "b", "c"}
    assert swarm.ask("a", OverlayAsk(2, "net", addresses=["10.0.9.7", "10.0.9.111"])) == OverlayAnswered(2)
    assert _single(a) == ["101", "111", "112", "7"], "the oldest one has gone, and none of its own"


async def test_a_single_container_is_found_by_what_its_node_calls_it() -> None:
    swarm = _large()
    attachment = replace(add_attachment(swarm.view, "x", "c", "10.0.9.7/24"), names=("One", "alias"))
    swarm.view.put_attachment(attachment)
    swarm.dispatcher.attachments_changed([attachment])
    a = swarm.come("a")
    assert swarm.ask("a", OverlayAsk(1, "net", names=["one"])) == OverlayAnswered(1)
    assert _told(a, "x") == ["7"]
    assert a.overlays["net"].services["x"].aliases == ("One", "alias")
    renamed = replace(attachment, names=("two",))
    swarm.view.put_attachment(renamed)
    swarm.dispatcher.attachments_changed([renamed])
    await swarm.settle()
    assert a.overlays["net"].services["x"].aliases == ("two",)
    assert swarm.ask("a", OverlayAsk(2, "net", names=["alias", "two"])) == OverlayAnswered(2, ["alias"])


async def test_a_task_of_a_global_service_is_found_by_its_nodes_id() -> None:
    swarm = _large()
    add_on_net(swarm.view, "g1", "c", 0)
    swarm = Swarm(swarm.view, FEW)
    a = swarm.come("a")
    assert swarm.ask("a", OverlayAsk(1, "net", names=["name-s.c.g1"])) == OverlayAnswered(1)
    assert "100" in _single(a)


@pytest.mark.parametrize(
    "asked",
    [
        OverlayAsk(1, "net", names=["nobody", "web.1.w2", "w1", "", ".", "web.1."]),
        OverlayAsk(1, "net", addresses=["10.0.9.200", "192.0.2.1"]),
        OverlayAsk(1, "net", services=["", "web2"]),
        OverlayAsk(1, "other", names=["web"], addresses=["10.0.9.101"], services=["web"]),
        OverlayAsk(1, "unknown", names=["web"]),
    ],
)
async def test_what_nobody_has_is_unknown(asked: OverlayAsk) -> None:
    swarm = _large()
    add_on_net(swarm.view, "t5", "b", 5, networks=("other",))
    a = swarm.come("a")
    count = len(a.heard)
    assert swarm.ask("a", asked) == OverlayAnswered(1, asked.names, asked.addresses, asked.services)
    assert len(a.heard) == count + 1


async def test_who_has_left_a_network_hears_nothing_of_it() -> None:
    swarm = _large()
    swarm.come("a")
    c = swarm.come("c")
    swarm.report(swarm.view.tasks["w3"], COMPLETE)
    await swarm.settle()
    assert c.overlays == {}
    assert swarm.ask("c", WEB) == OverlayAnswered(1, ["web"])
    assert c.overlays == {}


async def test_what_changes_is_told_to_those_that_asked_for_it_and_to_its_own_node() -> None:
    swarm = _large()
    a, b, c = (swarm.come(each) for each in "abc")
    swarm.ask("a", WEB)
    swarm.ask("b", OverlayAsk(1, "net", addresses=["10.0.9.103"]))
    count = len(c.sent)
    swarm.publish(replace(swarm.view.tasks["t12"], desired_state=SHUTDOWN))
    assert not b.overlays["net"].endpoints["10.0.9.112"].takes_new, "its own"
    assert len(c.sent) == count
    assert list(a.overlays["net"].services) == ["web"]
    await swarm.settle()
    swarm.publish(replace(swarm.view.tasks["w3"], desired_state=SHUTDOWN))
    assert _serving(a) == ["101", "102"], "at once, before its node is told"
    assert _told(a) == ["101", "102", "103"]
    assert not b.overlays["net"].endpoints["10.0.9.103"].takes_new
    told = [each for each in a.sent if isinstance(each, OverlayTold)][-1]
    assert [each.id for each in told.services] == ["web"]
    assert dict(told.nodes) == {"c": "192.0.2.3"}, "and nothing else"
    swarm.report(swarm.view.tasks["w3"], COMPLETE)
    await swarm.settle()
    assert _told(a) == ["101", "102"]
    assert set(a.overlays["net"].nodes) == {"a", "b"}
    assert _single(b) == ["102", "112"]
    assert c.overlays == {}


async def test_who_asked_for_an_address_that_goes_hears_nothing_of_the_next_one_that_has_it() -> None:
    swarm = _large()
    a = swarm.come("a")
    swarm.ask("a", OverlayAsk(1, "net", addresses=["10.0.9.103"]))
    swarm.publish(dropped=(swarm.view.tasks["w3"],))
    await swarm.settle()
    assert _single(a) == ["101", "111"]
    count = len(a.sent)
    swarm.publish(add_on_net(swarm.view, "w4", "b", 3, service_id="web"))
    await swarm.settle()
    assert len(a.sent) == count
    assert swarm.ask("a", OverlayAsk(2, "net", addresses=["10.0.9.103"])) == OverlayAnswered(2)
    assert a.overlays["net"].endpoints["10.0.9.103"].node_id == "b"


async def test_an_address_that_goes_from_one_to_another_is_told_to_all_that_know_it() -> None:
    swarm = _large()
    a, b, c = (swarm.come(each) for each in "abc")
    swarm.ask("a", OverlayAsk(1, "net", names=["web", "name-s"]))
    swarm.ask("b", OverlayAsk(1, "net", addresses=["10.0.9.103"]))
    count = len(a.sent)
    task = swarm.view.tasks["w3"]
    swarm.report(task, COMPLETE)
    swarm.publish(add_on_net(swarm.view, "t3", "a", 3), dropped=(task,))
    await swarm.settle()
    assert _told(a) == ["101", "102"]
    assert _told(a, "s") == ["103", "111", "112"]
    assert a.overlays["net"].endpoints["10.0.9.103"].node_id == "a"
    more = [each.more for each in a.sent[count:] if isinstance(each, OverlayTold)]
    # Where packets may come from, both services, its own.
    assert more == [True, True, True, False], "and no two have it in between"
    assert b.overlays["net"].endpoints["10.0.9.103"].name == "name-s.3.t3"
    assert "net" not in c.overlays


async def test_who_had_an_address_that_another_node_gets_has_it_no_more() -> None:
    swarm = _large()
    c = swarm.come("c")
    add_on_net(swarm.view, "t13", "c", 13)
    swarm.dispatcher.publish({"c": ([swarm.view.tasks["t13"]], [])})
    swarm.publish(add_on_net(swarm.view, "w4", "b", 3, service_id="web"), dropped=(swarm.view.tasks["w3"],))
    await swarm.settle()
    assert _single(c) == ["113"]


async def test_a_service_that_goes_is_gone_for_those_that_asked_for_it() -> None:
    swarm = _large()
    a, b = swarm.come("a"), swarm.come("b")
    swarm.ask("a", OverlayAsk(1, "net", names=["web", "name-s"]))
    add_on_net(swarm.view, "t13", "c", 13)
    swarm.publish(swarm.view.tasks["t13"])
    swarm.publish(dropped=tuple(swarm.view.tasks[each] for each in ("w1", "w2", "w3")))
    await swarm.settle()
    assert list(a.overlays["net"].services) == ["s"]
    assert _single(a) == ["111"]
    assert swarm.ask("a", WEB) == OverlayAnswered(1, ["web"])
    count = len(a.sent)
    swarm.publish(add_on_net(swarm.view, "w9", "b", 9, service_id="web"))
    await swarm.settle()
    assert len(a.sent) == count, "it asks again, if it wants to know"
    assert _single(b) == ["109", "112"]


async def test_another_alias_or_own_address_is_told_without_endpoints() -> None:
    swarm = _large()
    a, b = swarm.come("a"), swarm.come("b")
    swarm.ask("a", WEB)
    service = swarm.view.services["web"]
    attached = [NetworkAttachmentConfig(target="net", aliases=["shop"])]
    swarm.view.put_service(replace(service, spec=replace(service.spec, networks=attached), version=1))
    count = len(b.sent)
    swarm.dispatcher.service_changed("web")
    await swarm.settle()
    assert a.overlays["net"].services["web"].aliases == ("shop",)
    assert len(_told(a)) == 3
    told = a.sent[-1]
    assert isinstance(told, OverlayTold)
    assert (told.services[0].endpoints, told.services[0].gone, told.nodes) == ((), (), [])
    assert len(b.sent) == count
    assert swarm.ask("b", OverlayAsk(1, "net", names=["shop"])) == OverlayAnswered(1)


async def test_a_service_that_is_removed_takes_nothing_new_before_its_tasks_are_told() -> None:
    swarm = _large()
    a = swarm.come("a")
    swarm.ask("a", OverlayAsk(1, "net", names=["web"], addresses=["10.0.9.112"]))
    templates = swarm.view.services["web"].templates
    swarm.view.remove_service(RemovedService(id="web", name="web", removed_at=0.0, templates=templates))
    swarm.dispatcher.service_changed("web")
    assert _serving(a) == []
    assert len(_told(a)) == 3
    assert a.overlays["net"].endpoints["10.0.9.112"].takes_new


async def test_a_node_that_is_elsewhere_or_goes_is_told_to_those_that_know_somebody_there() -> None:
    swarm = _large()
    a, b, _ = (swarm.come(each) for each in "abc")
    swarm.ask("a", WEB)
    swarm.ask("b", OverlayAsk(1, "net", addresses=["10.0.9.103"]))
    swarm.come("c", data_addr="198.51.100.7")
    await swarm.settle()
    assert a.overlays["net"].nodes["c"] == b.overlays["net"].nodes["c"] == "198.51.100.7"
    swarm.view.put_node_status("c", replace(swarm.view.node_state("c"), state="down"))
    swarm.dispatcher.node_changed("c")
    await swarm.settle()
    assert _serving(a) == ["101", "102"]
    assert not b.overlays["net"].endpoints["10.0.9.103"].takes_new
    swarm.view.drop_node("c")
    swarm.dispatcher.node_removed("c")
    await swarm.settle()
    assert _told(a) == ["101", "102"]
    assert _single(b) == ["102", "112"]
    assert a.overlays["net"].nodes.keys() == b.overlays["net"].nodes.keys() | {"a"} == {"a", "b"}


async def test_a_node_that_comes_again_has_asked_for_nothing() -> None:
    swarm = _large()
    swarm.come("a")
    swarm.ask("a", WEB)
    a = swarm.come("a")
    assert a.overlays["net"].services == {}
    swarm.publish(replace(swarm.view.tasks["w3"], desired_state=SHUTDOWN))
    await swarm.settle()
    assert a.overlays["net"].services == {}


async def test_the_oldest_service_that_a_node_asked_for_goes_and_it_is_told_so() -> None:
    swarm = _large()
    add_service(swarm.view, "db")
    swarm.publish(add_on_net(swarm.view, "d1", "b", 21, service_id="db"))
    a = swarm.come("a")
    for name in ("web", "name-s", "web", "name-db"):
        assert swarm.ask("a", OverlayAsk(1, "net", names=[name])) == OverlayAnswered(1)
    assert list(a.overlays["net"].services) == ["web", "db"]
    asked = OverlayAsk(2, "net", names=["web", "name-s", "name-db"])
    assert swarm.ask("a", asked) == OverlayAnswered(2, ["name-db"]), "as many as it may have"
    assert list(a.overlays["net"].services) == ["web", "s"]


@pytest.mark.parametrize(
    ("endpoints", "serving", "before", "parts"),
    [
        (256, 256, 1, 1),
        (257, 257, 1, 4),
        (1_000, 3, 1, 1),
        (1_000, 1_000, 1, 8),
        (1_000, 500, 8, 8),  # it comes late on the way back
        (1_000, 256, 8, 1),
        (100_000, 0, 1, 128),
        (100_000, 1_000, 128, 128),
        (100_000, 100_000, 128, 1024),
        (60_000, 0, 128, 128),
        (30_000, 0, 128, 32),
    ],
)
def test_parts_are_by_those_that_serve_and_none_is_too_long(
    endpoints: int, serving: int, before: int, parts: int
) -> None:
    assert Bounds().parts(endpoints, serving, before) == parts


async def test_where_few_of_many_serve_all_nodes_hear_of_them() -> None:
    swarm = _large()
    tasks = [
        add_on_net(swarm.view, f"w{n}", "abc"[n % 3], n, service_id="web", observed=None)
        for n in range(20, 28)
    ]
    lines = [swarm.come(each) for each in "abc"]
    swarm.publish(*tasks)
    await swarm.settle()
    for node_id in "abc":
        swarm.ask(node_id, WEB)
    known = swarm.dispatcher._networks["net"].state.services["web"]
    assert (known.size, known.serving, len(known.parts)) == (11, 3, 1)
    assert all(_serving(line) == ["101", "102", "103"] for line in lines)
    for task in tasks:
        swarm.report(task, RUNNING)
    await swarm.settle()
    assert (known.serving, len(known.parts)) == (11, 4)
    for task in tasks:
        swarm.publish(dropped=(task,))
    await swarm.settle()
    assert (known.size, known.serving, len(known.parts)) == (3, 3, 1)


async def test_of_a_large_service_each_node_hears_a_part_and_all_together_hear_of_all() -> None:
    swarm = _large()
    lines = {each: swarm.come(each) for each in "abc"}
    tasks = [add_on_net(swarm.view, f"w{n}", "abc"[n % 3], n, service_id="web") for n in range(20, 28)]
    swarm.publish(*tasks)
    await swarm.settle()
    for node_id in "abc":
        swarm.ask(node_id, WEB)
    known = swarm.dispatcher._networks["net"].state.services["web"]
    assert len(known.parts) == 4
    assert {tuple(_told(line)) for line in lines.values()} <= {
        tuple(sorted(each[7:] for each in part)) for part in known.parts
    }
    sent = {each: len(line.sent) for each, line in lines.items()}
    task = next(each for each in tasks if each.addresses[0].address[7:10] in _told(lines["a"]))
    swarm.publish(replace(task, desired_state=SHUTDOWN))
    concerned = {each for each, line in lines.items() if len(line.sent) > sent[each]}
    assert concerned == {"a", task.node_id}
    assert lines["a"].overlays["net"].services["web"].endpoints != ()


async def test_a_service_that_grows_is_told_in_more_parts_and_in_less_as_it_shrinks() -> None:
    swarm = _large()
    lines = {each: swarm.come(each) for each in "abc"}
    for node_id in "abc":
        swarm.ask(node_id, WEB)
        assert len(_told(lines[node_id])) == 3
    known = swarm.dispatcher._networks["net"].state.services["web"]
    tasks = [add_on_net(swarm.view, f"w{n}", "abc"[n % 3], n, service_id="web") for n in range(20, 50)]
    for some in (tasks[:4], tasks[4:16], tasks[16:]):
        swarm.publish(*some)
        await swarm.settle()
        parts = {tuple(sorted(each[7:] for each in part)) for part in known.parts}
        told = [tuple(_told(line)) for line in lines.values()]
        assert len(parts) > 1
        assert set(told) <= parts
        assert len(set(told)) == min(3, len(parts)), "no two hear of the same"
    swarm.publish(dropped=tuple(tasks))
    await swarm.settle()
    assert [_told(line) for line in lines.values()] == [["101", "102", "103"]] * 3


async def test_a_small_network_that_grows_is_told_anew_to_all_and_whole_again_as_it_shrinks() -> None:
    swarm = _large(Bounds(small_max=5, small_again=4))
    a, b = swarm.come("a"), swarm.come("b")
    assert a.overlays == b.overlays
    assert len(a.overlays["net"].services) == 2
    assert swarm.ask("a", OverlayAsk(1, "net", names=["web", "no"])) == OverlayAnswered(1, ["no"])
    task = add_on_net(swarm.view, "w9", "b", 9, service_id="web")
    swarm.publish(task)
    await swarm.settle()
    for line, own in ((a, ["101", "111"]), (b, ["102", "109", "112"])):
        assert line.overlays["net"].network.is_large
        assert line.overlays["net"].services == {}
        assert _single(line) == own
    swarm.ask("a", WEB)
    assert len(_told(a)) == 4
    swarm.publish(dropped=(task,))
    await swarm.settle()
    assert a.overlays["net"].network.is_large, "it is large for a while"
    swarm.publish(dropped=(swarm.view.tasks["t12"], swarm.view.tasks["w3"]))
    await swarm.settle()
    assert not a.overlays["net"].network.is_large
    assert a.overlays == b.overlays
    assert a.overlays["net"].endpoints == {}
    assert _told(a) == ["101", "102"]
    assert _told(a, "s") == ["111"]


async def test_who_asks_is_told_as_the_others_were_and_hears_what_is_new_with_them() -> None:
    swarm = _large()
    a, b = swarm.come("a"), swarm.come("b")
    swarm.ask("b", WEB)
    task = add_on_net(swarm.view, "w9", "c", 9, service_id="web", observed=None)
    swarm.publish(task)
    swarm.report(task, RUNNING)
    assert swarm.ask("a", WEB) == OverlayAnswered(1)
    assert _serving(a) == _serving(b) == ["101", "102", "103"]
    await swarm.settle()
    assert _serving(a) == _serving(b) == ["101", "102", "103", "109"]


async def test_who_asks_for_what_has_just_come_waits_until_that_is_looked_at() -> None:
    swarm = _large()
    a = swarm.come("a")
    await swarm.settle()
    swarm.publish(add_on_net(swarm.view, "w9", "c", 9, service_id="web"))
    frame = messages.encode(OverlayAsk(7, "net", names=["web.9.w9"]))
    swarm.sessions.open(a).frame(frame)
    assert OverlayAnswered(7) not in a.heard
    a.is_asking = True
    await swarm.settle()
    assert a.heard[-1] == OverlayAnswered(7)
    assert "109" in _single(a)
    begun_at = asyncio.get_running_loop().time()
    swarm.dispatcher._dirty.touch("net").tasks["w9"] = "web"  # and nobody looks at it
    swarm.dispatcher._batches._not_before = begun_at + 60
    swarm.sessions.open(a).frame(messages.encode(OverlayAsk(8, "net", names=["nobody"])))
    await asyncio.sleep(0)
    assert a.heard[-1] == OverlayAnswered(7)
    swarm.dispatcher._questions.looked()
    assert a.heard[-1] == OverlayAnswered(7)


async def test_a_thousand_that_ask_at_once_are_answered_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay_questions, "TURN_S", 0.0)
    swarm = _large()
    lines = [swarm.come(each) for each in "abc"]
    for line in lines:
        line.is_asking = True
        swarm.sessions.open(line).frame(messages.encode(WEB))
    assert not any(OverlayAnswered(1) in line.heard for line in lines)
    monkeypatch.setattr(overlay_questions, "TURN_S", 1.0)
    swarm.dispatcher._questions.looked()
    await asyncio.sleep(0)
    assert all(line.heard[-1] == OverlayAnswered(1) for line in lines)


async def test_one_that_asks_too_much_has_no_answer_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    swarm = _large()
    swarm.come("a")
    swarm.come("b")
    swarm.dispatcher._asks = Rates(3, 0.001)
    answers = [swarm.ask("a", WEB) for _ in range(5)]
    assert [each is not None for each in answers] == [True, True, False, False, False], "what is told counts"
    assert swarm.ask("b", WEB) is not None
    assert swarm.sessions.has("a")
    swarm.dispatcher._asks = Rates(3, 0.001)
    monkeypatch.setattr(overlays, "ASK_BYTES", 100)
    assert swarm.ask("a", WEB) is not None
    assert swarm.ask("a", WEB) is None


async def test_one_that_asks_again_and_again_keeps_its_session() -> None:
    """It asks at once again where it has no answer, at worst on each of many networks."""
    swarm = _large()
    swarm.come("a")
    answers = [swarm.ask("a", OverlayAsk(n, "net", names=["nobody"])) for n in range(300)]
    assert 90 <= sum(each is not None for each in answers) < 200
    assert swarm.sessions.has("a")


async def test_of_very_many_changes_those_of_tasks_that_are_to_end_are_told_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overlays, "SETTLED_MAX", 2)
    swarm = _large()
    a = swarm.come("a")
    tasks = [add_on_net(swarm.view, f"w{n}", "b", n, service_id="web", observed=None) for n in range(20, 29)]
    swarm.publish(*tasks)
    swarm.ask("a", WEB)
    await swarm.settle()
    known = swarm.dispatcher._networks["net"]
    assert known.state.size == 14
    for task in tasks:
        swarm.report(task, RUNNING)
    swarm.publish(replace(swarm.view.tasks["t11"], desired_state=SHUTDOWN))
    assert not a.overlays["net"].endpoints["10.0.9.111"].takes_new
    running = [each for each in known.state.services["web"].endpoints() if each.takes_new]
    assert len(running) < 3 + 9, "the others have not been looked at"
    await swarm.settle()
    assert sum(each.takes_new for each in known.state.services["web"].endpoints()) == 3 + 9
    swarm.view.remove_service(
        RemovedService(id="web", name="web", removed_at=0.0, templates=swarm.view.services["web"].templates)
    )
    swarm.dispatcher.service_changed("web")
    await swarm.settle()
    assert _serving(a) == []
    assert not any(each.takes_new for each in known.state.services["web"].endpoints())


async def test_what_cannot_be_told_to_who_asks_costs_the_others_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    swarm = _large()
    a = swarm.come("a")
    b = swarm.come("b")
    swarm.ask("b", WEB)
    task = add_on_net(swarm.view, "w9", "c", 9, service_id="web")
    swarm.publish(task)
    right = told_frames.encode

    def broken(told: object) -> bytes:
        monkeypatch.setattr(told_frames, "encode", right)
        raise RuntimeError

    monkeypatch.setattr(told_frames, "encode", broken)
    assert swarm.ask("a", OverlayAsk(1, "net", names=["web.3.w3"])) is None
    assert swarm.sessions.has("a")
    await swarm.settle()
    assert a.overlays["net"].services == {}, "it is told anew, and asks again"
    assert list(b.overlays["net"].services) == ["web"]
    swarm.ask("b", WEB)
    assert "109" in _told(b)


async def test_a_task_is_told_of_in_its_service_once_it_serves_and_to_its_own_node_before() -> None:
    swarm = _large()
    a, b = swarm.come("a"), swarm.come("b")
    swarm.ask("a", WEB)
    count = len(a.sent)
    task = add_on_net(swarm.view, "w9", "b", 9, observed=None, service_id="web")
    swarm.publish(task)
    await swarm.settle()
    assert len(a.sent) == count, "nobody is led there yet"
    assert not b.overlays["net"].endpoints["10.0.9.109"].takes_new
    assert swarm.ask("a", OverlayAsk(2, "net", names=["web.9.w9"])) == OverlayAnswered(2)
    assert not a.overlays["net"].endpoints["10.0.9.109"].takes_new
    count = len(b.sent)
    swarm.report(task, RUNNING)
    await swarm.settle()
    assert _serving(a) == ["101", "102", "103", "109"]
    assert len(b.sent) == count, "it knows that by itself, and has not asked for the service"
    swarm.publish(replace(task, desired_state=SHUTDOWN))
    assert _serving(a) == ["101", "102", "103"]
    assert _told(a) == ["101", "102", "103", "109"], "connections that are open go on"
    assert swarm.ask("b", WEB) == OverlayAnswered(1)
    assert _told(b) == ["101", "102", "103", "109"]


async def test_a_service_of_which_nobody_serves_is_known_and_has_nobody() -> None:
    swarm = _large()
    add_service(swarm.view, "new")
    add_on_net(swarm.view, "n1", "c", 20, observed=None, service_id="new")
    swarm.publish(swarm.view.tasks["n1"])
    a = swarm.come("a")
    assert swarm.ask("a", OverlayAsk(1, "net", services=["new"])) == OverlayAnswered(1)
    assert _told(a, "new") == []
    swarm.report(swarm.view.tasks["n1"], COMPLETE)
    await swarm.settle()
    assert "new" not in a.overlays["net"].services


async def test_when_a_network_is_small_again_those_that_wait_are_told_to_all() -> None:
    swarm = _large()
    a = swarm.come("a")
    _scale(swarm.view, "s", 0)
    _scale(swarm.view, "web", 1)
    add_on_net(swarm.view, "w9", "a", 9, observed=None, service_id="web")
    dropped = tuple(swarm.view.tasks[each] for each in ("w1", "w2", "w3", "t11", "t12"))
    swarm.publish(swarm.view.tasks["w9"], dropped=dropped)
    await swarm.settle()
    assert not a.overlays["net"].network.is_large
    assert (_told(a), _serving(a)) == (["109"], [])


@pytest.mark.parametrize(("replicas", "pending", "is_large"), [(4, 0, True), (3, 0, False), (5, 2, False)])
async def test_what_is_to_grow_large_is_told_so_from_the_beginning(
    replicas: int, pending: int, is_large: bool
) -> None:
    view = overlay_view("a", "b")
    _scale(view, "s", replicas)
    for slot in range(pending):
        view.put_pending(PendingTask(f"p{slot}", "s", 50 + slot, 1, 0.0, "no room"))
    swarm = Swarm(view, replace(FEW, small_again=3))
    a = swarm.come("a")
    swarm.publish(add_on_net(view, "t1", "a", 1))
    await swarm.settle()
    assert a.overlays["net"].network.is_large == is_large
    _scale(view, "s", 1)
    swarm.dispatcher.service_changed("s")
    await swarm.settle()
    assert not a.overlays["net"].network.is_large


async def test_a_task_of_before_that_says_that_it_does_not_serve_yet_is_led_to_no_more() -> None:
    """A new leader takes it to serve until its node says what it does."""
    swarm = _large()
    swarm.view.led_since = 100.0
    task = add_on_net(swarm.view, "w9", "c", 9, service_id="web", observed=None)
    swarm.publish(task)
    a = swarm.come("a")
    await swarm.settle()
    swarm.ask("a", WEB)
    assert "109" in _serving(a)
    swarm.report(task, STARTING)
    await swarm.settle()
    assert "109" not in _serving(a)


async def test_what_is_found_does_not_wait_for_what_is_not() -> None:
    """A node may have kept from an earlier leader who is about to end by now."""
    swarm = _large()
    a = swarm.come("a")
    swarm.dispatcher._dirty.touch_task(swarm.view.tasks["t12"])
    asked = OverlayAsk(1, "net", names=["nobody"], services=["web"])
    line = swarm.lines["a"]
    line.is_asking = True
    swarm.sessions.open(line).frame(messages.encode(asked))
    assert _told(a) == ["101", "102", "103"]
    assert not any(isinstance(each, OverlayAnswered) for each in a.heard)
    count = len(a.heard)
    swarm.dispatcher._questions.looked()
    assert len(a.heard) == count, "it is told once"
    await swarm.settle()
    assert a.heard[-1] == OverlayAnswered(1, ["nobody"])
