"""One node."""

# ruff: noqa: S608 (queries of boards; nobody's words are put into them)

from __future__ import annotations

from .panel import Board, Choice, Look, Panel, Query
from .queries import JOBS, NOW, each, over, series

CHOSEN = 'node_id="$node"'
CHOSEN_INFLUX = "\"node_id\" = '$node'"
WHICH = Choice(
    "node",
    "Node",
    f"query_result({series('skep_node_info')})",
    '/hostname="(?<text>[^"]+)".*node_id="(?<value>[^"]+)"/',
)
WHICH_INFLUX = Choice("node", "Node (id)", 'SHOW TAG VALUES FROM "swarm_node" WITH KEY = "node_id"')


def _prometheus(name: str, says: str) -> Query:
    return Query(f"max({series(name, CHOSEN)})", says)


def _influx(field: str, measurement: str, says: str, scale: str = "") -> Query:
    return Query(over("sum", "node_id", field, measurement, CHOSEN_INFLUX, scale), says)


BOARD = Board(
    "node",
    "Node",
    "A node: what it has, what is in use, and which nodes are the busiest.",
    [
        Panel("Up", Look.STAT, [_prometheus("skep_node_up", "up")], says="1 where it is ready."),
        Panel("Tasks running", Look.STAT, [_prometheus("skep_node_tasks_running", "tasks")]),
        Panel(
            "Cores",
            Look.STAT,
            [_prometheus("skep_node_cpu_cores", "cores")],
            [_influx("cpu_shares", "swarm_node", "cores", " / 1000000000")],
        ),
        Panel(
            "Memory",
            Look.STAT,
            [_prometheus("skep_node_memory_bytes", "bytes")],
            [_influx("memory", "swarm_node", "bytes")],
            unit="bytes",
        ),
        Panel(
            "CPU in use",
            Look.LINES,
            [_prometheus("skep_node_cpu_cores_used", "cores")],
            [_influx("cpu_cores", "swarm_node_usage", "cores")],
            says="Cores.",
        ),
        Panel(
            "Memory in use",
            Look.LINES,
            [_prometheus("skep_node_memory_used_bytes", "bytes")],
            [_influx("memory_used", "swarm_node_usage", "bytes")],
            unit="bytes",
        ),
        Panel(
            "The ten busiest nodes, by cores in use",
            Look.LINES,
            [Query(f"topk(10, {each('node_id', 'skep_node_cpu_cores_used')})", "{{node_id}}")],
        ),
        Panel(
            "The ten nodes with most tasks",
            Look.LINES,
            [Query(f"topk(10, {each('node_id', 'skep_node_tasks_running')})", "{{node_id}}")],
        ),
        Panel(
            "Nodes by id",
            Look.TABLE,
            [Query(each("node_id, hostname, role, engine_version", "skep_node_info"))],
            [
                Query(
                    'SELECT last("cpu_shares") / 1000000000 AS "cores", last("memory") AS "memory"'
                    f' FROM "swarm_node" {NOW} GROUP BY "node_id", "node_hostname"'
                )
            ],
            says="Which id has which host name. Several nodes may have one.",
        ),
    ],
    prometheus=[JOBS, WHICH],
    influx=[WHICH_INFLUX],
)
