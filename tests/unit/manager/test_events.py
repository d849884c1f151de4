"""The events of the swarm: what is remembered, handed out, asked for, and said of a change."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from skep.api.event_filter import parse_time, passes
from skep.api.filters import BadFilterValue
from skep.manager import events
from skep.manager.control.services import service_changes
from skep.manager.events import EventHub
from skep.model.container import ContainerSpec
from skep.model.event import Event
from skep.model.service import Service, TaskTemplate, UpdateStatus
from skep.model.spec import ReplicatedMode, ServiceMode, ServiceSpec, TaskSpec


class Hand:
    """A clock that is set by hand (fulfils `runtime.clock.Clock`)."""

    at = 100.0

    def now(self) -> float:
        return self.at


def test_history_is_of_the_time_asked_for_ends_included_and_in_its_order() -> None:
    hand = Hand()
    hub = EventHub(hand, "a")
    for at in (100.0, 102.5, 101.0):
        hand.at = at
        hub.emit("service", "create", f"s{at}", name="s")
    hub.emit("task", "update", "t", name="s.1")
    assert [e.at for e in hub.history()] == [100.0, 101.0, 102.5]
    assert [e.at for e in hub.history(101_000_000_000, 102_500_000_000)] == [101.0, 102.5]
    assert [e.type for e in hub.history(101_000_000_000, 101_000_000_000, tasks=True)] == ["service", "task"]


def test_what_is_remembered_is_bounded_and_tasks_push_nothing_out() -> None:
    hub = EventHub(Hand(), "a")
    hub.emit("service", "create", "first")
    for number in range(events.KEPT_TASKS + 5):
        hub.emit("task", "update", f"t{number}")
    assert [e.id for e in hub.history()] == ["first"]
    for number in range(events.KEPT):
        hub.emit("node", "update", f"n{number}")
    assert len(hub.history()) == events.KEPT
    assert hub.history()[0].id == "n0"
    assert len(hub.history(tasks=True)) == events.KEPT + events.KEPT_TASKS


def test_a_manager_that_hears_of_events_again_tells_none_twice() -> None:
    first, second = EventHub(Hand(), "a"), EventHub(Hand(), "b")
    first.emit("service", "create", "x")
    second.emit("service", "create", "y")
    feed = second.subscribe()
    for _ in range(2):
        for event in first.history():
            second.take(event)
    for event in second.history():
        first.take(event)
        second.take(event)
    assert sorted(e.id for e in first.history()) == sorted(e.id for e in second.history()) == ["x", "y"]

    async def one() -> str:
        return (await anext(feed)).id

    assert asyncio.run(one()) == "x"
    assert feed._queue.empty()


def test_who_reads_too_slowly_is_cut_off_after_what_waits_for_it() -> None:
    hub = EventHub(Hand(), "a")
    slow, tasks = hub.subscribe(), hub.subscribe(tasks=True)
    for number in range(events.QUEUE_MAX * 3):
        hub.emit("service", "update", str(number))

    async def read() -> tuple[int, int]:
        return len([e async for e in slow]), len([e async for e in tasks])

    assert asyncio.run(read()) == (events.QUEUE_MAX, events.QUEUE_MAX)
    assert not hub.wants_tasks


def test_of_events_of_tasks_some_are_left_out_and_counted() -> None:
    hub = EventHub(Hand(), "a")
    other, feed = hub.subscribe(), hub.subscribe(tasks=True)
    assert hub.wants_tasks
    for number in range(events.QUEUE_TASKS_MAX + 100):
        hub.emit("task", "update", str(number))
    hub.emit("service", "update", "s")

    async def read(count: int) -> list[Event]:
        return [await anext(feed) for _ in range(count)]

    async def one() -> str:
        return (await anext(other)).id

    assert asyncio.run(one()) == "s", "who did not ask for tasks hears of none"
    *first, missed, last = asyncio.run(read(events.QUEUE_TASKS_MAX + 2))
    assert [e.id for e in first] == [str(n) for n in range(events.QUEUE_TASKS_MAX)]
    assert (missed.type, missed.action, missed.attributes) == ("task", "missed", {"count": "100"})
    assert last.id == "s"
    hub.emit("task", "update", "later")
    assert asyncio.run(read(1))[0].id == "later"
    assert len(hub.history(tasks=True)) == events.KEPT_TASKS + 1
    hub.drop(feed)
    assert not hub.wants_tasks


def test_a_manager_that_begins_to_listen_to_tasks_tells_nobody_what_was_before() -> None:
    clock = Hand()
    leader, follower = EventHub(Hand(), "a"), EventHub(clock, "b")
    leader.subscribe(tasks=True)
    leader.emit("task", "update", "old")
    clock.at = 1_000.0
    feed = follower.subscribe(tasks=True)
    for _ in range(2):
        for event in leader.history(tasks=True):
            follower.take(event)
    assert [e.id for e in follower.history(tasks=True)] == ["old"]
    assert feed._queue.empty()


EVENT = Event("service", "update", "abc123", {"name": "web", "image.new": "i:2"}, 5.0)


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({}, True),
        ({"type": ["node", "service"]}, True),
        ({"type": ["node"]}, False),
        ({"event": ["update"]}, True),
        ({"event": ["upd"]}, False),
        ({"scope": ["swarm"]}, True),
        ({"scope": ["local"]}, False),
        ({"service": ["web"]}, True),
        ({"service": ["we"]}, True),
        ({"service": ["abc1"]}, True),
        ({"service": ["x"]}, False),
        ({"node": ["x"]}, False),
        ({"node": ["web"]}, True),  # Docker looks at the name only
        ({"container": ["x"]}, False),
        ({"daemon": ["x"]}, False),
        ({"image": ["web"]}, False),
        ({"label": ["name=web"]}, True),
        ({"label": ["name=web", "gone"]}, False),
        ({"unheard-of": ["x"]}, True),
    ],
)
def test_filters_are_dockers(filters: dict[str, list[str]], wanted: bool) -> None:
    assert passes(EVENT, filters) is wanted


def test_events_of_tasks_are_for_who_names_them() -> None:
    event = replace(EVENT, type="task")
    assert not passes(event, {})
    assert not passes(event, {"service": ["web"]})
    assert passes(event, {"type": ["task"]})


def test_times_have_nanoseconds_and_gos_words_for_others() -> None:
    assert parse_time("") is None
    assert parse_time("12") == 12_000_000_000
    assert parse_time("1795561092.358070169") == 1_795_561_092_358_070_169
    assert parse_time("1.5") == 1_500_000_000
    assert parse_time("-5") == -5_000_000_000
    for text, says in (
        ("abc", 'parsing "abc": invalid syntax'),
        ("1.x", 'parsing "x": invalid syntax'),
        ("1.", 'parsing "": invalid syntax'),
        ("2020-01-01T00:00:00Z", "invalid syntax"),
        ("9" * 40, "value out of range"),
        ("١", "invalid syntax"),
    ):
        with pytest.raises(BadFilterValue, match=says):
            parse_time(text)


def test_a_change_of_a_service_says_old_and_new() -> None:
    def service(image: str, replicas: int, update: UpdateStatus | None = None) -> Service:
        spec = ServiceSpec(
            name="web",
            task_template=TaskSpec(container_spec=ContainerSpec(image=image)),
            mode=ServiceMode(replicated=ReplicatedMode(replicas=replicas)),
        )
        templates = [TaskTemplate(version=1, spec=spec.task_template)]
        return Service(id="s", spec=spec, templates=templates, created_at=0, updated_at=0, update=update)

    updating, done = (
        UpdateStatus(state="updating", started_at=1),
        UpdateStatus(state="completed", started_at=1),
    )
    assert service_changes(service("a", 1), service("a", 1)) == {"name": "web"}
    assert service_changes(service("a", 1, done), service("b", 3)) == {
        "name": "web",
        "image__old": "a",
        "image__new": "b",
        "replicas__old": "1",
        "replicas__new": "3",
    }
    begun = service_changes(service("a", 1), service("a", 1, updating))
    assert begun == {"name": "web", "updatestate__new": "updating"}
    ended = service_changes(service("a", 1, updating), service("a", 1, done))
    assert ended == {"name": "web", "updatestate__new": "completed", "updatestate__old": "updating"}
