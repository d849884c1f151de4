"""`./quickstart monitor`, as a new user has it: Prometheus and InfluxDB, out of Debian's packages, run in the swarm and
know it, through a manager's death; `skep monitor deploy` again changes them, `skep monitor rm` takes them away."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from .hosts import Host, wait_until
from .skep_cli import skep, skep_ok
from .test_quickstart import ROOT, links, processes, rules

STACK = "quickstart-monitor"
HELLOS, PARTS = 3, 3
LATER_S = 60.0  # a leader, four seconds; then a scrape of it, every 15 s

QUICKSTART_S = 200  # forty seconds where nothing else runs

pytestmark = [pytest.mark.root, pytest.mark.timeout(400)]


def quickstart(home: Path, *arguments: str) -> str:
    done = subprocess.run(
        [ROOT / "quickstart", *arguments],
        env={**os.environ, "SKEP_QUICKSTART_DIR": str(home)},
        capture_output=True,
        text=True,
        timeout=QUICKSTART_S,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def prometheus(address: str, query: str) -> float | None:
    said = asked(f"{address}/api/v1/query", query=query)["data"]["result"]
    return float(said[0]["value"][1]) if said else None


def influx(address: str, query: str) -> float | None:
    (said,) = asked(f"{address}/query", db="telegraf", q=query)["results"]
    return float(said["series"][0]["values"][-1][1]) if "series" in said else None


def asked(url: str, **query: str) -> dict[str, list[dict[str, list[dict[str, list[list[str]]]]]]]:
    with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(query)}", timeout=20) as answer:
        return dict(json.load(answer))


def changed(host: Host, home: Path) -> None:
    """What is deployed otherwise is other, and no config of before is left; then all of it goes."""
    spec = "'{{range .Spec.TaskTemplate.ContainerSpec.Args}}{{println .}}{{end}}'"
    image = host.docker(
        f"service inspect -f {{}} {STACK}_prometheus", "{{.Spec.TaskTemplate.ContainerSpec.Image}}"
    )
    configs = set(host.docker("config ls -q").split())
    options = f"--name {STACK} --no-grafana --image prometheus={image} --socket {home}/mg2.api/skep.sock"
    options += " --constraint node.hostname==mg2 --resolve-image never --keep 3d"
    refused = skep(f"monitor deploy {options} --metrics-port 1", on=host)
    assert refused.returncode == 1
    assert "Prometheus asks every manager at port 1, where not all answer: mg" in refused.stderr
    said = skep_ok(f"monitor deploy {options} --no-check --metrics-port 1", on=host)
    assert f"{STACK} runs" in said
    assert host.docker("service ls -q -f {}", f"label=com.docker.stack.namespace={STACK}").count("\n") == 0
    assert "--storage.tsdb.retention.time=3d" in host.docker(f"service inspect -f {spec} {STACK}_prometheus")
    now = set(host.docker("config ls -q").split())
    assert len(now) == len(configs) == 2
    assert len(now & configs) == 1, "the rules are as they were"
    said = skep_ok(f"monitor rm --name {STACK}", on=host)
    assert f"docker volume rm {STACK}_prometheus-data" in said
    assert host.docker("stack ls --format {}", "{{.Name}}") == ""
    assert host.docker("config ls -q") == ""
    gone = skep(f"monitor rm --name {STACK}", on=host)
    assert f"no stack {STACK} runs in this swarm" in gone.stderr


def test_what_watches_runs_in_the_swarm_and_knows_it(short_dir: Path) -> None:
    home = short_dir / "q"
    before = links(), rules()
    try:
        said = quickstart(home, "monitor")
        addresses = dict(
            re.findall(r"(Prometheus|InfluxDB) +(http://\S+)    nodes: 5, tasks running: \d", said)
        )
        assert set(addresses) == {"Prometheus", "InfluxDB"}, said
        assert said.splitlines()[-1] == f"export DOCKER_HOST=unix://{home}/mg0.sock"
        assert "Grafana is not in Debian" in said
        assert len(list((home / "grafana/dashboards/skep").iterdir())) == 10

        at, other = addresses["Prometheus"], addresses["InfluxDB"]
        running = 'max(swarm_manager_tasks_total{state="running"})'
        wait_until("it knows all tasks", lambda: prometheus(at, running) == HELLOS + PARTS, LATER_S)
        up = 'count(up{job=~"skep.*"} == 1)'
        wait_until("three managers, four paths each", lambda: prometheus(at, up) == 12, LATER_S)
        # By a manager's address: what this test asks of Prometheus itself.
        led = f'sum(skep_mesh_connections_total{{service_name="{STACK}_prometheus"}})'
        wait_until("what the mesh led is there", lambda: (prometheus(at, led) or 0) > 0, LATER_S)
        again = quickstart(home, "monitor")
        assert "making images" not in again
        assert f"tasks running: {HELLOS + PARTS}" in quickstart(home, "status")

        os.kill(int((home / "mg0.pid").read_text()), signal.SIGKILL)
        host = Host(home, "mg1", "")
        wait_until("another one leads", lambda: host.run("service ls", check=False).returncode == 0)
        host.docker("service scale -d hello=5")
        query = 'SELECT last("n_running") FROM "swarm_service" WHERE "service_name" = \'hello\''
        wait_until(
            "Prometheus knows",
            lambda: prometheus(at, 'skep_service_tasks_running{service_name="hello"}') == 5,
            LATER_S,
        )
        wait_until("InfluxDB knows", lambda: influx(other, query) == 5, LATER_S)

        changed(host, home)
    finally:
        quickstart(home, "down")
    assert not home.exists()
    assert (links(), rules()) == before
    assert processes(home) == []
