"""Swarm2k's scenario, watched as it was: Telegraf, InfluxDB and the board's queries, while the managers are restarted.

`SKEP_SWARM2K=whole` has it whole: 2,300 nodes and 100,000 replicas.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
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
INTERVAL_S = 10.0 if WHOLE else 5.0
NODES_SEEN = "SELECT n_nodes FROM swarm"
TASKS_SEEN = "SELECT n_tasks FROM swarm_task_status WHERE status = 'running'"
DATABASE = "telegraf"

pytestmark = [pytest.mark.alone, pytest.mark.timeout(600 if WHOLE else 240)]


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
    """Returns 0 while nobody leads."""
    try:
        return int(managers.manager.get("/skep/v1/stats")["running"])
    except (AssertionError, OSError):
        return 0


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
        wait_until("it is seen", lambda: times_of(influx, NODES_SEEN), 30)
        leader = managers.leader()
        leader.stop()  # as for an upgrade
        after_stop_s = until_known(managers)
        leader.start()
        managers.wait_reachable(MANAGERS)
        wait_gathers(influx, 2)
        managers.leader().kill()  # as in a power cut
        after_kill_s = until_known(managers)
        wait_gathers(influx, 2)
        watching.end()
    assert watching.failed == []
    at, tasks_at = times_of(influx, NODES_SEEN), times_of(influx, TASKS_SEEN)
    seen = f"gaps of nodes {gaps(at)}, of tasks {gaps(tasks_at)} s; known after {after_stop_s:.1f}, {after_kill_s:.1f} s"
    print(seen, watching.log)
    assert max(gaps(at)) <= 2 * INTERVAL_S, seen
    # What runs nobody knows until the nodes have told the new leader, which takes them as long as it does.
    assert max(gaps(tasks_at)) <= max(after_stop_s, after_kill_s) + 2 * INTERVAL_S, seen
    # The board's queries, at each gather, not one moment only.
    assert set(influx.numbers(TASKS_SEEN, DATABASE)) == {REPLICAS}
    assert set(influx.numbers(NODES_SEEN, DATABASE)) == {NODES}
    inner = "SELECT memory, node_id FROM swarm_node"
    assert influx.numbers(f"SELECT count(distinct(node_id)) FROM ({inner})", DATABASE) == [NODES]
    # Each node once in each gather, and once in all: its number is not doubled by a change of who says it.
    assert influx.numbers("SELECT count(memory) FROM swarm_node", DATABASE) == [NODES * len(at)]
    each = influx.query("SELECT last(memory) FROM swarm_node", DATABASE)[0]["values"][0][1]
    last = "SELECT last(memory) AS memory FROM swarm_node GROUP BY node_id"
    assert influx.numbers(f"SELECT sum(memory) FROM ({last})", DATABASE) == [NODES * each]
    assert set(leaders(influx)) == {1}
    service = influx.query("SELECT last(n_running), n_desired, n_pending FROM swarm_service", DATABASE)
    assert service[0]["values"][0][1:] == [REPLICAS, REPLICAS, 0]


def until_known(managers: Managers) -> float:
    """Returns how long a new leader took to know of all that runs, in seconds."""
    began = time.monotonic()
    wait_until("another leads", managers.leader, 60)
    wait_until("what runs is known", lambda: running(managers) == REPLICAS, 120)
    return time.monotonic() - began


def times_of(influx: InfluxServer, query: str) -> list[float]:
    """Returns when a number was written, in order."""
    series = influx.query(query, DATABASE)
    return [row[0] for row in series[0]["values"]] if series else []


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def leaders(influx: InfluxServer) -> list[int]:
    """Returns how many led, by each gather."""
    found: dict[float, int] = {}
    for at, leads in influx.query("SELECT leader FROM swarm_manager", DATABASE)[0]["values"]:
        found[at] = found.get(at, 0) + leads
    return list(found.values())


def wait_gathers(influx: InfluxServer, more: int) -> None:
    wanted = len(times_of(influx, TASKS_SEEN)) + more
    wait_until("it is seen again", lambda: len(times_of(influx, TASKS_SEEN)) >= wanted, 60)
