"""A real Prometheus that watches a swarm: by its daemons' metrics, its rules, and what it discovers by the API."""

from __future__ import annotations

import json
import re
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skep.monitor.prometheus import rules
from tests.prometheus.server import Prometheus, promtool

from .fixtures import starting
from .hosts import Host, free_port, wait_until
from .managers import Managers
from .skep_cli import skep_ok

TESTS = Path(__file__).parents[1] / "prometheus"
DOCKERD_GAUGES = {
    f"swarm_manager_{kind}_total" for kind in ("configs", "networks", "secrets", "services", "tasks")
}
SWARM_STATES = 14  # of tasks
pytestmark = pytest.mark.timeout(240)


class Watched(Managers):
    """A swarm whose daemons serve metrics."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, managers=3, workers=2)
        self.metrics = {host.name: f"127.0.0.1:{free_port()}" for host in self.hosts}
        for host in self.hosts:
            host.options = ("--metrics-addr", self.metrics[host.name])

    def text(self, name: str, path: str = "/metrics") -> bytes:
        """Returns what a daemon says to whoever asks."""
        with urllib.request.urlopen(f"http://{self.metrics[name]}{path}", timeout=10) as said:
            assert said.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            return bytes(said.read())


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with starting(Watched(tmp_path_factory.mktemp("p"))) as made:
        made.first.docker(
            "service create -d --name web --replicas 6 -l prometheus-job=web -p 8080:80 busybox"
        )
        made.first.docker("service create -d --name idle --replicas 2 busybox")
        wait_until("all runs", lambda: len(made.first.running("web")) + len(made.first.running("idle")) == 8)
        yield made


def _quick(text: str) -> str:
    """Returns the rules with waits of a second: what somebody is told of after minutes a test need not wait for."""
    return re.sub(r"\bfor: \S+", "for: 1s", text)


def _configure(directory: Path, config: str) -> None:
    (directory / "skep-rules.yml").write_text(_quick(rules()))
    (directory / "prometheus.yml").write_text(config.replace("interval: 15s", "interval: 1s"))
    checked = promtool("check", "config", directory / "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.fixture(scope="module")
def prometheus(swarm: Watched, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    directory = tmp_path_factory.mktemp("d")
    targets = [part for address in swarm.metrics.values() for part in ("--target", address)]
    _configure(directory, skep_ok("monitor prometheus --config", *targets))
    with starting(Prometheus(directory)) as made:
        yield made


@pytest.mark.parametrize("file", ["rules_test.yml", "certificates_test.yml"])
def test_each_rule_does_what_it_says(file: str, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(skep_ok("monitor prometheus --rules"))
    shutil.copy(TESTS / file, tmp_path)
    for command in (("check", "rules", tmp_path / "rules.yml"), ("test", "rules", tmp_path / file)):
        done = promtool(*command)
        assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_promtool_has_nothing_against_the_metrics_but_dockerds_names(swarm: Watched) -> None:
    for host in swarm.hosts:
        for path in ("/metrics", "/metrics/nodes", "/metrics/services", "/metrics/mesh"):
            said = swarm.text(host.name, path)
            done = promtool("check", "metrics", given=said)
            complaints = done.stderr.decode().splitlines()
            names = {line.split()[0] for line in complaints}
            assert all(
                line.endswith('non-counter metrics should not have "_total" suffix') for line in complaints
            )
            assert names == (DOCKERD_GAUGES if b"swarm_manager_nodes" in said else set()), (host.name, path)
            assert done.returncode == (3 if names else 0)


def test_the_rules_ask_for_what_is_there(swarm: Watched) -> None:
    paths = ("/metrics", "/metrics/nodes", "/metrics/services")
    said = b"".join(swarm.text(swarm.leader().name, path) for path in paths).decode()
    there = set(re.findall(r"^# TYPE (\S+) ", said, re.MULTILINE))
    asked = set(re.findall(r"(?<![:\w])(?:skep|swarm)_[a-z_]+", rules()))
    assert asked
    assert {name.removesuffix("_bucket") for name in asked} <= there


def test_the_swarms_numbers_are_those_of_the_api(swarm: Watched, prometheus: Prometheus) -> None:
    wait_until("it has scraped all", lambda: prometheus.value("sum(up)") == 4 * len(swarm.hosts))
    wait_until("tasks run", lambda: prometheus.value('sum(swarm_manager_tasks_total{state="running"})') == 8)
    assert len(prometheus.query("swarm_manager_tasks_total")) == SWARM_STATES, "of the leader, zeros included"
    assert prometheus.value("sum(swarm_manager_leader)") == 1
    assert prometheus.value("count(swarm_manager_leader == 0)") == len(swarm.hosts) - 1
    assert prometheus.value("sum(swarm_node_manager)") == 3
    assert prometheus.value('swarm_manager_nodes{state="ready"}') == len(swarm.hosts)
    assert prometheus.value('skep_managers{reachability="reachable"}') == 3
    assert prometheus.value("swarm_manager_services_total") == 2
    assert prometheus.value("min(skep_manager_has_quorum)") == 1
    assert prometheus.value("swarm_dispatcher_scheduling_delay_seconds_count") == 8
    assert prometheus.value('skep_service_tasks_running{service_name="web"}') == 6
    nodes = {node["ID"]: node for node in swarm.first.get("/nodes")}
    running = prometheus.query("skep_node_tasks_running")
    assert sum(running.values()) == 8
    assert {json.loads(key)["node_id"] for key in running} == set(nodes)
    swarms = {json.loads(key)["swarm_id"] for key in prometheus.query("swarm_node_info")}
    assert swarms == {swarm.first.get("/swarm")["ID"]}
    wait_until(
        "usage is asked for", lambda: prometheus.value("count(skep_node_cpu_cores_used)") == len(nodes)
    )
    assert prometheus.value("min(skep_node_memory_used_bytes < skep_node_memory_bytes)")
    assert prometheus.value("count(skep_certificate_expiry_seconds - time() > 86400)") == len(swarm.hosts)


def test_a_node_that_goes_down_is_an_alert_that_ends(swarm: Watched, prometheus: Prometheus) -> None:
    wait_until("nothing is wrong", lambda: prometheus.value("count(skep_node_up == 1)") == len(swarm.hosts))
    lost = swarm.workers[0]
    swarm.first.docker("swarm update --dispatcher-heartbeat 1s")
    lost.kill()
    try:
        (labels,) = wait_until("its alert fires", lambda: prometheus.firing("SkepNodeDown"), 60)
        assert labels["hostname"] == lost.name
        unreachable = {each["instance"] for each in prometheus.firing("SkepDaemonUnreachable")}
        assert unreachable == {swarm.metrics[lost.name]}
        wait_until("one of five is many", lambda: prometheus.firing("SkepManyNodesDown"))
        assert not prometheus.firing("SkepNoLeader")
    finally:
        lost.start()
    wait_until("it is over", lambda: not prometheus.firing("SkepNodeDown"), 60)


def test_a_change_of_leader_doubles_nothing(swarm: Watched, prometheus: Prometheus) -> None:
    running = 'sum without (instance) (swarm_manager_tasks_total{state="running"})'
    wait_until("all run", lambda: prometheus.value(running) == 8, 60)
    before = swarm.leader()
    changes = prometheus.value("max(skep_leader_changes_total)")
    before.kill()
    try:
        after = swarm.leader(by=next(each for each in swarm.managers if each is not before))
        wait_until(
            "the new one is seen to lead",
            lambda: prometheus.value(f'swarm_manager_leader{{instance="{swarm.metrics[after.name]}"}}') == 1,
        )
        wait_until("the old one's are over", lambda: len(prometheus.query("swarm_manager_nodes")) == 4, 10)
        wait_until("its tasks are known", lambda: prometheus.value("skep:tasks_running") == 8, 60)
        wait_until("one is missed", lambda: prometheus.firing("SkepManagerDown"), 60)
        assert prometheus.value("max(skep_leader_changes_total)") == (changes or 0) + 1
    finally:
        before.start()
        swarm.wait_reachable(3)


def _labels(targets: list[dict[str, Any]], name: str) -> list[str]:
    return sorted(each["discoveredLabels"].get(f"__meta_dockerswarm_{name}", "") for each in targets)


def _discovers(host: str, role: str, id_name: str) -> str:
    """Returns a job; all nodes here have one address, so it is their ids that tell them apart."""
    return f"""  - job_name: all-{role}
    dockerswarm_sd_configs:
      - {{host: {json.dumps(host)}, role: {role}, refresh_interval: 1s}}
    relabel_configs:
      - {{source_labels: [__meta_dockerswarm_{id_name}], target_label: id}}
