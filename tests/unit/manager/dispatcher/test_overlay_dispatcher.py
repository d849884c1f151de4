"""Who is told what of overlay networks, and when."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from skep.manager.dispatcher import batches, overlay_touched, overlays, told_frames
from skep.manager.dispatcher.batches import BATCH_S
from skep.manager.dispatcher.overlay_bounds import Bounds
from skep.manager.dispatcher.overlay_views import overlay_network
from skep.manager.dispatcher.told_frames import SERVICES_MAX_BYTES, overlay_parts
from skep.model.aside import Unreadable
from skep.model.network import VXLAN_OPTION
from skep.model.overlay import Overlay, OverlayEndpoint, OverlayNetwork, OverlayService
from skep.model.service import RemovedService
from skep.model.states import ASSIGNED, COMPLETE, RUNNING, SHUTDOWN
from skep.model.task import Task, TaskAddress
from skep.rpc import messages
from skep.rpc.messages import MESH, OverlaysHeld, OverlayTold
from skep.store.view import View
from tests.unit.builders import add_service, add_task
from tests.unit.overlays import NET, Line, Swarm, add_attachment, add_on_net, overlay_view


def _endpoints(line: Line, service_id: str = "s") -> list[str]:
    return [each.address for each in line.overlays["net"].services[service_id].endpoints]


def _serving(line: Line, network_id: str = "net") -> list[str]:
    found = line.overlays[network_id].services.values()
    return sorted(each.address for service in found for each in service.endpoints if each.takes_new)


async def test_a_node_hears_all_of_its_own_networks_when_it_comes_and_nothing_of_others() -> None:
    view = overlay_view("a", "b", "c")
    add_on_net(view, "t1", "a", 1)
    add_on_net(view, "t2", "b", 2, networks=("net", "other"))
    swarm = Swarm(view)
    a, b, c = (swarm.come(each) for each in ("a", "b", "c"))
    assert c.sent == [OverlaysHeld([])]
    network = overlay_network(view, "net")
    assert network is not None
    assert [type(each) for each in a.sent] == [OverlayTold, OverlaysHeld]
    assert a.overlays["net"].network == network
    assert a.overlays["net"].nodes == {"a": "192.0.2.1", "b": "192.0.2.2"}
    assert _endpoints(a) == ["10.0.9.101", "10.0.9.102"]
    assert list(a.overlays) == ["net"]
    assert b.overlays["net"] == a.overlays["net"]
    assert list(b.overlays) == ["net", "other"]
    assert b.sent[-1] == OverlaysHeld(["net", "other"])
    await swarm.settle()
    assert [len(each.sent) for each in (a, b, c)] == [2, 3, 1], "all was news to nobody"


async def test_a_nodes_first_task_is_assigned_after_it_has_heard_of_its_network() -> None:
    view = overlay_view("a", "b")
    add_on_net(view, "t1", "a", 1)
    swarm = Swarm(view)
    a, b = swarm.come("a"), swarm.come("b")
    swarm.publish(add_on_net(view, "t2", "b", 2, observed=None))
    assert isinstance(b.sent[-1], OverlayTold), "at once: its node is told of the task next"
    assert b.sent[-1].complete
    assert _endpoints(b) == ["10.0.9.101", "10.0.9.102"]
    assert b.overlays["net"].nodes == {"a": "192.0.2.1", "b": "192.0.2.2"}
    assert b.overlays == a.overlays
    assert _serving(a) == ["10.0.9.101"]
    swarm.report(view.tasks["t2"], RUNNING)
    await swarm.settle()
    assert _serving(a) == _serving(b) == ["10.0.9.101", "10.0.9.102"]


async def test_while_much_is_told_a_node_hears_that_it_is_on_a_network_and_of_the_rest_later() -> None:
    view = overlay_view("a", "b")
    add_on_net(view, "t1", "a", 1)
    swarm = Swarm(view)
    swarm.come("a")
    b = swarm.come("b")
    swarm.dispatcher._batches.sent(batches.BYTES_PER_S // 10)  # of some other network
    swarm.publish(add_on_net(view, "t2", "b", 2, observed=None))
    assert b.sent[-1] == OverlayTold(b.overlays["net"].network, complete=True)
    await asyncio.sleep(0.2)
    assert _endpoints(b) == ["10.0.9.101", "10.0.9.102"]


async def test_nodes_that_come_at_once_are_not_told_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for the lines to them waits in the manager's memory."""
    nodes = [f"n{n}" for n in range(10)]
    view = overlay_view(*nodes)
    swarm = Swarm(view)
    lines = [swarm.come(each) for each in nodes]
    monkeypatch.setattr(batches, "BYTES_PER_S", 20_000)
    monkeypatch.setattr(overlays, "AHEAD_MAX_S", 0.1)
    swarm.publish(*(add_on_net(view, f"t{n}", each, n, observed=None) for n, each in enumerate(nodes)))
    assert all("net" in line.overlays for line in lines)
    assert 0 < sum("s" in line.overlays["net"].services for line in lines) < 10
    for _ in range(40):
        await asyncio.sleep(0.05)
    assert all(line.overlays == lines[0].overlays for line in lines)
    assert len(_endpoints(lines[0])) == 10


