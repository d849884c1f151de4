"""What a scrape costs the leader: all that Prometheus can ask for, of a small swarm and of a large one.

    .venv/bin/python bench/scrape.py [--nodes 2300] [--tasks 100000]

A real leader on a store in memory; CPU time of the handlers, the best of ten and the first one, without HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import structlog

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.api_process import running_api  # noqa: E402
from tests.unit.builders import add_node, add_service, add_task  # noqa: E402

from skep.api.routes import metrics as routes  # noqa: E402
from skep.model.usage import HostUsage, NodeUsage  # noqa: E402
from skep.runtime.stall import StallWatch  # noqa: E402

SMALL = 10  # the small swarm has so many nodes, and as many tasks on each
TIMES = 10
SERVICES = 100
routes.KEPT_S = -1.0  # each is made anew


async def _measured(ask: Callable[[Any], Awaitable[Any]]) -> tuple[float, float, int]:
    """Returns the milliseconds of the first and of the best, and the bytes of an answer."""
    took = []
    size = 0
    for _ in range(TIMES):
        began = time.process_time()
        answer = await ask(SimpleNamespace(query={}))
        took.append((time.process_time() - began) * 1e3)
        size = len(answer.body)
    return took[0], min(took), size


async def _scrapes(nodes: int, tasks: int) -> dict[str, tuple[float, float, int]]:
    async with running_api() as api:
        leader = api.leader
        for n in range(nodes):
            node_id = f"{n:025d}"
            add_node(leader.view, node_id)
            leader.node_usage.put(node_id, NodeUsage(time.time() + 3600, HostUsage(n / 7, n << 20, 0.5)))
        for n in range(SERVICES):
            add_service(leader.view, f"s{n}", replicas=tasks // SERVICES)
        for n in range(tasks):
            node_id, slot = f"{n % nodes:025d}", 1 + n // SERVICES
            add_task(leader.view, f"t{n}", node_id, slot, service_id=f"s{n % SERVICES}")
        made = routes.MetricRoutes(api.node, StallWatch())
        asked = {
            "/metrics": made.exposition,
            "/metrics/nodes": made.nodes,
            "/metrics/services": made.services,
            "/skep/v1/metrics": made.metrics,
        }
        return {path: await _measured(ask) for path, ask in asked.items()}


@click.command()
@click.option("--nodes", default=2300, show_default=True)
@click.option("--tasks", default=100_000, show_default=True)
def main(nodes: int, tasks: int) -> None:
    """Prints CPU milliseconds and sizes, and the ratio of large to small."""
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    small = asyncio.run(_scrapes(SMALL, SMALL * SMALL))
    large = asyncio.run(_scrapes(nodes, tasks))
    click.echo(f"{'':20}{'small':>10}{'large':>10}{'ratio':>8}{'first':>10}{'kB':>9}")
    for path, (first, best, size) in large.items():
        before = small[path][1]
        ratio = best / before
        click.echo(f"{path:20}{before:8.2f}ms{best:8.2f}ms{ratio:8.1f}{first:8.1f}ms{size / 1000:9.1f}")


if __name__ == "__main__":
    main()
