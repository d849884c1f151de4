"""The numbers of a swarm as series. Pure.

`swarm_node`, `swarm` and `swarm_task_status` are those of the plugin that Swarm2k was watched with: its
boards go on. There is no series per task: points of one service, node and state would fall upon each other.
"""

from __future__ import annotations

from collections.abc import Iterator

from skep.monitor.answers import (
    ManagerAnswer,
    MetricSample,
    MetricsAnswer,
    ModeAnswer,
    NodeAnswer,
    ServiceAnswer,
    SwarmAnswers,
)
from skep.monitor.points import Point
from skep.runtime.errors import Unavailable

REACHABLE = "reachable"


class Totals:
    """The leader's metrics, by name. Errors: `Unavailable` where one is not among them."""

    def __init__(self, answer: MetricsAnswer) -> None:
        self._metrics = {metric.name: metric.samples for metric in answer.metrics}

    def total(self, name: str, **labels: str) -> int:
        """Returns the sum of the samples that have these labels."""
        wanted = labels.items()
        return int(sum(s.value or 0 for s in self._samples(name) if wanted <= s.labels.items()))

    def by(self, name: str, label: str) -> dict[str, int]:
        """Returns the sums by one label."""
        found: dict[str, int] = {}
        for sample in self._samples(name):
            value = sample.labels.get(label, "")
            found[value] = found.get(value, 0) + int(sample.value or 0)
        return found

    def _samples(self, name: str) -> list[MetricSample]:
        try:
            return self._metrics[name]
        except KeyError:
            raise Unavailable(f"the leader says nothing of {name}: is its skepd an earlier one?") from None


def points_of(answers: SwarmAnswers, knows_tasks: bool = True) -> list[Point]:
    """Returns the points of one gather. `knows_tasks`: whether the leader has heard what runs; where not,
    counts of that are left out, and all else is there. Errors: `Unavailable` where the leader leaves out what
    they need."""
    totals = Totals(answers.metrics)
    use = {node.id: node for node in answers.nodes.nodes}
    points = [
        Point(
            "swarm",
            {},
            {
                "n_nodes": totals.total("skep_nodes"),
                "n_services": totals.total("skep_services"),
                "n_tasks": totals.total("skep_tasks"),
            },
        )
    ]
    if knows_tasks:
        # Every state, zeros too: what is written no more keeps its last number on a board.
        for status, count in totals.by("skep_tasks", "state").items():
            points.append(Point("swarm_task_status", {"status": status}, {"n_tasks": count}))
    points += [_service(each, knows_tasks) for each in answers.services]
    points += [_manager(each, use.get(each.id)) for each in answers.managers if each.manager_status]
    for node in answers.nodes.nodes:
        points += _node(node)
    return points


def _node(node: NodeAnswer) -> Iterator[Point]:
    tags = {"node_id": node.id, "node_hostname": node.hostname}
    yield Point("swarm_node", tags, {"cpu_shares": node.nano_cpus, "memory": node.memory_bytes})
    if node.usage is not None:
        used = {"cpu_cores": float(node.usage.cpu_cores), "memory_used": node.usage.memory_used_bytes}
        yield Point("swarm_node_usage", tags, used)


def _manager(manager: ManagerAnswer, node: NodeAnswer | None) -> Point:
    assert manager.manager_status is not None
    fields: dict[str, int | float] = {
        "leader": int(manager.manager_status.leader),
        "reachable": int(manager.manager_status.reachability == REACHABLE),
    }
    if node is not None and node.usage is not None:
        fields["cpu_cores"] = float(node.usage.cpu_cores)
        fields["memory_used"] = node.usage.memory_used_bytes
    return Point(
        "swarm_manager", {"node_id": manager.id, "node_hostname": manager.description.hostname}, fields
    )


def _service(service: ServiceAnswer, knows_tasks: bool) -> Point:
    fields: dict[str, int | float] = {"n_desired": service.service_status.desired_tasks}
    if knows_tasks:
        fields["n_running"] = service.service_status.running_tasks
        fields["n_pending"] = waiting(service)
    mode = mode_name(service.spec.mode)
    tags = {"service_id": service.id, "service_name": service.spec.name, "mode": mode}
    return Point("swarm_service", tags, fields)


def mode_name(mode: ModeAnswer) -> str:
    """Returns Docker's word for it."""
    if mode.replicated_job is not None:
        return "replicated-job"
    if mode.global_job is not None:
        return "global-job"
    return "global" if mode.global_ is not None else "replicated"


def waiting(service: ServiceAnswer) -> int:
    """Returns how many tasks are wanted now and do not run (yet), whatever keeps them."""
    counts, mode = service.service_status, service.spec.mode
    wanted = counts.desired_tasks
    if mode.replicated_job is not None:
        of_all = mode.replicated_job.total_completions
        wanted = wanted if of_all is None else min(wanted, of_all - counts.completed_tasks)
    elif mode.global_job is not None:
        wanted -= counts.completed_tasks
    return max(0, wanted - counts.running_tasks)
