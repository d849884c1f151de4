"""What is said of a swarm in numbers: of the view, which keeps them. What others count is with them."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from skep.model.cluster import Cluster
from skep.model.material import KINDS
from skep.model.node import DOWN, READY, UNKNOWN
from skep.model.service import UPDATE_STATES
from skep.model.states import PENDING, STATE_NAMES
from skep.rpc.certificates import validity_of
from skep.runtime.errors import Invalid
from skep.runtime.metrics import Gauge, LabelledGauge, Labels, Metric
from skep.store.view import View

_AVAILABILITIES = ("active", "pause", "drain")
_MODES = ("replicated", "global", "replicated-job", "global-job")
_REACHABILITIES = ("reachable", "unreachable", "unknown")  # Docker's words; the last: it has no vote yet
_NOBODY = "orphaned"  # as `TaskStatus.state_name`: a state that an earlier skep stored
_STATES = tuple(STATE_NAMES.values())


def view_metrics(view: View) -> tuple[Metric, ...]:
    """Returns the metrics of what there is in the swarm. Reading one walks states, and no nodes or tasks."""
    return (*_of_nodes(view), *_of_services(view), *_of_tasks(view), *_of_the_rest(view))


def _of_nodes(view: View) -> tuple[Metric, ...]:
    return (
        LabelledGauge(
            "skep_nodes",
            "Nodes by state, as the leader sees it, and availability.",
            ("state", "availability"),
            lambda: view.node_counts.by_state,
            [(state, each) for state in (UNKNOWN, READY, DOWN) for each in _AVAILABILITIES],
        ),
        LabelledGauge(
            "skep_managers",
            "Managers by whether they answer; unknown: one whose copy of the store has no vote yet.",
            ("reachability",),
            lambda: _managers(view),
            [(each,) for each in _REACHABILITIES],
        ),
    )


def _of_services(view: View) -> tuple[Metric, ...]:
    return (
        LabelledGauge(
            "skep_services",
            "Services by mode.",
            ("mode",),
            lambda: {(mode,): count for mode, count in view.service_counts.by_mode.items()},
            [(mode,) for mode in _MODES],
        ),
        LabelledGauge(
            "skep_services_updating",
            "Services that were updated, by how their last update goes.",
            ("state",),
            lambda: {(state,): count for state, count in view.service_counts.by_update.items()},
            [(state,) for state in UPDATE_STATES],
        ),
    )


def _of_tasks(view: View) -> tuple[Metric, ...]:
    return (
        LabelledGauge(
            "skep_tasks",
            "Tasks by the state that was last observed, those without a node included.",
            ("state",),
            lambda: _observed(view),
            [(state,) for state in _STATES],
        ),
        LabelledGauge(
            "skep_tasks_desired",
            "Tasks that have a node by desired state, as it was last written.",
            ("state",),
            lambda: _desired(view),
            [(state,) for state in _STATES],
        ),
        Gauge("skep_tasks_running", "Tasks wanted and observed running.", lambda: view.task_counts.running),
        Gauge("skep_tasks_pending", "Tasks that no node suits at the moment.", lambda: len(view.pending_ids)),
        Gauge(
            "skep_tasks_stranded",
            "Tasks that are to run on nodes that are down: not yet placed again.",
            lambda: view.task_counts.stranded,
        ),
        Gauge(
            "skep_tasks_known", "Tasks that have a node, those that ended included.", lambda: len(view.tasks)
        ),
    )


def _of_the_rest(view: View) -> tuple[Metric, ...]:
    return (
        Gauge("skep_networks", "Networks, predefined ones included.", lambda: len(view.networks)),
        LabelledGauge(
            "skep_materials",
            "Secrets and configs.",
            ("kind",),
            lambda: {(kind,): len(ids) for kind, ids in view.material_ids.items()},
            [(kind,) for kind in KINDS],
        ),
        Gauge("skep_asides", "Services and nodes that nothing is decided about.", lambda: len(view.asides)),
        Gauge(
            "skep_quarantined_keys", "Keys of the store that cannot be read.", lambda: len(view.quarantine)
        ),
        Gauge(
            "skep_root_certificate_expiry_seconds",
            "When the swarm's root certificate ends, in seconds since the epoch; 0: not known.",
            lambda: _root_ends_at(view.cluster),
        ),
    )


def _managers(view: View) -> Mapping[Labels, float]:
    found: dict[Labels, float] = {}
    for member in view.members:  # a handful
        key = (view.reachability_of(member.node_id),)
        found[key] = found.get(key, 0) + 1
    return found


def _root_ends_at(cluster: Cluster | None) -> float:
    return _ends_at(cluster.ca_cert_pem) if cluster is not None else 0.0


@functools.lru_cache(maxsize=2)  # of the last root: asked for at each scrape
def _ends_at(certificate_pem: bytes) -> float:
    try:
        return validity_of(certificate_pem)[1]
    except Invalid:
        return 0.0


def _observed(view: View) -> Mapping[Labels, float]:
    found: dict[Labels, float] = {(STATE_NAMES[PENDING],): len(view.pending_ids)}
    for (_, state), count in view.task_counts.by_states.items():
        key = (STATE_NAMES.get(state, _NOBODY),)
        found[key] = found.get(key, 0) + count
    return found


def _desired(view: View) -> Mapping[Labels, float]:
    found: dict[Labels, float] = {}
    for (desired, _), count in view.task_counts.by_states.items():
        key = (STATE_NAMES.get(desired, _NOBODY),)
        found[key] = found.get(key, 0) + count
    return found
