"""Generic resources: counted, named, given back, and told to the container."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skep.agent.executor.container_config import create_body
from skep.agent.executor.interfaces import TaskContext
from skep.manager.control.unsupported import warnings_for
from skep.manager.control.validate import validate_service
from skep.manager.dispatcher.assignments import Sent, complete
from skep.manager.scheduler.place import Round
from skep.model.change import NewTask
from skep.model.container import (
    ContainerSpec,
    DiscreteGenericResource,
    GenericResource,
    NamedGenericResource,
    Reservation,
    ResourceRequirements,
)
from skep.model.generic import demand_of, environment, parse_resource, stock_of, wire_of
from skep.model.node import NodeResources
from skep.model.spec import ServiceSpec, TaskSpec
from skep.model.states import SHUTDOWN
from skep.model.task import TaskStatus
from skep.rpc.messages import AssignedTask, ServiceTemplate
from skep.runtime.errors import Invalid
from skep.store import codec
from skep.store.view import View
from tests.unit.builders import add_node, add_service, new_ids


def wanted(count: int, service_id: str = "s", first: int = 1) -> list[NewTask]:
    new_id = new_ids(first)
    return [NewTask(new_id(), service_id, first + n, 1, 0.0) for n in range(count)]


def test_named_ones_are_given_by_name_and_come_back() -> None:
    view = View()
    add_node(view, "a", generic=["gpu=U1", "gpu=U2", "gpu=U3", "ssd=5"])
    add_service(view, reserve=["gpu=1", "ssd=2"])
    result = Round(view, 0).place(wanted(3))
    assert [t.generic for t in result.placed] == [
        (("gpu", "U1"), ("ssd", 2)),
        (("gpu", "U2"), ("ssd", 2)),
    ]
    assert [p.reason for p in result.pending] == ["no suitable node (insufficient resources on 1 node)"]
    for task in result.placed:
        view.put_task(task)
    assert view.usage["a"].generic == {("gpu", "U1"): 1, ("gpu", "U2"): 1, ("ssd", ""): 4}
    assert not Round(view, 0).place(wanted(1, first=5)).placed
    first = result.placed[0]
    view.put_status(first, TaskStatus(SHUTDOWN, 0.0))
    (task,) = Round(view, 0).place(wanted(1, first=5)).placed
    assert task.generic == (("gpu", "U1"), ("ssd", 2))


def test_names_are_given_once_over_the_slices_of_one_pass() -> None:
    view = View()
    add_node(view, "a", generic=["gpu=U1", "gpu=U2"])
    add_node(view, "b", generic=["gpu=U1", "gpu=U2", "gpu=U3"])
    add_service(view, reserve=["gpu=1"])
    round_ = Round(view, 0)
    placed = [t for n in range(6) for t in round_.place(wanted(1, first=n + 1)).placed]
    assert sorted((t.node_id, t.generic) for t in placed) == [
        ("a", (("gpu", "U1"),)),
        ("a", (("gpu", "U2"),)),
        ("b", (("gpu", "U1"),)),
        ("b", (("gpu", "U2"),)),
        ("b", (("gpu", "U3"),)),
    ]


@settings(max_examples=60, deadline=None)
@given(
    stocks=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=6),
    need=st.tuples(st.integers(0, 3), st.integers(0, 4)),
    count=st.integers(1, 30),
    ended=st.sets(st.integers(0, 29)),
)
def test_nothing_is_given_twice_and_nothing_is_lost(
    stocks: list[tuple[int, int]], need: tuple[int, int], count: int, ended: set[int]
) -> None:
    view = View()
    for n, (named, discrete) in enumerate(stocks):
        names = [f"gpu=U{k}" for k in range(named)]
        add_node(view, f"n{n}", generic=[*names, *([f"ssd={discrete}"] if discrete else [])])
    add_service(view, reserve=[f"gpu={need[0]}", f"ssd={need[1]}"])
    for task in Round(view, 0).place(wanted(count)).placed:
        view.put_task(task)
    for n, task in enumerate(list(view.tasks.values())):
        if n in ended:
            view.put_status(task, TaskStatus(SHUTDOWN, 0.0))
    for task in Round(view, 0).place(wanted(count, first=100)).placed:
        view.put_task(task)
    room = 0
    for n, (named, discrete) in enumerate(stocks):
        live = [t for t in view.tasks_of_node(f"n{n}") if view.status_of(t) is None]
        held = Counter(claim for t in live for claim in t.generic if claim[0] == "gpu")
        assert all(times == 1 for times in held.values())
        assert sum(v for t in live for k, v in t.generic if k == "ssd" and isinstance(v, int)) <= discrete
        fits = [have // each for have, each in zip((named, discrete), need, strict=True) if each]
        room += min(fits, default=2 * count)
    live_total = sum(1 for t in view.tasks.values() if view.status_of(t) is None)
    assert live_total == min(room, 2 * count - len([n for n in ended if n < min(room, count)]))


def test_a_kind_that_became_named_or_discrete_counts_what_is_held_as_one_each() -> None:
    named = NodeResources(generic_resources=[parse_resource("gpu=U1"), parse_resource("gpu=U2")])
    discrete = NodeResources(generic_resources=[parse_resource("gpu=3")])
    assert stock_of(named, {("gpu", ""): 1}, "gpu").free == 1
    assert stock_of(named, {("gpu", "gone"): 1}, "gpu").free == 2
    assert stock_of(discrete, {("gpu", "U1"): 1, ("gpu", ""): 1}, "gpu").free == 1
    assert stock_of(discrete, {("gpu", ""): 5}, "gpu").free == -2


def test_what_is_named_twice_adds_up_and_nothing_is_nothing() -> None:
    assert demand_of([parse_resource("b=1"), parse_resource("a=2"), parse_resource("b=2")]) == (
        ("a", 2),
        ("b", 3),
    )
    assert demand_of([parse_resource("a=0")]) == ()


def test_the_container_is_told_in_dockers_words() -> None:
    claims = (("gpu", "U1"), ("gpu", "U2"), ("ssd", 3))
    assert environment(claims) == ["DOCKER_RESOURCE_GPU=U1,U2", "DOCKER_RESOURCE_SSD=3"]
    spec = TaskSpec(container_spec=ContainerSpec(image="busybox", env=["A=b"]))
    template = ServiceTemplate("s", 1, "web", {}, spec)
    context = TaskContext(AssignedTask("t", "s", 1, 1, 512, claims), template, "n", "host")
    assert create_body(context)["Env"] == ["A=b", "DOCKER_RESOURCE_GPU=U1,U2", "DOCKER_RESOURCE_SSD=3"]
    assert wire_of(claims[1:]) == [
        GenericResource(named_resource_spec=NamedGenericResource(kind="gpu", value="U2")),
        GenericResource(discrete_resource_spec=DiscreteGenericResource(kind="ssd", value=3)),
    ]


def test_what_was_given_is_stored_and_sent() -> None:
    view = View()
    add_node(view, "a", generic=["gpu=U1", "ssd=2"])
    add_service(view, reserve=["gpu=1", "ssd=1"])
    (task,) = Round(view, 0).place(wanted(1)).placed
    stored = codec.decode_bucket(codec.bucket_key("a", "s"), codec.encode_bucket([task]), 0)
    assert stored == [task]
    view.put_task(task)
    assert complete(view, "a", Sent()).tasks[0].generic == (("gpu", "U1"), ("ssd", 1))


def discrete(value: int) -> GenericResource:
    return GenericResource(discrete_resource_spec=DiscreteGenericResource(kind="gpu", value=value))


@pytest.mark.parametrize(
    "resource",
    [
        GenericResource(named_resource_spec=NamedGenericResource(kind="gpu", value="U1")),
        GenericResource(named_resource_spec=NamedGenericResource()),
        discrete(-1),
    ],
)
@pytest.mark.parametrize("others", [[], [discrete(1)], [discrete((1 << 63) - 1)]])
def test_what_no_node_can_give_is_taken_with_a_warning_and_its_tasks_wait(
    resource: GenericResource, others: list[GenericResource]
) -> None:
    needs = ResourceRequirements(reservations=Reservation(generic_resources=[resource, *others]))
    task = TaskSpec(container_spec=ContainerSpec(image="busybox"), resources=needs)
    spec = ServiceSpec(name="x", task_template=task)
    validate_service(spec)
    assert "GenericResources: only a number of a kind has an effect" in " ".join(warnings_for(spec))
    view = View()
    add_node(view, "a", generic=["gpu=U1", "gpu=U2"])
    add_service(view, task=task)
    result = Round(view, 0).place(wanted(1))
    assert [p.reason for p in result.pending] == ["no suitable node (insufficient resources on 1 node)"]


def test_a_number_has_no_warning_and_an_empty_entry_is_refused() -> None:
    def spec(resource: GenericResource) -> ServiceSpec:
        needs = ResourceRequirements(reservations=Reservation(generic_resources=[resource]))
        return ServiceSpec(
            name="x", task_template=TaskSpec(container_spec=ContainerSpec(image="busybox"), resources=needs)
        )

    assert warnings_for(spec(discrete(3))) == []
    with pytest.raises(Invalid, match="neither a kind nor how many of it"):
        validate_service(spec(GenericResource()))
