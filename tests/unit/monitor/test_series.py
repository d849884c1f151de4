"""Which points a swarm's answers make."""

from __future__ import annotations

from typing import Any

import pytest

from skep.monitor.answers import MetricsAnswer, read_answer
from skep.monitor.points import Point
from skep.monitor.series import points_of
from skep.runtime.errors import Unavailable

from .answers import METRICS, USED, answers, manager, metric, node, service


def of(measurement: str, points: list[Point]) -> list[tuple[dict[str, str], dict[str, Any]]]:
    return [(dict(p.tags), dict(p.fields)) for p in points if p.measurement == measurement]


def test_the_three_series_of_the_original() -> None:
    points = points_of(answers(nodes=[node("a", "w1"), node("b", "w1")]))
    sizes = {"cpu_shares": 4_000_000_000, "memory": 8 << 30}
    assert of("swarm_node", points) == [
        ({"node_id": "a", "node_hostname": "w1"}, sizes),
        ({"node_id": "b", "node_hostname": "w1"}, sizes),
    ]
    assert of("swarm", points) == [({}, {"n_nodes": 4, "n_services": 2, "n_tasks": 9})]
    assert of("swarm_task_status", points) == [
        ({"status": "running"}, {"n_tasks": 7}),
        ({"status": "failed"}, {"n_tasks": 2}),
        ({"status": "pending"}, {"n_tasks": 0}),  # zeros, too: a board keeps the last number for ever
    ]


def test_counts_are_integers_and_use_is_a_float_whatever_json_makes_of_them() -> None:
    points = points_of(
        answers(nodes=[node("a", "w1", USED)], managers=[manager("a", "w1", True)], services=[])
    )
    for point in points:
        for name, value in point.fields.items():
            assert type(value) is (float if name == "cpu_cores" else int), (point.measurement, name)


def test_use_is_written_where_it_is_known_only() -> None:
    points = points_of(answers(nodes=[node("a", "w1", USED), node("b", "w2")]))
    used = {"cpu_cores": 1.0, "memory_used": 1 << 30}
    assert of("swarm_node_usage", points) == [({"node_id": "a", "node_hostname": "w1"}, used)]


def test_managers() -> None:
    demoted = {"ID": "d", "Description": {"Hostname": "mg3"}}
    points = points_of(
        answers(
            nodes=[node("a", "mg0", USED), node("b", "mg1")],
            managers=[manager("a", "mg0", True), manager("b", "mg1", False, "unreachable"), demoted],
        )
    )
    assert of("swarm_manager", points) == [
        (
            {"node_id": "a", "node_hostname": "mg0"},
            {"leader": 1, "reachable": 1, "cpu_cores": 1.0, "memory_used": 1 << 30},
        ),
        ({"node_id": "b", "node_hostname": "mg1"}, {"leader": 0, "reachable": 0}),
    ]


@pytest.mark.parametrize(
    ("mode", "running", "desired", "completed", "name", "pending"),
    [
        ({"Replicated": {"Replicas": 5}}, 3, 5, 0, "replicated", 2),
        ({"Replicated": {"Replicas": 1}}, 2, 1, 0, "replicated", 0),  # one stops still
        ({"Global": {}}, 1, 2, 0, "global", 1),
        ({"ReplicatedJob": {"MaxConcurrent": 4, "TotalCompletions": 10}}, 3, 4, 2, "replicated-job", 1),
        ({"ReplicatedJob": {"MaxConcurrent": 4, "TotalCompletions": 10}}, 0, 4, 10, "replicated-job", 0),
        ({"ReplicatedJob": {"MaxConcurrent": 4, "TotalCompletions": 10}}, 1, 4, 9, "replicated-job", 0),
        ({"GlobalJob": {}}, 1, 5, 3, "global-job", 1),
    ],
)
def test_services(
    mode: dict[str, Any], running: int, desired: int, completed: int, name: str, pending: int
) -> None:
    counts = {"RunningTasks": running, "DesiredTasks": desired, "CompletedTasks": completed}
    points = points_of(answers(services=[service("web", mode, **counts)]))
    assert of("swarm_service", points) == [
        (
            {"service_id": "id-web", "service_name": "web", "mode": name},
            {"n_desired": desired, "n_running": running, "n_pending": pending},
        )
    ]


def test_what_runs_is_left_out_where_the_leader_does_not_know_it() -> None:
    web = service("web", {"Replicated": {}}, RunningTasks=0, DesiredTasks=5)
    said = answers(nodes=[node("a", "w1")], services=[web], managers=[manager("a", "w1", True)])
    points = points_of(said, knows_tasks=False)
    assert of("swarm_task_status", points) == []
    assert [fields for _, fields in of("swarm_service", points)] == [{"n_desired": 5}]
    assert of("swarm", points) == of("swarm", points_of(said))
    assert of("swarm_node", points)
    assert of("swarm_manager", points)


def test_no_tag_has_the_name_of_a_field() -> None:
    points = points_of(
        answers(
            nodes=[node("a", "w1", USED)],
            managers=[manager("a", "w1", True)],
            services=[service("web", {"Global": {}})],
        )
    )
    assert len({p.measurement for p in points}) == 6
    assert not [p for p in points if p.tags.keys() & p.fields.keys()]


def test_a_leader_that_leaves_a_number_out_is_said() -> None:
    few = {**METRICS, "Metrics": [metric("skep_nodes", ready=1)]}
    with pytest.raises(Unavailable, match="says nothing of skep_services"):
        points_of(answers(metrics=few))


def test_an_answer_of_another_form_is_said() -> None:
    with pytest.raises(Unavailable, match=r"/x cannot be read: .*Leader"):
        read_answer("/x", {"Leader": 3}, MetricsAnswer)