"""


def test_nodes_services_and_tasks_are_discovered(swarm: Watched, tmp_path: Path) -> None:
    """Debian's Prometheus speaks /v1.24 for ever where nobody answers at its first look, as here."""
    host, port = swarm.first.url, swarm.metrics[swarm.first.name].rpartition(":")[2]
    config = skep_ok("monitor prometheus --config --host {} --port {}", host, port)
    roles = {"nodes": "node_id", "services": "service_id", "tasks": "task_id"}
    _configure(tmp_path, config + "".join(_discovers(host, *each) for each in roles.items()))
    swarm.first.stop()
    try:
        with starting(Prometheus(tmp_path)) as prometheus:
            wait_until(
                "it has looked in vain", lambda: "Cannot connect to the Docker daemon" in prometheus.log()
            )
            swarm.first.start()
            wait_until("nodes are found", lambda: len(prometheus.targets("all-nodes")) == 5)
            assert _labels(prometheus.targets("all-nodes"), "node_hostname") == ["m0", "m1", "m2", "w0", "w1"]
            wait_until("services are", lambda: prometheus.targets("all-services"))
            names = _labels(prometheus.targets("all-services"), "service_name")
            assert names == ["web"], "what has neither ports nor networks is no target"
            wait_until(
                "tasks are", lambda: len(set(_labels(prometheus.targets("all-tasks"), "task_id"))) >= 6
            )
    finally:
        if swarm.first.process is None:
            swarm.first.start()
        swarm.wait_reachable(3)
    with starting(Prometheus(tmp_path)) as prometheus:
        up = 'sum(up{job=~"skep(-nodes|-services)?"})'
        wait_until("the daemon at this address is up in each job", lambda: prometheus.value(up) == 3)


def test_an_address_for_metrics_that_cannot_be_used_is_said_at_once(swarm: Watched, tmp_path: Path) -> None:
    taken = swarm.metrics[swarm.first.name]
    for address, said in (
        (taken, f"skepd: metrics cannot be served on {taken}: "),
        (
            "127.0.0.1:http",
            "skepd: --metrics-addr must be HOST:PORT (127.0.0.1:9323, [::1]:9323), not '127.0.0.1:http'",
        ),
    ):
        host = Host(tmp_path, "x", "simulated", "--metrics-addr", address).launch()
        assert host.process is not None
        assert host.process.wait(30) == 1
        assert host.log().splitlines()[-1].startswith(said)
        assert "Traceback" not in host.log()
