"""What the dashboard's board costs: bytes told, the manager's processor, and how long its loop is held.

    .venv/bin/python bench/board.py [--tasks 100000] [--nodes 2300] [--seconds 20] [--watchers 50]

A leader with its whole API on the store in memory, whose view is filled by hand: what is measured is the
board alone. Watchers are another process's, as dashboards are, and take what comes packed. The same scale-up
is done without watchers first: the difference is theirs. `--pages` puts one dashboard between, with as many
browsers. CPU time, of the process that it is said of.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click
import structlog
import uvloop

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from aiohttp import ClientSession, CookieJar, TCPConnector, UnixConnector  # noqa: E402
from msgspec.structs import replace  # noqa: E402
from tests.api_process import Api, running_api  # noqa: E402
from tests.unit.builders import add_node, add_service, add_task  # noqa: E402

from skep.model.states import PREPARING, RUNNING, STARTING  # noqa: E402
from skep.model.task import Task, TaskStatus  # noqa: E402
from skep.web.dashboard import Dashboard  # noqa: E402
from skep.web.swarm_api import SwarmApi  # noqa: E402

SETTLE_S = 3.0  # for watchers to come, and for garbage of the filling to go
TURN_S = 0.02  # how often the driver has its turn, as commits and reports come
LAG_S = 0.005
STATES = (PREPARING, STARTING, RUNNING)


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Lag:
    """How much processor time the loop spends at once, before a timer that is due: others' work on the machine,
    which makes all late, is not in it."""

    def __init__(self) -> None:
        self.worst_s = 0.0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, used = loop.time() + LAG_S, time.thread_time()
            await asyncio.sleep(LAG_S)
            self.worst_s = max(self.worst_s, min(loop.time() - due, time.thread_time() - used))

    def take(self) -> float:
        worst, self.worst_s = self.worst_s, 0.0
        return worst


class Swarm:
    """Fills the leader's view, and has tasks start as nodes would."""

    def __init__(self, api: Api, nodes: int) -> None:
        self.view, self.board, self.new_id = api.leader.view, api.leader.board, api.new_id
        self.rng = random.Random(1)
        self.nodes = [self._node(number) for number in range(nodes)]
        self.service = self.new_id()
        add_service(self.view, self.service, replicas=0, image="nginx:1.27")
        self.starting: list[list[Task]] = [[] for _ in STATES]
        self.made = 0

    def _node(self, number: int) -> str:
        node = add_node(self.view, self.new_id())
        self.view.put_node(replace(node, description=replace(node.description, hostname=f"node{number:05d}")))
        return node.id

    def tasks(self, count: int) -> list[Task]:
        made = []
        for _ in range(count):
            self.made += 1
            node_id = self.nodes[self.made % len(self.nodes)]
            made.append(
                add_task(self.view, self.new_id(), node_id, self.made, service_id=self.service, observed=None)
            )
        return made

    def fill(self, count: int) -> None:
        for task in self.tasks(count):
            self.view.put_status(task, TaskStatus(RUNNING, 1.0))

    def turn(self, count: int) -> None:
        """Places so many, and has those before come one state further."""
        for behind in range(len(STATES) - 1, -1, -1):
            for task in self.starting[behind]:
                self.view.put_status(task, TaskStatus(STATES[behind], 1.0))
                self.board.reported(task.id)
            if behind:
                self.starting[behind] = self.starting[behind - 1]
        self.starting[0] = self.tasks(count)
        self.board.committed({"": (self.starting[0], [])})

    async def scale_up(self, per_s: int, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            self.turn(int(per_s * TURN_S))
            await asyncio.sleep(TURN_S)


@asynccontextmanager
async def watching(*arguments: str) -> AsyncIterator[None]:
    child = subprocess.Popen(
        [sys.executable, __file__, "--watch", *arguments], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    try:
        await asyncio.to_thread(child.stdout.readline)
        await asyncio.sleep(SETTLE_S)
        yield
    finally:
        child.terminate()
        out, _ = await asyncio.to_thread(child.communicate)
        print(out, end="")


async def watch(target: str, count: int) -> None:
    """Reads streams as they come, and says what one was told, when it is ended."""
    is_page = target.startswith("http")
    connector = TCPConnector(limit=0) if is_page else UnixConnector(target, limit=0)
    async with ClientSession(
        connector=connector, auto_decompress=False, cookie_jar=CookieJar(unsafe=True)
    ) as session:
        if is_page:
            await (await session.get(target)).read()
            target = target.partition("/open")[0] + "/board/stream"
        else:
            target = "http://skep/skep/v1/board/stream"
        streams = [await session.get(target) for _ in range(count)]
        print("ready", flush=True)
        rest = [asyncio.ensure_future(_drain(each)) for each in streams[1:]]
        await _drain_first(streams[0])
        await asyncio.gather(*rest)


async def _drain(stream: object) -> None:
    while await stream.content.readany():  # type: ignore[attr-defined]
        pass


async def _drain_first(stream: object) -> None:
    sizes: list[int] = []
    began, last = 0, 0.0
    try:
        while piece := await stream.content.readany():  # type: ignore[attr-defined]
            now = time.monotonic()
            if now - last > 0.5:
                sizes.append(0)
            sizes[-1] += len(piece)
            last = now
    finally:
        changes = sizes[1:] or [0]
        print(
            f"  a watcher was told: snapshot {sizes[0]:,} bytes, then {len(changes)} changes,"
            f" at most {max(changes):,}, on average {sum(changes) // len(changes):,}",
            flush=True,
        )


async def measured(name: str, swarm: Swarm, lag: Lag, per_s: int, seconds: float) -> float:
    gc.collect()
    gc.freeze()
    lag.take()
    began, used = time.monotonic(), cpu_s()
    await swarm.scale_up(per_s, seconds)
    took, used = time.monotonic() - began, cpu_s() - used
    print(f"{name}: {100 * used / took:.1f} % of a core, loop held for {1000 * lag.take():.0f} ms at most")
    return 100 * used / took


async def bench(tasks: int, nodes: int, seconds: float, watchers: int) -> None:
    async with running_api() as api:
        swarm, lag = Swarm(api, nodes), Lag()
        per_s = int(tasks / 4 / seconds)
        swarm.fill(tasks - int(3 * per_s * seconds))
        lagging = asyncio.ensure_future(lag.run())
        print(f"{nodes} nodes, up to {tasks} tasks, {per_s} of them a second, {seconds:g} s each")
        alone = await measured("nobody watches", swarm, lag, per_s, seconds)
        began, used = time.monotonic(), cpu_s()
        lag.take()
        file = await api.leader.board.file()
        print(
            f"the board is made in {time.monotonic() - began:.2f} s, CPU {cpu_s() - used:.2f} s, the loop held for"
            f" {1000 * lag.take():.0f} ms; snapshot {len(file.data):,} bytes, {len(file.packed):,} packed"
        )
        async with watching(api.socket, str(watchers)):
            busy = await measured(f"{watchers} watchers, quiet", swarm, lag, 0, 10)
            scaling = await measured(f"{watchers} watchers", swarm, lag, per_s, seconds)
        print(f"  for {watchers} watchers: {scaling - alone:.1f} % of a core more, {busy:.1f} % in quiet")
        await pages(api, swarm, lag, per_s, seconds, watchers, alone)
        lagging.cancel()


async def pages(
    api: Api, swarm: Swarm, lag: Lag, per_s: int, seconds: float, watchers: int, alone: float
) -> None:
    """One dashboard, in a process of its own, with as many browsers."""
    child = subprocess.Popen(
        [sys.executable, __file__, "--serve", api.socket], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    link = (await asyncio.to_thread(child.stdout.readline)).strip()
    async with watching(link, str(watchers)):
        scaling = await measured(f"one dashboard, {watchers} pages", swarm, lag, per_s, seconds)
    print(f"  for the dashboard: {scaling - alone:.1f} % of a core more, of the manager")
    child.terminate()
    print((await asyncio.to_thread(child.communicate))[0], end="")


async def serve(socket: str) -> None:
    swarm = SwarmApi([f"unix://{socket}"])
    shown = Dashboard(swarm, True, lambda: None)
    await shown.listen(0)
    print(shown.link, flush=True)
    lag = Lag()
    await asyncio.sleep(SETTLE_S)
    began, used = time.monotonic(), cpu_s()
    try:
        await lag.run()
    finally:
        share = 100 * (cpu_s() - used) / (time.monotonic() - began)
        print(
            f"  the dashboard itself: {share:.1f} % of a core, its loop held for {1000 * lag.take():.0f} ms",
            flush=True,
        )


@click.command()
@click.option("--tasks", default=100_000, show_default=True)
@click.option("--nodes", default=2_300, show_default=True)
@click.option("--seconds", default=20.0, show_default=True)
@click.option("--watchers", default=50, show_default=True)
@click.option("--watch", hidden=True, nargs=2, type=(str, int))
@click.option("--serve", "serve_socket", hidden=True)
def main(
    tasks: int, nodes: int, seconds: float, watchers: int, watch: tuple[str, int] | None, serve_socket: str
) -> None:
    """Measures the board."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if watch is not None:
        uvloop.run(until_ended(globals()["watch"](*watch)))
    elif serve_socket:
        asyncio.run(until_ended(serve(serve_socket)))
    else:
        uvloop.run(bench(tasks, nodes, seconds, watchers))


async def until_ended(work: object) -> None:
    """Ends what it does at SIGTERM, so that it says what it has seen."""
    import signal

    doing = asyncio.ensure_future(work)  # type: ignore[arg-type]
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, doing.cancel)
    await asyncio.gather(doing, return_exceptions=True)


if __name__ == "__main__":
    main()
