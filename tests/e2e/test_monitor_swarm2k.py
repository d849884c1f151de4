"""Swarm2k's scenario, watched as it was: Telegraf, InfluxDB and the board's queries, while the managers are restarted.

`SKEP_SWARM2K=whole` has it whole: 2,300 nodes and 100,000 replicas.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.influx_server import InfluxServer
from tests.telegraf import telegraf

from .fixtures import starting
from .hosts import free_port, wait_until
from .managers import Managers
from .skep_cli import SKEP

WHOLE = os.environ.get("SKEP_SWARM2K") == "whole"
NODES, REPLICAS = (2300, 100_000) if WHOLE else (300, 10_000)
MANAGERS = 3
# Telegraf's own is 10 s. A leader that dies is replaced after some four seconds: two of an interval must be more.
INTERVAL_S = 5.0
SLACK_S = 0.5  # of a busy machine
DATABASE = "telegraf"

pytestmark = [pytest.mark.alone, pytest.mark.timeout(600 if WHOLE else 180)]


@pytest.fixture
def managers(short_dir: Path) -> Iterator[Managers]:
    with starting(Managers(short_dir, MANAGERS, 0)) as made:
        for host in made.managers:
            made.first.docker("node update --availability drain {}", host.name)
        yield made


@pytest.fixture
def influx(tmp_path: Path) -> Iterator[InfluxServer]:
    with starting(InfluxServer(tmp_path, (free_port(), free_port()))) as made:
        made.query(f"CREATE DATABASE {DATABASE}")
        yield made


@pytest.fixture
def nodes(managers: Managers) -> Iterator[subprocess.Popen[bytes]]:
    """All but the managers, which are nodes as well."""
    token = managers.first.docker("swarm join-token -q worker")
    joins = [word for each in managers.managers for word in ("--join", managers.addresses[each.name])]
    simulated = subprocess.Popen(
        [SKEP, "simulate", "--nodes", str(NODES - MANAGERS), "--token", token, *joins, "--procs", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield simulated
    simulated.send_signal(signal.SIGINT)
    simulated.wait(60)


def ready(managers: Managers) -> int:
    return int(managers.manager.get("/skep/v1/stats")["nodes"].get("ready", 0))


def running(managers: Managers) -> int:
    return int(managers.manager.get("/skep/v1/stats")["running"])


def test_the_board_shows_all_of_it_through_changes_of_leader(
    managers: Managers, influx: InfluxServer, nodes: subprocess.Popen[bytes]
) -> None:
    wait_until("all nodes are ready", lambda: ready(managers) == NODES, 120)
    managers.first.docker(
        "service create -q -d --no-resolve-image --name alpine --replicas {} alpine", REPLICAS
    )
    wait_until("all run", lambda: running(managers) == REPLICAS, 240)
    hosts = [word for each in managers.managers for word in ("--host", each.url)]
    with telegraf(influx, DATABASE, INTERVAL_S, " ".join(hosts)) as watching:
        wait_until("it is seen", lambda: gathers(influx), 30)
        leader = managers.leader()
        leader.stop()  # as for an upgrade
        wait_until("another leads", managers.leader, 20)
        leader.start()
        managers.wait_reachable(MANAGERS)
        wait_gathers(influx, 2)
        managers.leader().kill()  # as in a power cut
        wait_until("another leads", managers.leader, 20)
        wait_gathers(influx, 2)
        watching.end()
    assert watching.failed == []
    times = gathers(influx)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    print(f"{len(times)} gathers, longest gap {max(gaps):.1f} s; {watching.log}")
    assert max(gaps) <= 2 * INTERVAL_S + SLACK_S, (gaps, watching.log)
    # The board's queries, at each gather, not one moment only.
    since = f"time >= {times[0]}s"
    text = f"SELECT n_tasks FROM swarm_task_status WHERE status = 'running' AND {since}"
    assert set(influx.numbers(text, DATABASE)) == {REPLICAS}
    assert set(influx.numbers(f"SELECT n_nodes FROM swarm WHERE {since}", DATABASE)) == {NODES}
    inner = f"SELECT memory, node_id FROM swarm_node WHERE {since}"
    assert influx.numbers(f"SELECT count(distinct(node_id)) FROM ({inner})", DATABASE) == [NODES]
    # Each node once in each gather, and once in all: its number is not doubled by a change of who says it.
    points = influx.numbers(f"SELECT count(memory) FROM swarm_node WHERE {since}", DATABASE)
    assert points == [NODES * len(times)]
    last = f"SELECT last(memory) AS memory FROM swarm_node WHERE {since} GROUP BY node_id"
    each = influx.query("SELECT last(memory) FROM swarm_node", DATABASE)[0]["values"][0][1]
    assert influx.numbers(f"SELECT sum(memory) FROM ({last})", DATABASE) == [NODES * each]
    assert set(leaders(influx)) == {1}
    service = influx.query("SELECT last(n_running), n_desired, n_pending FROM swarm_service", DATABASE)
    assert service[0]["values"][0][1:] == [REPLICAS, REPLICAS, 0]


def gathers(influx: InfluxServer) -> list[float]:
    """Returns when the swarm's numbers were written, in order."""
    series = influx.query("SELECT n_nodes FROM swarm", DATABASE)
    return [row[0] for row in series[0]["values"]] if series else []


def leaders(influx: InfluxServer) -> list[int]:
    """Returns how many led, by each gather."""
    found: dict[float, int] = {}
    for time, leads in influx.query("SELECT leader FROM swarm_manager", DATABASE)[0]["values"]:
        found[time] = found.get(time, 0) + leads
    return list(found.values())


def wait_gathers(influx: InfluxServer, more: int) -> None:
    wanted = len(gathers(influx)) + more
    wait_until("it is seen again", lambda: len(gathers(influx)) >= wanted, 60)
