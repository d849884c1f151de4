"""The swarm's numbers under the names that dockerd has for them, made of ours: what its users' boards and
rules ask for goes on. Only what is the same is there; docs/compatibility.md has the rest.
"""

from __future__ import annotations

from skep.api.interfaces import LocalNode
from skep.model.node import DOWN, READY, UNKNOWN
from skep.model.states import STATE_NAMES
from skep.runtime.metrics import Gauge, LabelledGauge, Metric, Registry, Renamed

_NODE_STATES = (UNKNOWN, DOWN, READY, "disconnected")  # SwarmKit's; the last is never a node's here


def node_metrics(local: LocalNode, leads: bool) -> list[Metric]:
    """Returns what every daemon says of itself."""
    found: list[Metric] = [
        Gauge("swarm_node_manager", "Whether this node is a manager or not", lambda: local.is_manager),
        Gauge("swarm_manager_leader", "Indicates if this manager node is a leader", lambda: leads),
    ]
    if local.node_id:
        found.append(
            LabelledGauge(
                "swarm_node_info",
                "Information related to the swarm",
                ("node_id", "swarm_id"),
                lambda: {(local.node_id, local.swarm_id): 1},
            )
        )
    return found


def leader_metrics(ours: Registry) -> list[Metric]:
    """Returns what the leader says of the swarm, of its own metrics."""
    found: list[Metric] = [
        LabelledGauge(
            "swarm_manager_nodes",
            "The number of nodes",
            ("state",),
            lambda: {(state,): count for state, count in ours.by("skep_nodes", "state").items()},
            [(state,) for state in _NODE_STATES],
        ),
        LabelledGauge(
            "swarm_manager_tasks_total",
            "The number of tasks in the cluster object store",
            ("state",),
            lambda: {(state,): count for state, count in ours.by("skep_tasks", "state").items()},
            [(state,) for state in STATE_NAMES.values()],
        ),
    ]
    totals = {
        "services": lambda: ours.total("skep_services"),
        "networks": lambda: ours.total("skep_networks"),
        "secrets": lambda: ours.total("skep_materials", kind="secret"),
        "configs": lambda: ours.total("skep_materials", kind="config"),
    }
    found.extend(
        Gauge(f"swarm_manager_{kind}_total", f"The number of {kind} in the cluster object store", read)
        for kind, read in totals.items()
    )
    found.extend(Renamed(name, help, ours[known]) for name, help, known in _SAME)
    return found


_SAME = (
    (
        "swarm_dispatcher_scheduling_delay_seconds",
        "Scheduling delay is the time a task takes to go from NEW to RUNNING state.",
        "skep_start_delay_seconds",
    ),
    ("swarm_raft_transaction_latency_seconds", "Raft transaction latency.", "skep_store_commit_seconds"),
    ("swarm_store_batch_latency_seconds", "Raft store batch latency.", "skep_commit_seconds"),
)
