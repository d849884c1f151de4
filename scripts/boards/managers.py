"""Managers, and what a leader is busy with."""

# ruff: noqa: S608 (queries of boards; nobody's words are put into them)

from __future__ import annotations

from .panel import Board, Look, Panel, Query
from .queries import JOBS, STEP, WINDOW, by, of_managers, of_processes, over, rate, series, whole


def _of_each(field: str) -> Query:
    return Query(
        f'SELECT last("{field}") FROM "swarm_manager" {WINDOW} {STEP}, "node_id", "node_hostname" fill(none)',
        "$tag_node_hostname $tag_node_id",
    )


BOARD = Board(
    "managers",
    "Managers",
    "Who leads, whether the others are there, and what a manager needs.",
    [
        Panel(
            "Leaders",
            Look.STAT,
            [Query(f"sum({series('swarm_manager_leader')})", "leaders")],
            [Query(over("sum", "node_id", "leader", "swarm_manager"), "leaders")],
            says="1; after a change for an interval 0, or 2. 0 that stays is a swarm without a quorum.",
        ),
        Panel(
            "Managers reachable",
            Look.STAT,
            [Query(whole("skep_managers", 'reachability="reachable"'), "managers")],
            [Query(over("sum", "node_id", "reachable", "swarm_manager"), "managers")],
        ),
        Panel(
            "Managers",
            Look.STAT,
            [Query(whole("skep_managers"), "managers")],
            [Query(over("count", "node_id", "reachable", "swarm_manager"), "managers")],
        ),
        Panel(
            "Who leads",
            Look.LINES,
            [Query(of_processes(series("swarm_manager_leader")), "{{instance}}")],
            [_of_each("leader")],
        ),
        Panel(
            "Managers by reachability",
            Look.LINES,
            [Query(by("reachability", "skep_managers"), "{{reachability}}")],
        ),
        Panel(
            "CPU of managers' hosts",
            Look.LINES,
            [Query(of_managers("skep_node_cpu_cores_used"), "{{node_id}}")],
            [_of_each("cpu_cores")],
            says="Cores.",
        ),
        Panel(
            "Memory of managers' hosts",
            Look.LINES,
            [Query(of_managers("skep_node_memory_used_bytes"), "{{node_id}}")],
            [_of_each("memory_used")],
            unit="bytes",
        ),
        Panel("Nodes that have a session", Look.LINES, [Query(whole("skep_sessions"), "nodes")]),
        Panel(
            "Writes to the store, 99 % within",
            Look.LINES,
            [
                Query(
                    f"histogram_quantile(0.99, sum by (le) ({rate('skep_store_commit_seconds_bucket')}))",
                    "99 %",
                )
            ],
            unit="s",
        ),
        Panel(
            "CPU of skepd",
            Look.LINES,
            [Query(of_processes(rate("process_cpu_seconds_total")), "{{instance}}")],
            says="Cores.",
        ),
        Panel(
            "Memory of skepd",
            Look.LINES,
            [Query(of_processes(series("process_resident_memory_bytes")), "{{instance}}")],
            unit="bytes",
        ),
        Panel(
            "The store's file",
            Look.LINES,
            [
                Query(series("skep_etcd_db_bytes"), "{{instance}}"),
                Query(f"max({series('skep_etcd_quota_bytes')})", "may grow to"),
            ],
            unit="bytes",
        ),
        Panel(
            "Until certificates end",
            Look.LINES,
            [Query(of_processes(f"({series('skep_certificate_expiry_seconds')} - time())"), "{{instance}}")],
            unit="s",
        ),
    ],
    prometheus=[JOBS],
)
