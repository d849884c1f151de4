"""A real Prometheus discovers containers by the swarm's API and scrapes their own metrics: at the node's address,
and over a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images import IMAGE
from tests.prometheus.server import Prometheus, promtool

from .fixtures import starting
from .hosts import wait_until
from .mesh import MeshSwarm
from .overlay_tasks import tasks_of
from .skep_cli import skep_ok

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]
PORT = 9100
# Answers one scrape after the other.
SERVE = (
    'while true; do printf "HTTP/1.0 200 OK\\r\\nContent-Type: text/plain\\r\\n\\r\\nown_number 7\\n"'
    f" | nc -l -p {PORT}; done"
)


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshSwarm]:
    with starting(MeshSwarm(tmp_path_factory.mktemp("o"), names=("m", "w0"))) as made:
        made.manager.docker("network create -d overlay --attachable back")
        yield made


def _create(swarm: MeshSwarm, name: str, *options: str) -> None:
    create = "service create -d --no-resolve-image --mode global --name {} -l prometheus-job={}"
    swarm.manager.docker(create, name, f"{name}-job", *options, IMAGE, "sh", "-c", SERVE)


def _scraped(prometheus: Prometheus, job: str) -> set[str]:
    """Returns the hosts whose tasks were scraped."""
    found = prometheus.query(f'own_number{{job="{job}"}} == 7')
    return {json.loads(labels)["hostname"] for labels in found}


def test_own_metrics_of_services_are_scraped(swarm: MeshSwarm, tmp_path: Path) -> None:
    _create(swarm, "exported", "--publish", f"mode=host,target={PORT},published=19100")
    _create(swarm, "inside", "--network", "back", "--publish", f"{PORT}:{PORT}")
    swarm.manager.docker("service create -d --no-resolve-image --name other", IMAGE, "sleep", "1d")
    one, _ = tasks_of(swarm, "inside", 2)
    config = skep_ok("monitor prometheus --config --host {}", swarm.manager.url)
    (tmp_path / "prometheus.yml").write_text(config.replace("interval: 15s", "interval: 1s"))
    (tmp_path / "skep-rules.yml").write_text(skep_ok("monitor prometheus --rules"))
    assert promtool("check", "config", tmp_path / "prometheus.yml").returncode == 0
    names = {host.name for host in swarm.hosts}
    with starting(Prometheus(tmp_path, swarm.manager.prefix)) as outside:
        wait_until("the nodes' ports are scraped", lambda: _scraped(outside, "exported-job") == names, 60)
        found = {each["labels"]["service_name"] for each in outside.targets("services")}
        assert found == {"exported", "inside"}, "those that have the label"
        addresses = {each["labels"]["instance"] for each in outside.targets("services")}
        assert {f"{host.address}:19100" for host in swarm.hosts} <= addresses
    pid = one.host.on_engine("inspect -f {{.State.Pid}}", one.container)
    with starting(Prometheus(tmp_path, ["nsenter", "--target", pid, "--net", "--"])) as inside:
        wait_until("both are scraped over the network", lambda: _scraped(inside, "inside-job") == names, 60)