async def test_what_changes_on_a_network_is_told_to_its_nodes_only() -> None:
    view = overlay_view("a", "b", "c")
    add_on_net(view, "t1", "a", 1)
    add_on_net(view, "t2", "b", 2, networks=("other",))
    add_service(view, "s2")
    swarm = Swarm(view)
    a, b, c = (swarm.come(each) for each in ("a", "b", "c"))
    count = len(b.sent), len(c.sent)
    swarm.publish(add_on_net(view, "t3", "a", 3, service_id="s2"))
    await swarm.settle()
    assert _endpoints(a, "s2") == ["10.0.9.103"]
    assert (len(b.sent), len(c.sent)) == count
    told = a.sent[-1]
    assert isinstance(told, OverlayTold)
    assert not told.complete
    assert [each.id for each in told.services] == ["s2"], "and nothing that it knows already"
    assert told.nodes == []


async def test_that_a_task_is_to_end_is_told_before_it_is() -> None:
    view = overlay_view("a", "b")
    task = add_on_net(view, "t1", "a", 1)
    add_on_net(view, "t2", "b", 2)
    swarm = Swarm(view)
    swarm.come("a")
    b = swarm.come("b")
    swarm.publish(replace(task, desired_state=SHUTDOWN))
    assert _serving(b) == ["10.0.9.102"]
    assert len(_endpoints(b)) == 2, "its connections go on"


async def test_a_service_that_is_removed_takes_nothing_new_before_its_tasks_are_told() -> None:
    view = overlay_view("a")
    add_on_net(view, "t1", "a", 1)
    swarm = Swarm(view)
    a = swarm.come("a")
    service = view.services["s"]
    view.remove_service(RemovedService(id="s", name="name-s", removed_at=0.0, templates=[]))
    swarm.dispatcher.service_changed("s")
    assert _serving(a) == []
    assert a.overlays["net"].services["s"].name == service.spec.name


async def test_who_has_nobody_on_a_network_any_more_is_told_so_and_the_others_too() -> None:
    view = overlay_view("a", "b")
    add_on_net(view, "t1", "a", 1)
    task = add_on_net(view, "t2", "b", 2)
    swarm = Swarm(view)
    a, b = swarm.come("a"), swarm.come("b")
    swarm.report(task, COMPLETE)
    await swarm.settle()
    assert b.sent[-1] == OverlaysHeld([])
    assert b.overlays == {}
    assert a.overlays["net"].nodes == {"a": "192.0.2.1"}
    assert _endpoints(a) == ["10.0.9.101"]
    swarm.publish(dropped=(task,))
    swarm.publish(add_on_net(view, "t3", "b", 3))
    assert _endpoints(b) == ["10.0.9.101", "10.0.9.103"], "and comes again as a new one"
    assert a.overlays == b.overlays


async def test_a_node_that_goes_from_one_network_to_another_has_none_that_it_was_not_told_of() -> None:
    view = overlay_view("a")
    task = add_on_net(view, "t1", "a", 1, networks=("other",))
    swarm = Swarm(view)
    a = swarm.come("a")
    swarm.report(task, COMPLETE)
    swarm.publish(add_on_net(view, "t2", "a", 2))
    await swarm.settle()
    assert list(a.overlays) == ["net"]
    assert OverlaysHeld(["net"]) in a.sent, "which it would not have if it had not heard of it before"


