"""The board that watched Swarm2k, panel by panel."""

from __future__ import annotations

from .panel import Board, Look, Panel, Query
from .queries import JOBS, by, each, last, last_by, of_managers, over, whole

USED_CORES = Query(f"sum({each('node_id', 'skep_node_cpu_cores_used')})", "in use")
USED_MEMORY = Query(f"sum({each('node_id', 'skep_node_memory_used_bytes')})", "in use")
USED_CORES_INFLUX = Query(over("sum", "node_id", "cpu_cores", "swarm_node_usage"), "in use")
USED_MEMORY_INFLUX = Query(over("sum", "node_id", "memory_used", "swarm_node_usage"), "in use")
TASKS_BY_STATUS = Panel(
    "Tasks by Status",
    Look.LINES,
    [Query(by("state", "swarm_manager_tasks_total"), "{{state}}")],
    [Query(last_by("status", "n_tasks", "swarm_task_status"), "$tag_status")],
    says="By the state that was last observed. Those that ended count until they leave the history.",
)

BOARD = Board(
    "swarm2k",
    "Swarm2k",
    "The seven panels by which Swarm2k was watched in 2016.",
    [
        Panel(
            "Swarm Nodes",
            Look.STAT,
            [Query(whole("swarm_manager_nodes"), "nodes")],
            [Query(last("n_nodes", "swarm"), "nodes")],
        ),
        Panel(
            "Swarm Running Tasks",
            Look.STAT,
            [Query(whole("swarm_manager_tasks_total", 'state="running"'), "tasks")],
            [Query(last("n_tasks", "swarm_task_status", "\"status\" = 'running'"), "tasks")],
        ),
        TASKS_BY_STATUS,
        Panel(
            "Masters CPU Avg.",
            Look.LINES,
            [Query(f"avg({of_managers('skep_node_cpu_cores_used')})", "cores of a manager")],
            [Query(over("mean", "node_id", "cpu_cores", "swarm_manager"), "cores of a manager")],
            says="Cores in use on a manager's host, the average of all managers.",
        ),
        Panel("CPU usage", Look.LINES, [USED_CORES], [USED_CORES_INFLUX], says="Cores in use on all nodes."),
        Panel("MEM usage", Look.LINES, [USED_MEMORY], [USED_MEMORY_INFLUX], unit="bytes"),
        Panel(
            "Masters MEM Avg.",
            Look.LINES,
            [Query(f"avg({of_managers('skep_node_memory_used_bytes')})", "of a manager")],
            [Query(over("mean", "node_id", "memory_used", "swarm_manager"), "of a manager")],
            unit="bytes",
        ),
    ],
    prometheus=[JOBS],
    refresh="5s",
)
