"""Packets' ways side by side on one machine: skep's mesh and overlays, Docker's, and bare ones.

    sudo .venv/bin/python bench/beside_docker.py [--rounds 5] [--seconds 2] [--json FILE]

Hosts are network namespaces with an engine each. Every way is measured in every round, for a few seconds, in
an order that turns round each time: what else the machine does hits all. Ratios are of one round, and their
median counts. wrk and iperf3 have one thread, wrk four connections. Where others use the machine, go by the
processor time for a request.
"""

from __future__ import annotations

import json
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests import wrk  # noqa: E402

import beside_paths as ways  # noqa: E402
from beside_paths import Beside, Skep, Way  # noqa: E402
from beside_tools import Tools  # noqa: E402

BYTES, KEPT, NEW = "TCP, Gbit/s", "keep-alive, req/s", "new, req/s"
P99 = {KEPT: "p99, ms", NEW: "p99 new, ms"}
CPU = {KEPT: "CPU, µs/req", NEW: "CPU new, µs/req"}
COLUMNS = (BYTES, KEPT, P99[KEPT], CPU[KEPT], NEW, P99[NEW], CPU[NEW])
ANSWERS_S = 30.0  # until what was just made must answer

# Who against whom, in which measure, and at least how much of it.
GOALS = (
    (ways.MESH_HERE, ways.DOCKER_PORT, BYTES, 0.95),
    (ways.MESH_HERE, ways.DOCKER_PORT, KEPT, 0.95),
    (ways.MESH_HERE, ways.DOCKER_PORT, NEW, 0.9),
    *((ways.OVERLAY, ways.DOCKER_OVERLAY, measure, 1.0) for measure in (BYTES, KEPT, NEW)),
    *((ways.OVERLAY, ways.BARE_ENGINES, measure, 0.95) for measure in (BYTES, KEPT, NEW)),
    *((ways.OVERLAY, ways.BARE_CONTAINER, measure, 0.95) for measure in (BYTES, KEPT, NEW)),
    *((ways.OVERLAY, ways.BARE_BRIDGED, measure, 0.95) for measure in (BYTES, KEPT, NEW)),
    *((ways.OVERLAY, ways.BARE, measure, 0.95) for measure in (BYTES, KEPT, NEW)),
    *((ways.VIP, ways.OVERLAY, measure, 0.9) for measure in (BYTES, KEPT, NEW)),
)

KERNELS = [each for each in psutil.process_iter(["name"]) if each.info["name"].startswith("ksoftirqd")]
Figures = dict[str, list[float]]  # column -> a figure per round


class Meter:
    def __init__(self, tools: Tools, seconds: int) -> None:
        self._tools = tools
        self._seconds = seconds

    def bytes(self, way: Way) -> dict[str, float]:
        command = [str(self._tools.program("iperf3")), "-J", "-t", str(self._seconds)]
        said = json.loads(self._run(way, [*command, "-c", way.address, "-p", str(way.bytes_port)]))
        if "sum_received" not in said["end"]:  # it ends with 0 all the same
            raise OSError(f"{way.name}: iperf3: {said.get('error')}")
        return {BYTES: said["end"]["sum_received"]["bits_per_second"] / 1e9}

    def kept(self, way: Way) -> dict[str, float]:
        return self._requests(way, KEPT, keeps=True)

    def new(self, way: Way) -> dict[str, float]:
        return self._requests(way, NEW, keeps=False)

    def _requests(self, way: Way, column: str, keeps: bool) -> dict[str, float]:
        url, program = f"http://{way.address}:{way.web_port}/", str(self._tools.program("wrk"))
        before = cpu_s(way.server)
        said = wrk.read(self._run(way, wrk.command(url, self._seconds, keeps=keeps, wrk=program)))
        used_us = (cpu_s(way.server) - before) * 1e6
        if said.failed or not said.requests:
            raise SystemExit(f"{way.name}: {said}")
        each_us = used_us / said.requests
        return {column: said.per_second, P99[column]: said.p99_ms, CPU[column]: each_us}

    def _run(self, way: Way, command: Sequence[str]) -> str:
        done = subprocess.run(
            [*way.prefix, *command],
            check=False,
            env=self._tools.environment,
            capture_output=True,
            text=True,
            timeout=self._seconds + 30,
        )
        if done.returncode != 0:
            raise OSError(f"{way.name}: {' '.join(command)}: {done.stdout} {done.stderr}")
        return done.stdout

    def wait(self, way: Way) -> None:
        """Waits until both servers answer; what a first packet costs is paid by then."""
        deadline = time.monotonic() + ANSWERS_S
        while True:
            try:
                self.bytes(way)
                self.kept(way)
                return
            except (OSError, ValueError) as error:
                if time.monotonic() > deadline:
                    raise SystemExit(f"{way.name} does not answer: {error}") from error
                time.sleep(0.5)