async def test_a_service_that_has_gone_is_gone_with_its_network() -> None:
    view = overlay_view("a", "b")
    tasks = [add_on_net(view, "t1", "a", 1), add_on_net(view, "t2", "b", 2)]
    add_service(view, "s2")
    add_on_net(view, "u1", "a", 5, service_id="s2")
    swarm = Swarm(view)
    a = swarm.come("a")
    swarm.publish(dropped=tuple(tasks))
    await swarm.settle()
    assert list(a.overlays["net"].services) == ["s2"]
    assert a.overlays["net"].nodes == {"a": "192.0.2.1"}
    swarm.publish(dropped=(view.tasks["u1"],))
    await swarm.settle()
    assert a.overlays == {}
    assert swarm.dispatcher._networks == {}
    assert not swarm.dispatcher._dirty


async def test_an_address_that_another_task_got_is_at_no_time_told_of_two() -> None:
    view = overlay_view("a", "b")
    add_service(view, "s2")
    task = add_on_net(view, "t1", "a", 1)
    add_on_net(view, "t2", "b", 2)
    swarm = Swarm(view)
    b = swarm.come("b")
    count = len(b.sent)
    swarm.report(task, COMPLETE)
    swarm.publish(add_on_net(view, "u1", "b", 1, service_id="s2"), dropped=(task,))
    await swarm.settle()
    assert len(b.sent) == count + 1
    assert {s: _endpoints(b, s) for s in ("s", "s2")} == {"s": ["10.0.9.102"], "s2": ["10.0.9.101"]}


async def test_an_earlier_node_hears_nothing_and_nobody_of_its_tasks() -> None:
    view = overlay_view("a", "b")
    add_on_net(view, "t1", "a", 1)
    add_on_net(view, "t2", "b", 2)
    add_attachment(view, "c", "b", "10.0.9.7/24")
    swarm = Swarm(view)
    a = swarm.come("a")
    assert len(_endpoints(a)) == 2, "it was not heard yet"
    b = swarm.come("b", MESH)
    await swarm.settle()
    assert b.sent == []
    assert _endpoints(a) == ["10.0.9.101"]
    assert list(a.overlays["net"].services) == ["s"]
    assert a.overlays["net"].nodes == {"a": "192.0.2.1"}
    swarm.publish(add_on_net(view, "t3", "b", 3))
    await swarm.settle()
    assert b.sent == []
    b = swarm.come("b")
    await swarm.settle()
    assert a.overlays == b.overlays
    assert len(_endpoints(a)) == 3
    assert _endpoints(a, "c") == ["10.0.9.7"]


async def test_a_node_that_is_elsewhere_is_told_of_to_those_on_its_networks() -> None:
    view = overlay_view("a", "b", "c")
    add_on_net(view, "t1", "a", 1)
    add_on_net(view, "t2", "b", 2)
    swarm = Swarm(view)
    a, c = swarm.come("a"), swarm.come("c")
    swarm.come("b", data_addr="198.51.100.7")
    await swarm.settle()
    assert a.overlays["net"].nodes == {"a": "192.0.2.1", "b": "198.51.100.7"}
    assert len(c.sent) == 1


async def test_a_node_that_is_elsewhere_is_told_of_although_its_only_service_changes_too() -> None:
    view = overlay_view("a", "b")
    add_on_net(view, "t1", "a", 1)
    task = add_on_net(view, "t2", "b", 2)
    swarm = Swarm(view)
    a = swarm.come("a")
    swarm.come("b", data_addr="198.51.100.7")
    swarm.publish(replace(task, desired_state=SHUTDOWN))
    assert a.overlays["net"].nodes == {"a": "192.0.2.1", "b": "198.51.100.7"}
    assert _serving(a) == ["10.0.9.101"]


