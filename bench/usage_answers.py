"""What it costs the leader when all nodes say what they use: to take their answers in, to put them in order.
CPU time of one thread; without TLS and HTTP, which `skep top` of a simulated swarm shows.

    .venv/bin/python bench/usage_answers.py [--nodes 2300] [--tasks 43]
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.unit.builders import add_node, add_service, add_task, new_ids  # noqa: E402

from skep.manager.dispatcher.usage import UsageQuestions  # noqa: E402
from skep.manager.node_usage import NodeUsages  # noqa: E402
from skep.manager.usage import SwarmUsage  # noqa: E402
from skep.model.usage import CPU, HostUsage, TaskUsage  # noqa: E402
from skep.rpc import messages  # noqa: E402
from skep.rpc.checking import check  # noqa: E402
from skep.runtime.clock import SystemClock  # noqa: E402
from skep.store.view import View  # noqa: E402


class Asked:
    """Fulfils `NodeSessions`: keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, messages.UsageAsk]] = []

    def has(self, node_id: str) -> bool:
        return True

    def understands(self, node_id: str, feature: str) -> bool:
        return True

    def send(self, node_id: str, message: messages.FromManager) -> None:
        assert isinstance(message, messages.UsageAsk)
        self.sent.append((node_id, message))


async def _measure(nodes: int, tasks: int) -> None:
    view, new_id, rng = View(), new_ids(), random.Random(1)
    add_service(view, replicas=0)
    usages: dict[str, list[TaskUsage]] = {}
    for _ in range(nodes):
        node_id = new_id()
        add_node(view, node_id)
        ids = [new_id() for _ in range(tasks)]
        for number, task_id in enumerate(ids):
            add_task(view, task_id, node_id, number + 1)
        usages[node_id] = [TaskUsage(id, round(rng.random(), 4), rng.randrange(1 << 28)) for id in ids]
    asked, known, clock = Asked(), NodeUsages(), SystemClock()
    questions = UsageQuestions(view, asked, known, clock)
    usage = SwarmUsage(view, questions, known, clock)
    for with_tasks in (False, True):
        asked.sent.clear()
        asking = asyncio.ensure_future(questions.ask(usages, with_tasks))
        while len(asked.sent) < nodes:
            await asyncio.sleep(0.01)
        host = HostUsage(1.2345, 1 << 30, 0.5)
        frames = [
            (id, messages.encode(messages.UsageSaid(asks.number, host, usages[id] if with_tasks else [])))
            for id, asks in asked.sent
        ]
        began = time.thread_time()
        for node_id, frame in frames:
            said = messages.decode_from_agent(frame)
            assert isinstance(said, messages.UsageSaid)
            check(said)
            questions.said(node_id, said)
        took_ms = (time.thread_time() - began) * 1e3
        what, size = "hosts and tasks" if with_tasks else "hosts", sum(len(frame) for _, frame in frames)
        answered = (await asking).answered
        click.echo(
            f"{what}: {took_ms:.0f} ms for {answered} answers, {size / 1e6:.2f} MB, {size // nodes} B each"
        )
    for kind, order in (
        ("tasks", usage.tasks(None, None, CPU, 100)),
        ("services", usage.services(None, CPU, 100)),
    ):
        began = time.thread_time()
        found = await order
        click.echo(f"{kind} in order: {(time.thread_time() - began) * 1e3:.0f} ms, {found.total} of them")
    questions.stop()


@click.command()
@click.option("--nodes", default=2300, show_default=True)
@click.option("--tasks", type=click.IntRange(0, 1000), default=43, show_default=True, help="Of each node.")
def main(nodes: int, tasks: int) -> None:
    """Prints CPU milliseconds and bytes."""
    asyncio.run(_measure(nodes, tasks))


if __name__ == "__main__":
    main()