def cpu_s(server: int) -> float:
    """Returns the processor time of who asks, who answers, and of the kernel's threads for packets: all of a
    packet's way is in it, for a kernel carries it on in whose time it is sent. What else the machine does
    changes it far less than it changes requests per second."""
    asked = resource.getrusage(resource.RUSAGE_CHILDREN)
    pids = [server, *(process.pid for process in KERNELS)]
    ran = sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids)
    return asked.ru_utime + asked.ru_stime + ran / 1e9


def measure(meter: Meter, all_ways: Sequence[Way], rounds: int) -> dict[str, Figures]:
    found: dict[str, Figures] = {way.name: {} for way in all_ways}
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        turned = list(all_ways) if number % 2 == 0 else list(reversed(all_ways))
        for kind in (meter.bytes, meter.kept, meter.new):
            for way in turned:
                for column, figure in kind(way).items():
                    found[way.name].setdefault(column, []).append(figure)
    return found


class Compared(NamedTuple):
    """One goal, and the medians of the rounds' ratios: of what was reached, and of the processor time that
    the other one takes for a request to that of this one."""

    name: str
    other: str
    column: str
    goal: float
    ratio: float
    cpu_ratio: float | None


def compare(found: dict[str, Figures]) -> list[Compared]:
    compared = []
    for name, other, column, goal in GOALS:
        if name in found and other in found:
            ratio = _ratio(found[name][column], found[other][column])
            cpu = CPU.get(column)
            cpu_ratio = _ratio(found[other][cpu], found[name][cpu]) if cpu else None
            compared.append(Compared(name, other, column, goal, ratio, cpu_ratio))
    return compared


def _ratio(figures: list[float], others: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(figures, others, strict=True))


def show(found: dict[str, Figures], compared: Sequence[Compared]) -> None:
    rows = [["", *COLUMNS]]
    rows += [
        [name, *(f"{statistics.median(figures[c]):,.{0 if 'req/s' in c else 2}f}" for c in COLUMNS)]
        for name, figures in found.items()
    ]
    _print(rows)
    click.echo()
    goals = [["", "beside", "in", "goal", "ratio", "by CPU time"]]
    goals += [
        [
            e.name,
            e.other,
            e.column,
            f"{e.goal:.2f}",
            f"{e.ratio:.2f}",
            f"{e.cpu_ratio:.2f}" if e.cpu_ratio else "",
        ]
        for e in compared
    ]
    _print(goals)


def _print(rows: list[list[str]]) -> None:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    for row in rows:
        click.echo(
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        )


def say(text: str) -> None:
    click.echo(f"==> {text}", err=True)


def made(directory: Path, tools: Tools, stops: list[Callable[[], None]], only: str) -> list[Way]:
    """Makes all hosts; `stops` has what takes them away, as far as they are made."""
    say("two hosts of skep")
    skep = Skep(directory, tools)
    stops.append(skep.stop)
    skep.start()
    found = skep.ways()
    say("a plain engine, two of Docker's own swarm, and hosts without one")
    beside = Beside(directory, tools, skep.lan, skep.client)
    stops.append(beside.stop)
    found = [*beside.ways(), *found]
    return [way for way in found if only in way.name]


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=2, show_default=True, help="How long each single measurement takes.")
@click.option("--only", default="", help="Ways with this in their name.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Where all figures go, as JSON.")
def main(rounds: int, seconds: int, only: str, json_file: Path | None) -> None:
    """Compares ways of packets; needs root and Debian's docker.io, and downloads wrk, iperf3 and nginx."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    directory = Path(tempfile.mkdtemp(prefix="skb", dir="/var/tmp"))  # unix sockets' paths are short
    stops: list[Callable[[], None]] = []
    try:
        say("downloading wrk, iperf3 and nginx")
        tools = Tools(directory).fetch()
        all_ways = made(directory, tools, stops, only)
        meter = Meter(tools, seconds)
        for way in all_ways:
            meter.wait(way)
        found = measure(meter, all_ways, rounds)
        versions = tools.versions()
        compared = compare(found)
        click.echo(", ".join(f"{name} {version}" for name, version in versions.items()))
        show(found, compared)
        if json_file is not None:
            json_file.write_text(
                json.dumps({"versions": versions, "figures": found, "ratios": compared}, indent=1)
            )
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # what was begun is taken away
        say("taking all away")
        for stop in reversed(stops):
            stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
