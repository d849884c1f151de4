"""One service."""

# ruff: noqa: S608 (queries of boards; nobody's words are put into them)

from __future__ import annotations

from .panel import Board, Choice, Look, Panel, Query
from .queries import JOBS, NOW, each, over, series

CHOSEN = 'service_id="$service"'
CHOSEN_INFLUX = "\"service_id\" = '$service'"
KINDS = {"desired": "wanted", "running": "running", "pending": "pending"}
WHICH = Choice(
    "service",
    "Service",
    f"query_result({series('skep_service_tasks_desired')})",
    '/service_id="(?<value>[^"]+)",service_name="(?<text>[^"]+)"/',
)
WHICH_INFLUX = Choice("service", "Service", 'SHOW TAG VALUES FROM "swarm_service" WITH KEY = "service_id"')


def _prometheus(kind: str) -> Query:
    return Query(f"max({series(f'skep_service_tasks_{kind}', CHOSEN)})", KINDS[kind])


def _influx(kind: str) -> Query:
    return Query(over("sum", "service_id", f"n_{kind}", "swarm_service", CHOSEN_INFLUX), KINDS[kind])


BOARD = Board(
    "service",
    "Service",
    "A service: how many tasks it is to have, and has.",
    [
        *(
            Panel(f"Tasks {word}", Look.STAT, [_prometheus(kind)], [_influx(kind)])
            for kind, word in KINDS.items()
        ),
        Panel(
            "Tasks",
            Look.LINES,
            [_prometheus(kind) for kind in KINDS],
            [_influx(kind) for kind in KINDS],
        ),
        Panel(
            "Services that lack tasks",
            Look.TABLE,
            [
                Query(
                    f"{each('service_id, service_name', 'skep_service_tasks_desired')}"
                    f" - {each('service_id, service_name', 'skep_service_tasks_running')} > 0"
                )
            ],
            [
                Query(
                    'SELECT "lacks" FROM (SELECT last("n_desired") - last("n_running") AS "lacks"'
                    f' FROM "swarm_service" {NOW} GROUP BY "service_id", "service_name") WHERE "lacks" > 0'
                    ' GROUP BY "service_id", "service_name"'
                )
            ],
        ),
    ],
    prometheus=[JOBS, WHICH],
    influx=[WHICH_INFLUX],
)
