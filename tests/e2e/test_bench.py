"""`skep bench`, small; what it says of the machine is nobody's business here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(200)
SKEP = Path(sys.executable).with_name("skep")
KEYS = {
    *("join_per_s", "create_to_running_s", "list_tasks_s", "list_nodes_s", "replace_s", "remove_s"),
    *("manager_cpu_s", "manager_rss_mb", "etcd_cpu_s", "etcd_write_mb", "loop_stall_max_s"),
}


def bench(json_file: Path, *options: str) -> dict[str, Any]:
    command = [SKEP, "bench", "swarm2k", "--json", json_file, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=190)
    assert done.returncode == 0, done.stderr
    assert "join_per_s" in done.stdout
    figures: dict[str, Any] = json.loads(json_file.read_text())
    assert set(figures) >= KEYS
    # What etcd writes to a tmpfs (/tmp in Debian 13) the kernel does not count.
    assert [key for key in KEYS - {"loop_stall_max_s", "etcd_write_mb"} if not figures[key] > 0] == []
    return figures


def test_the_benchmark_measures_every_step(tmp_path: Path) -> None:
    out, plot = tmp_path / "f.json", tmp_path / "f.png"
    figures = bench(out, "--nodes", "20", "--replicas", "400", "--lost", "3", "--plot", str(plot))
    assert plot.read_bytes()[:4] == b"\x89PNG"
    assert figures["failover"] is None


def test_a_killed_leader_loses_nothing_and_runs_nothing_twice(tmp_path: Path) -> None:
    figures = bench(
        tmp_path / "f.json", "--managers", "3", "--nodes", "40", "--replicas", "2000", "--lost", "4"
    )
    failover = figures["failover"]
    wrong = {key: failover[key] for key in ("running_twice", "lost", "unknown", "started_again")}
    assert set(wrong.values()) == {0}, wrong
    assert failover["joins_done"] == failover["joins_wanted"] > 0
    assert 0 < failover["api_answers_s"] <= failover["all_running_s"] < 60
    assert [manager["led"] for manager in figures["managers"]].count(True) == 2
    assert all(manager["cpu_s"] > 0 and manager["etcd_cpu_s"] > 0 for manager in figures["managers"])
    assert figures["managers_cpu_sum_s"] > figures["manager_cpu_s"]


def test_many_services_and_a_large_update_are_measured(tmp_path: Path) -> None:
    out = tmp_path / "f.json"
    command = [
        SKEP,
        "bench",
        "services",
        "--json",
        out,
        "--nodes",
        "20",
        "--services",
        "30",
        "--replicas",
        "10",
    ]
    command += ["--clients", "4", "--updated", "200", "--parallelism", "50"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=190)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert figures["create"]["count"] == 30
    assert figures["create_to_running_s"] >= figures["create_all_s"] > 0
    assert 0 < figures["update_manager_cores"] <= 1.5
    for reads in (figures["reads"], figures["update_reads"]):
        assert set(reads) == {"service ls", "service inspect", "service ps", "node ls"}
        assert all(each["count"] > 0 and 0 < each["median_s"] <= each["max_s"] for each in reads.values())