async def test_a_node_that_is_down_keeps_its_addresses_until_it_is_removed() -> None:
    view = overlay_view("a", "b")
    add_on_net(view, "t1", "a", 1)
    add_on_net(view, "t2", "b", 2)
    add_attachment(view, "c", "b", "10.0.9.7/24")
    swarm = Swarm(view)
    a = swarm.come("a")
    view.put_node_status("b", replace(view.node_state("b"), state="down"))
    swarm.dispatcher.node_changed("b")
    await swarm.settle()
    assert _serving(a) == ["10.0.9.101", "10.0.9.7"]
    assert len(_endpoints(a)) == 2
    view.drop_node("b")
    swarm.dispatcher.node_removed("b")
    await swarm.settle()
    assert _endpoints(a) == ["10.0.9.101"]
    assert list(a.overlays["net"].services) == ["s"]
    assert a.overlays["net"].nodes == {"a": "192.0.2.1"}


async def test_a_single_container_is_on_its_network_as_a_task_is() -> None:
    view = overlay_view("a", "b")
    add_on_net(view, "t1", "a", 1)
    swarm = Swarm(view)
    a, b = swarm.come("a"), swarm.come("b")
    attachment = add_attachment(view, "c", "b", "10.0.9.7/24")
    swarm.dispatcher.attachments_changed([attachment])
    assert b.overlays["net"].nodes.keys() == {"a", "b"}, "before it is told of its address"
    assert a.overlays == b.overlays
    assert a.overlays["net"].services["c"] == OverlayService(
        "c", endpoints=(OverlayEndpoint("10.0.9.7", "b"),)
    )
    view.drop_attachment(attachment)
    swarm.dispatcher.attachments_changed([attachment])
    await swarm.settle()
    assert b.overlays == {}
    assert list(a.overlays["net"].services) == ["s"]
    assert not swarm.dispatcher._dirty


async def test_nothing_is_kept_of_single_containers_on_networks_that_nodes_are_not_told_of() -> None:
    view = overlay_view("a")
    view.put_network(replace(NET, options={}))
    swarm = Swarm(view)
    a = swarm.come("a")
    attachment = add_attachment(view, "c", "a", "10.0.9.7/24")
    swarm.dispatcher.attachments_changed([attachment])
    view.drop_attachment(attachment)
    swarm.dispatcher.attachments_changed([attachment])
    await swarm.settle()
    assert a.sent == [OverlaysHeld([])]
    assert not swarm.dispatcher._dirty


async def test_nothing_is_kept_of_single_containers_of_an_earlier_node_that_is_removed() -> None:
    view = overlay_view("a", "b")
    swarm = Swarm(view)
    swarm.come("b", MESH)
    swarm.dispatcher.attachments_changed([add_attachment(view, "c", "b", "10.0.9.7/24")])
    await swarm.settle()
    view.drop_node("b")
    swarm.dispatcher.node_removed("b")
    await swarm.settle()
    assert not swarm.dispatcher._dirty


async def test_a_new_leader_knows_who_is_where() -> None:
    view = overlay_view("a", "b")
    add_on_net(view, "t1", "a", 1, observed=None)
    add_attachment(view, "c", "b", "10.0.9.7/24")
    view.led_since = 1.0
    swarm = Swarm(view)
    a, b = swarm.come("a"), swarm.come("b")
    assert a.overlays == b.overlays
    assert _serving(a) == ["10.0.9.101", "10.0.9.7"]
    await swarm.settle()
    assert [len(each.sent) for each in (a, b)] == [2, 2]


async def test_a_node_that_comes_again_is_told_all_again() -> None:
    view = overlay_view("a", "b")
    add_on_net(view, "t1", "a", 1)
    task = add_on_net(view, "t2", "b", 2)
    swarm = Swarm(view)
    swarm.come("a")
    swarm.come("b")
    again = swarm.come("a")
    assert _endpoints(again) == ["10.0.9.101", "10.0.9.102"]
    swarm.report(task, COMPLETE)
    await swarm.settle()
    assert _endpoints(again) == ["10.0.9.101"]
    swarm.sessions.closed(again, "a", "")
    swarm.publish(add_on_net(view, "t3", "b", 3))
    await swarm.settle()
    assert _endpoints(again) == ["10.0.9.101"]


