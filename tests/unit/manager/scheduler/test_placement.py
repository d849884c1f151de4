"""The scheduler: even, within limits, explained, and the same for the same picture."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from skep.manager.scheduler.place import Round
from skep.model.change import NewTask, PlacementResult
from skep.model.cluster import TaskDefaults
from skep.model.constraint import eligible, parse_constraint
from skep.model.container import (
    ContainerSpec,
    DiscreteGenericResource,
    DriverConfig,
    GenericResource,
    LogDriver,
    Mount,
    PortConfig,
    Reservation,
    ResourceRequirements,
    VolumeOptions,
)
from skep.model.service import RemovedService
from skep.model.spec import Placement as PlacementSpec
from skep.model.spec import PlacementPreference, SpreadOver, TaskSpec
from skep.model.states import SHUTDOWN
from skep.model.task import TaskStatus
from skep.runtime.errors import Invalid
from skep.store.view import View
from tests.unit.builders import GIB, add_cluster, add_node, add_service, add_task, new_ids


def wanted(count: int, service_id: str = "s", node_id: str = "") -> list[NewTask]:
    new_id = new_ids(7)
    return [NewTask(new_id(), service_id, n + 1, 1, 0.0, node_id=node_id) for n in range(count)]


def per_node(placement: PlacementResult) -> dict[str, int]:
    return dict(Counter(task.node_id for task in placement.placed))


def test_tasks_spread_by_the_services_own_count_then_by_all() -> None:
    view = View()
    for node_id in "abc":
        add_node(view, node_id)
    add_service(view, "s")
    add_service(view, "other")
    add_task(view, "o1", "a", service_id="other")
    add_task(view, "o2", "b", service_id="other")
    add_task(view, "o3", "b", service_id="other", slot=2)
    assert per_node(Round(view, 0).place(wanted(1))) == {"c": 1}
    assert per_node(Round(view, 0).place(wanted(2))) == {"a": 1, "c": 1}
    add_task(view, "s1", "c")
    assert per_node(Round(view, 0).place(wanted(2))) == {"a": 1, "b": 1}


def test_reservations_limit_and_the_reason_counts_the_state_after_placing() -> None:
    view = View()
    add_node(view, "a", memory_bytes=GIB)
    add_node(view, "b", memory_bytes=2 * GIB)
    add_node(view, "c", availability="pause")
    add_service(view, reserve_memory_bytes=GIB)
    placement = Round(view, 0).place(wanted(5))
    assert per_node(placement) == {"a": 1, "b": 2}
    assert {p.reason for p in placement.pending} == {
        "no suitable node (insufficient resources on 2 nodes; 1 node not available for new tasks)"
    }
    assert len(placement.pending) == 2


@pytest.mark.parametrize(
    ("placement", "reason"),
    [
        (
            PlacementSpec(constraints=["node.labels.x==1"]),
            "no suitable node (scheduling constraints not satisfied on 2 nodes)",
        ),
        (PlacementSpec(max_replicas=1), "no suitable node (max replicas per node limit exceed)"),
    ],
)
def test_pending_tasks_say_why(placement: PlacementSpec, reason: str) -> None:
    view = View()
    add_node(view, "a")
    add_node(view, "b")
    add_service(view, placement=placement)
    assert Round(view, 0).place(wanted(3)).pending[-1].reason == reason


def test_one_node_does_not_take_all_of_a_service_that_is_too_large_for_it() -> None:
    view = View()
    add_node(view, "a")
    add_service(view, replicas=60_000)
    placement = Round(view, 0).place(wanted(60_000))
    assert per_node(placement) == {"a": 18_904}
    assert placement.pending[0].reason == "no suitable node (max replicas per node limit exceed)"


def test_without_nodes_the_reason_is_short() -> None:
    view = View()
    add_service(view)
    assert Round(view, 0).place(wanted(1)).pending[0].reason == "no suitable node"


def test_a_preference_spreads_over_branches_before_nodes() -> None:
    view = View()
    for node_id, zone in (("a", "x"), ("b", "x"), ("c", "x"), ("d", "y")):
        add_node(view, node_id, labels={"zone": zone})
    preference = PlacementPreference(spread=SpreadOver(spread_descriptor="node.labels.zone"))
    add_service(view, placement=PlacementSpec(preferences=[preference]))
    assert per_node(Round(view, 0).place(wanted(6))) == {"a": 1, "b": 1, "c": 1, "d": 3}


def test_a_node_that_failed_often_is_taken_only_if_nothing_else_suits() -> None:
    view = View()
    add_node(view, "a")
    add_node(view, "b")
    add_service(view)
    failures = {("s", "a"): 5}
    assert per_node(Round(view, 0, failures).place(wanted(4))) == {"b": 4}
    view.drop_node("b")
    assert per_node(Round(view, 0, failures).place(wanted(4))) == {"a": 4}


def test_a_task_for_one_node_goes_there_or_waits() -> None:
    view = View()
    add_node(view, "a")
    add_node(view, "b", availability="pause")
    add_service(view, replicas=None)
    assert per_node(Round(view, 0).place(wanted(1, node_id="a"))) == {"a": 1}
    (pending,) = Round(view, 0).place(wanted(1, node_id="b")).pending
    assert pending.reason == "1 node not available for new tasks"
    assert pending.node_id == "b"


@settings(max_examples=80, deadline=None)
@given(
    memory=st.lists(st.integers(0, 6), min_size=1, max_size=12),
    count=st.integers(1, 60),
    slices=st.integers(1, 4),
)
def test_never_beyond_capacity_and_even_where_nothing_forbids(
    memory: list[int], count: int, slices: int
) -> None:
    view = View()
    for n, size in enumerate(memory):
        add_node(view, f"n{n:02d}", memory_bytes=size * GIB)
    add_service(view, reserve_memory_bytes=GIB)
    tasks = wanted(count)
    round_ = Round(view, 0)
    size = -(-count // slices)
    results = [round_.place(tasks[start : start + size]) for start in range(0, count, size)]
    placed = Counter(t.node_id for r in results for t in r.placed)
    pending = sum(len(r.pending) for r in results)
    assert sum(placed.values()) + pending == count
    assert sum(placed.values()) == min(count, sum(memory))
    levels = []
    for n, capacity in enumerate(memory):
        assert placed[f"n{n:02d}"] <= capacity
        if placed[f"n{n:02d}"] < capacity:
            levels.append(placed[f"n{n:02d}"])
    if levels:
        assert max(levels) - min(levels) <= 1
        assert max(placed.values(), default=0) <= min(levels) + 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("node.role", "constraint expected one operator from ==, !="),
        ("node role==x", "key 'node role' is invalid"),
        ("node.role==a,b", "value 'a,b' is invalid"),
    ],
)
def test_bad_constraints_are_refused_in_dockers_words(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        parse_constraint(text)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("node.hostname==HOST-a", True),
        ("node.id!=a", False),
        ("node.labels.zone==x", True),
        ("node.labels.zone!=y", True),
        ("node.labels.other==", False),
        ("node.role == worker", True),
        ("node.foo==1", False),
        ("node.foo!=1", False),
        ("NODE.labels.zone==X", True),
        ("node.labels.ZONE==x", False),
        ("node.labels.none!=x", True),
        ("engine.labels.disk==SSD", True),
        ("engine.labels.disk!=ssd", False),
        ("node.ip==10.1.2.3", True),
        ("node.ip==10.1.0.0/16", True),
        ("node.ip!=10.1.0.0/16", False),
        ("node.ip==10.2.0.0/16", False),
        ("node.ip==bogus", False),
        ("node.ip!=bogus", False),
        ("node.platform.os==Linux", True),
        ("node.platform.arch==amd64", True),
        ("node.platform.arch==X86_64", True),
        ("node.platform.arch!=arm64", True),
        ("node.platform.arch!=aarch64", True),
    ],
)
def test_constraints_match_nodes(text: str, fits: bool) -> None:
    view = View()
    node = add_node(view, "a", labels={"zone": "x"}, addr="10.1.2.3", engine_labels={"disk": "ssd"})
    if text.endswith("=="):
        with pytest.raises(Invalid):
            eligible(node, PlacementSpec(constraints=[text]))
    else:
        assert eligible(node, PlacementSpec(constraints=[text])) == fits


def test_an_unknown_address_is_in_no_network() -> None:
    node = add_node(View(), "a")
    assert not eligible(node, PlacementSpec(constraints=["node.ip==10.0.0.0/8"]))
    assert eligible(node, PlacementSpec(constraints=["node.ip!=10.0.0.0/8"]))


def test_tasks_go_where_their_log_and_volume_drivers_are() -> None:
    view = View()
    add_node(view, "a", plugins=[("Log", "json-file"), ("Volume", "local")])
    add_node(view, "b", plugins=[("Log", "json-file"), ("Log", "fancy:latest"), ("Volume", "nfs:latest")])
    add_node(view, "c")  # says nothing of log drivers, as old and simulated engines do

    def nodes_for(log: str = "", volume: str = "") -> set[str]:
        mounts = []
        if volume:
            options = VolumeOptions(driver_config=DriverConfig(name=volume))
            mounts = [Mount(type="volume", source="v", target="/v", volume_options=options)]
        container = ContainerSpec(image="busybox", mounts=mounts)
        driver = LogDriver(name=log) if log else None
        add_service(view, task=TaskSpec(container_spec=container, log_driver=driver))
        placement = Round(view, 0).place(wanted(6))
        assert len(placement.placed) + len(placement.pending) == 6
        assert {p.reason for p in placement.pending} <= {"no suitable node (missing plugin on 3 nodes)"}
        return set(per_node(placement))

    assert nodes_for(log="none") == {"a", "b", "c"}
    assert nodes_for(log="json-file") == {"a", "b", "c"}
    assert nodes_for(log="fancy") == {"b", "c"}
    assert nodes_for(volume="local") == {"a", "b", "c"}
    assert nodes_for(volume="nfs") == {"b"}
    assert nodes_for(volume="other") == set()
    add_cluster(view)
    assert view.cluster is not None
    defaults = TaskDefaults(log_driver=LogDriver(name="fancy"))
    view.put_cluster(replace(view.cluster, spec=replace(view.cluster.spec, task_defaults=defaults)))
    assert nodes_for() == {"b", "c"}
    assert nodes_for(log="json-file") == {"a", "b", "c"}


def test_a_preference_over_anything_but_labels_has_no_effect() -> None:
    view = View()
    for node_id in "abcd":
        add_node(view, node_id)
    for descriptor in ("node.hostname", "node.labels.", ""):
        preference = PlacementPreference(spread=SpreadOver(spread_descriptor=descriptor))
        add_service(view, placement=PlacementSpec(preferences=[preference, PlacementPreference()]))
        assert per_node(Round(view, 0).place(wanted(8))) == dict.fromkeys("abcd", 2)


def test_what_is_being_removed_holds_its_port_until_it_stops_also_for_a_new_leader() -> None:
    view = View()
    add_node(view, "a")
    port = PortConfig(protocol="tcp", target_port=80, published_port=8080, publish_mode="host")
    old = add_service(view, "old", ports=[port])
    removed = RemovedService(id="old", name="old", templates=old.templates, removed_at=0)
    add_service(view, "s", ports=[port])
    view.services.pop("old")
    view.removed["old"] = removed
    task = add_task(view, "t", "a", service_id="old")  # as a new leader reads it
    (pending,) = Round(view, 0).place(wanted(1)).pending
    assert pending.reason == "no suitable node (host-mode port already in use on 1 node)"
    view.put_status(task, TaskStatus(SHUTDOWN, 1.0))
    assert per_node(Round(view, 0).place(wanted(1))) == {"a": 1}


def test_ports_that_the_engine_chooses_do_not_conflict() -> None:
    view = View()
    add_node(view, "a")
    add_service(view, ports=[PortConfig(target_port=80, publish_mode="host")])
    assert per_node(Round(view, 0).place(wanted(3))) == {"a": 3}


def test_what_nodes_and_users_said_before_it_was_checked_stops_nobody() -> None:
    """Sums beyond 64 bits: three tasks of 2^62 on a node that has shrunk, and one that has more than there is."""
    view = View()
    shrunk, endless = add_node(view, "a", cpus=0, memory_bytes=0), add_node(view, "b")
    resources = replace(endless.description.resources, nano_cpus=(1 << 64) - 1, memory_bytes=1 << 63)
    kind = GenericResource(discrete_resource_spec=DiscreteGenericResource(kind="gpu", value=(1 << 63) - 1))
    resources = replace(resources, generic_resources=[kind] * 3)
    view.put_node(replace(endless, description=replace(endless.description, resources=resources)))
    big = Reservation(nano_cpus=1 << 62, memory_bytes=1 << 62)
    for n in range(3):
        spec = TaskSpec(
            container_spec=ContainerSpec(image="x"), resources=ResourceRequirements(reservations=big)
        )
        add_service(view, f"s{n}", task=spec)
        task = add_task(view, f"t{n}", shrunk.id, service_id=f"s{n}")
        view.put_task(replace(task, generic=(("gpu", 1 << 62),)))
    add_service(view, "small", reserve_memory_bytes=GIB, reserve=["gpu=1"])
    (placed,) = Round(view, 0).place(wanted(1, "small")).placed
    assert placed.node_id == "b"
