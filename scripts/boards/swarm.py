"""The whole swarm on one page."""

# ruff: noqa: S608 (queries of boards; nobody's words are put into them)

from __future__ import annotations

from .panel import Board, Look, Panel, Query
from .queries import JOBS, NOW, by, each, last, over, rate, whole
from .swarm2k import TASKS_BY_STATUS, USED_CORES, USED_CORES_INFLUX, USED_MEMORY, USED_MEMORY_INFLUX

SHORT_OF_TASKS = (
    'SELECT last("n_desired") AS "wanted", last("n_running") AS "running", last("n_pending") AS "pending"'
    f' FROM "swarm_service" {NOW} GROUP BY "service_id", "service_name"'
)
CPU = Panel(
    "CPU of all nodes",
    Look.LINES,
    [USED_CORES, Query(f"sum({each('node_id', 'skep_node_cpu_cores')})", "there are")],
    [
        USED_CORES_INFLUX,
        Query(over("sum", "node_id", "cpu_shares", "swarm_node", scale=" / 1000000000"), "there are"),
    ],
    says="Cores.",
)
MEMORY = Panel(
    "Memory of all nodes",
    Look.LINES,
    [USED_MEMORY, Query(f"sum({each('node_id', 'skep_node_memory_bytes')})", "there is")],
    [USED_MEMORY_INFLUX, Query(over("sum", "node_id", "memory", "swarm_node"), "there is")],
    unit="bytes",
)


def delay(share: float) -> Query:
    """Returns within which time that share of tasks was given a node."""
    buckets = rate("skep_scheduling_delay_seconds_bucket")
    return Query(f"histogram_quantile({share}, sum by (le) ({buckets}))", f"{share:.0%} of tasks")


BOARD = Board(
    "swarm",
    "Swarm",
    "Nodes, services and tasks of the whole swarm.",
    [
        Panel(
            "Nodes ready",
            Look.STAT,
            [Query(whole("skep_nodes", 'state="ready"'), "nodes")],
        ),
        Panel(
            "Nodes",
            Look.STAT,
            [Query(whole("skep_nodes"), "nodes")],
            [Query(last("n_nodes", "swarm"), "nodes")],
        ),
        Panel(
            "Services",
            Look.STAT,
            [Query(whole("skep_services"), "services")],
            [Query(last("n_services", "swarm"), "services")],
        ),
        Panel(
            "Tasks running",
            Look.STAT,
            [Query(whole("skep_tasks_running"), "tasks")],
            [Query(over("sum", "service_id", "n_running", "swarm_service"), "tasks")],
        ),
        Panel(
            "Tasks wanted",
            Look.STAT,
            [Query(f"sum({each('service_id', 'skep_service_tasks_desired')})", "tasks")],
            [Query(over("sum", "service_id", "n_desired", "swarm_service"), "tasks")],
        ),
        Panel(
            "Tasks pending",
            Look.STAT,
            [Query(whole("skep_tasks_pending"), "tasks")],
            [Query(over("sum", "service_id", "n_pending", "swarm_service"), "tasks")],
            says="Tasks that no node suits at the moment: `skep explain SERVICE` says why.",
        ),
        Panel(
            "Networks",
            Look.STAT,
            [Query(whole("skep_networks"), "networks")],
            says="With `bridge` and `host`, which each node has.",
        ),
        TASKS_BY_STATUS,
        Panel("Nodes by state", Look.LINES, [Query(by("state", "skep_nodes"), "{{state}}")]),
        Panel(
            "Nodes by availability", Look.LINES, [Query(by("availability", "skep_nodes"), "{{availability}}")]
        ),
        Panel("Services by mode", Look.LINES, [Query(by("mode", "skep_services"), "{{mode}}")]),
        CPU,
        MEMORY,
        Panel("Secrets and configs", Look.LINES, [Query(by("kind", "skep_materials"), "{{kind}}")]),
        Panel(
            "Until a task has a node",
            Look.LINES,
            [delay(0.5), delay(0.99)],
            unit="s",
        ),
        Panel(
            "Why tasks found no node",
            Look.LINES,
            [Query(f"sum by (reason) ({rate('skep_placement_failures_total')})", "{{reason}}")],
            unit="ops",
            says="Placements that failed a second, by reason. `skep explain SERVICE` says which nodes.",
        ),
        Panel(
            "Updates of services, by state",
            Look.LINES,
            [Query(by("state", "skep_services_updating"), "{{state}}")],
        ),
        Panel(
            "Services, with tasks wanted, running and pending",
            Look.TABLE,
            influx=[Query(SHORT_OF_TASKS)],
        ),
    ],
    prometheus=[JOBS],
)