async def test_where_not_all_can_be_read_nothing_is_said_to_be_gone() -> None:
    view = overlay_view("a")
    task = add_on_net(view, "t1", "a", 1)
    view.quarantine["k"] = Unreadable("k", "it is not to be read")
    network = overlay_network(view, "net")
    assert network is not None
    swarm = Swarm(view)
    line = swarm.come("a", has=Overlay(network))
    assert [type(each) for each in line.sent] == [OverlayTold]
    assert not any(each.complete for each in line.sent if isinstance(each, OverlayTold))
    swarm.report(task, COMPLETE)
    await swarm.settle()
    assert not any(isinstance(each, OverlaysHeld) for each in line.sent)
    assert list(line.overlays) == ["net"]


async def test_tasks_of_the_mesh_alone_are_told_to_nobody() -> None:
    view = overlay_view("a")
    ingress = replace(
        NET, id="mesh", spec=replace(NET.spec, name="ingress", ingress=True), options={VXLAN_OPTION: "4097"}
    )
    view.put_network(ingress)
    swarm = Swarm(view)
    line = swarm.come("a")
    task = add_on_net(view, "t1", "a", 1, networks=("mesh",))
    swarm.publish(task)
    swarm.publish(replace(task, desired_state=SHUTDOWN))
    await swarm.settle()
    assert line.sent == [OverlaysHeld([])]
    assert not swarm.dispatcher._dirty


async def test_one_service_that_cannot_be_told_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    view = overlay_view("a")
    add_service(view, "s2")
    add_on_net(view, "t1", "a", 1)
    add_on_net(view, "u1", "a", 2, service_id="s2")
    right = overlay_touched.overlay_task

    def broken(view: View, task: Task, network_id: str, deaf: set[str]) -> OverlayEndpoint | None:
        if task.service_id == "s":
            raise RuntimeError
        return right(view, task, network_id, deaf)

    monkeypatch.setattr(overlay_touched, "overlay_task", broken)
    a = Swarm(view).come("a")
    assert list(a.overlays["net"].services) == ["s2"]


