"""A swarm's answers, as managers give them."""

from __future__ import annotations

from typing import Any

from skep.monitor.answers import (
    ManagerAnswer,
    MetricsAnswer,
    NodesAnswer,
    ServiceAnswer,
    SwarmAnswers,
    read_answer,
)


def metric(name: str, **by_label: float) -> dict[str, Any]:
    """Returns a metric with samples by its label `state`, or one without labels (`_`)."""
    samples = [
        {"Suffix": "", "Labels": {} if label == "_" else {"state": label}, "Value": value}
        for label, value in by_label.items()
    ]
    return {"Name": name, "Kind": "gauge", "Help": "", "Samples": samples}


def node(node_id: str, hostname: str, usage: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "ID": node_id,
        "Hostname": hostname,
        "Role": "worker",
        "State": "ready",
        "Availability": "active",
        "Leader": False,
        "NanoCPUs": 4_000_000_000,
        "MemoryBytes": 8 << 30,
        "TasksRunning": 3,
        "Usage": usage,
    }


USED = {"At": "2026-11-30T00:00:00Z", "CPUCores": 1, "MemoryUsedBytes": 1 << 30, "Load1": 0.5}


def service(name: str, mode: dict[str, Any], **counts: int) -> dict[str, Any]:
    return {"ID": f"id-{name}", "Spec": {"Name": name, "Mode": mode}, "ServiceStatus": counts}


def manager(node_id: str, hostname: str, leads: bool, reachability: str = "reachable") -> dict[str, Any]:
    status = {"Leader": leads, "Reachability": reachability, "Addr": "10.0.0.1:2377"}
    return {"ID": node_id, "Description": {"Hostname": hostname}, "ManagerStatus": status}


METRICS = {
    "Leader": "m0",
    "At": "2026-11-30T00:00:00Z",
    "Metrics": [
        metric("skep_nodes", ready=3, down=1, unknown=0),
        metric("skep_services", _=2),
        metric("skep_tasks", running=7, failed=2, pending=0),
        metric("skep_manager_has_quorum", _=True),
        {**metric("skep_of_tomorrow"), "Samples": [{"Value": None, "More": 1}]},
    ],
}


def answers(
    nodes: list[dict[str, Any]] | None = None,
    services: list[dict[str, Any]] | None = None,
    managers: list[dict[str, Any]] | None = None,
    metrics: dict[str, Any] | None = None,
) -> SwarmAnswers:
    return SwarmAnswers(
        read_answer("", metrics or METRICS, MetricsAnswer),
        read_answer("", {"At": "", "Nodes": nodes or []}, NodesAnswer),
        read_answer("", services or [], list[ServiceAnswer]),
        read_answer("", managers or [], list[ManagerAnswer]),
    )