def _break_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told next of a network cannot be made."""
    right = told_frames.encode

    def broken(told: object) -> bytes:
        monkeypatch.setattr(told_frames, "encode", right)
        raise RuntimeError

    monkeypatch.setattr(told_frames, "encode", broken)


async def test_what_cannot_be_told_keeps_no_task_from_its_node_and_is_told_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overlays, "AGAIN_S", 0.1)
    view = overlay_view("a", "b")
    task = add_on_net(view, "t1", "a", 1)
    add_on_net(view, "t2", "b", 2, networks=("net", "other"))
    swarm = Swarm(view)
    a, b = swarm.come("a"), swarm.come("b")
    _break_once(monkeypatch)
    swarm.publish(replace(task, desired_state=SHUTDOWN))
    assert len(_serving(a)) == 2
    await swarm.settle()
    assert _serving(a) == _serving(b) == ["10.0.9.102"]
    monkeypatch.setattr(swarm.dispatcher, "_dirty", None)
    swarm.publish(task)


async def test_a_network_that_cannot_be_told_keeps_no_other_one_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overlays, "AGAIN_S", 60.0)
    view = overlay_view("a", "b")
    tasks = [add_on_net(view, f"t{n}", "a", n, networks=(net,)) for n, net in enumerate(("net", "other"), 1)]
    for n, net in enumerate(("net", "other"), 3):
        add_on_net(view, f"t{n}", "b", n, networks=(net,))
    swarm = Swarm(view)
    b = swarm.come("b")
    _break_once(monkeypatch)
    swarm.publish(replace(tasks[0], desired_state=SHUTDOWN))
    swarm.publish(replace(tasks[1], desired_state=SHUTDOWN))
    async with asyncio.timeout(10.0):
        while _serving(b, "other") != ["10.0.8.104"]:
            await asyncio.sleep(BATCH_S)
    assert _serving(b) == ["10.0.9.101", "10.0.9.103"]
    swarm.dispatcher._not_before.clear()  # as if the time had come
    swarm.dispatcher._batches.soon()
    await swarm.settle()
    assert _serving(b) == ["10.0.9.103"]


def test_a_message_has_no_more_than_a_line_takes() -> None:
    network = OverlayNetwork("n", "10.0.0.0/8", 4098, 4789)
    endpoints = tuple(
        OverlayEndpoint(f"10.100.{n >> 8}.{n & 255}", f"{n:025}", f"{'x' * 63}.{n}.{n:025}")
        for n in range(Bounds().small_max)
    )
    services = [OverlayService(f"{n:025}", '"' * 63, ("a" * 63,) * 20, "", endpoints) for n in range(10)]
    whole = OverlayTold(network, True, [("a", "192.0.2.1")], services=services, gone_services=["s"])
    cut = list(overlay_parts(whole))
    assert max(len(messages.encode(each)) for each in cut) <= SERVICES_MAX_BYTES + 1000
    assert [each.more for each in cut] == [True] * (len(cut) - 1) + [False]
    assert [each.complete for each in cut] == [True] + [False] * (len(cut) - 1)
    assert [service for each in cut for service in each.services] == services
    assert {each.network for each in cut} == {network}
    assert replace(cut[0], services=services, more=False) == whole


async def test_an_assigned_task_is_known_by_its_nodes_before_it_serves() -> None:
    view = overlay_view("a", "b")
    add_on_net(view, "t1", "a", 1)
    swarm = Swarm(view)
    a = swarm.come("a")
    task = replace(
        add_task(view, "t2", "b", 2, observed=ASSIGNED), addresses=(TaskAddress("net", "10.0.9.9/24", ""),)
    )
    swarm.publish(task)
    await swarm.settle()
    assert "10.0.9.9" in _endpoints(a)
    assert "10.0.9.9" not in _serving(a)


async def test_a_node_that_comes_keeps_no_other_one_from_hearing_who_is_on_its_network() -> None:
    view = overlay_view("a", "b")
    add_on_net(view, "t1", "a", 1)
    swarm = Swarm(view)
    b = swarm.come("b")
    swarm.dispatcher._batches.sent(batches.BYTES_PER_S // 10)  # so that b hears of the others later
    swarm.publish(add_on_net(view, "t2", "b", 2, observed=None))
    a = swarm.come("a")
    assert b.overlays["net"].services == {}
    await swarm.settle()
    assert _endpoints(b) == ["10.0.9.101", "10.0.9.102"]
    assert b.overlays == a.overlays


async def test_what_was_news_when_nobody_heard_is_not_told_to_who_comes_later() -> None:
    view = overlay_view("a", "b")
    add_on_net(view, "t1", "a", 1)
    task = add_on_net(view, "t2", "b", 2)
    swarm = Swarm(view)
    first = {each: swarm.come(each) for each in "ab"}
    b = swarm.come("b", data_addr="198.51.100.7")  # which is news for a, in a moment
    swarm.sessions.closed(first["a"], "a", "")
    swarm.sessions.closed(b, "b", "")
    swarm.report(task, COMPLETE)
    a = swarm.come("a")
    assert a.overlays["net"].nodes == {"a": "192.0.2.1"}
    swarm.publish(add_on_net(view, "t3", "a", 3))
    await swarm.settle()
    assert _endpoints(a) == ["10.0.9.101", "10.0.9.103"]
    assert a.overlays["net"].nodes == {"a": "192.0.2.1"}


async def test_a_node_that_cannot_be_told_all_is_elsewhere_to_the_others_nevertheless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    view = overlay_view("a", "b")
    add_on_net(view, "t1", "a", 1)
    add_on_net(view, "t2", "b", 2)
    swarm = Swarm(view)
    a = swarm.come("a")
    _break_once(monkeypatch)
    swarm.come("b", data_addr="198.51.100.7")
    assert not swarm.sessions.has("b")
    await swarm.settle()
    assert a.overlays["net"].nodes["b"] == "198.51.100.7"


async def test_a_node_that_has_left_is_told_so_though_the_others_cannot_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overlays, "AGAIN_S", 0.1)
    view = overlay_view("a", "b")
    add_on_net(view, "t1", "a", 1)
    task = add_on_net(view, "t2", "b", 2)
    swarm = Swarm(view)
    a, b = swarm.come("a"), swarm.come("b")
    _break_once(monkeypatch)
    swarm.report(task, COMPLETE)
    await swarm.settle()
    assert b.overlays == {}
    assert a.overlays["net"].nodes == {"a": "192.0.2.1"}
