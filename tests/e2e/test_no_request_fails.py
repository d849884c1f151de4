"""A web service under constant load, through every host: updates, drains and scaling fail no request.

SKEP_BUSY=12 has so many processes beside that take what they get of the processors.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

from tests import wrk
from tests.mesh_image import IMAGE

from .fixtures import swarm_fixture
from .hosts import wait_until
from .mesh import MeshHost, MeshSwarm

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]
LOAD = Path(__file__).with_name("load.py")
PORT = 8085
BUSY = int(os.environ.get("SKEP_BUSY", "0"))
WAIT_S = 90 * (2 if BUSY else 1)
# In the container: whether the server takes connections. Without such a check a task runs, and connections are led to
# it, before its server listens: longest where a machine has much to do.
LISTENS = "/usr/bin/python3 -I -S -c 'import _socket as s; s.socket().connect((\"127.0.0.1\", 80))'"

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)"


class Load(Struct):
    """What became of a load, when it is over."""

    requests: int = 0
    failures: list[str] = []


@contextlib.contextmanager
def load(swarm: MeshSwarm) -> Iterator[Load]:
    """Asks by each host's address all the time."""
    addresses = [host.address for host in swarm.hosts]
    command = [*swarm.client.prefix, sys.executable, str(LOAD), str(PORT), *addresses]
    made = Load()
    with tempfile.TemporaryFile("w+") as said:
        asking = subprocess.Popen(command, stdout=said)
        try:
            time.sleep(1.0)
            yield made
            time.sleep(1.0)
        finally:
            asking.terminate()
            asking.wait(30)
            said.seek(0)
            found = json.load(said)
            made.requests, made.failures = found["requests"], found["failures"]
    print(f"{made.requests} requests, {len(made.failures)} failed", *made.failures, sep="\n")
    assert made.requests > 300
    assert made.failures == []


@contextlib.contextmanager
def wrk_load(swarm: MeshSwarm, drained: MeshHost | None = None) -> Iterator[None]:
    """Asks with `wrk`, by one host on connections that stay, by the others on a new one each time; and so from
    containers of two of them, by the service's own address: not from one on a host that is `drained`, which goes
    with that. None fails, nor is a connection that stays ended without a word: this server says so with its last
    answer. One that closes what is idle and says nothing, as nginx does when it stops, may close as the next request
    comes: who keeps connections asks again then, by HTTP's own rule, and `wrk` would count an error of reading."""
    asked = [
        (swarm.client.prefix, f"http://{host.address}:{PORT}/", host is swarm.hosts[0])
        for host in swarm.hosts
    ]
    inside = [host for host in swarm.hosts if host is not drained][:2]
    asked += [(_inside(host), f"http://{_vip(swarm)}/", host is swarm.hosts[0]) for host in inside]
    asking = [
        subprocess.Popen(
            [*prefix, *wrk.command(url, 280, keeps=keeps, is_paced=True)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for prefix, url, keeps in asked
    ]
    try:
        yield
    finally:
        for each in asking:
            each.send_signal(signal.SIGINT)
        said = [wrk.read(each.communicate(timeout=30)[0]) for each in asking]
    print(*said, sep="\n")
    assert all(each.requests > 300 for each in said)
    assert [each for each in said if each.failed] == []


@pytest.fixture(scope="module", autouse=True)
def busy() -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY)]
    try:
        yield
    finally:
        for each in processes:
            each.kill()
            each.wait()


class Asked(MeshSwarm):
    """With a container on each host that asks by an overlay network."""

    def start(self) -> Asked:
        super().start()
        self.manager.docker("network create -d overlay inner")
        create = "service create -d --no-resolve-image --name asker --mode global --network inner"
        self.manager.docker(create, IMAGE, "-", "80")
        wait_until("there is who asks", lambda: len(self.manager.running("asker")) == len(self.hosts), WAIT_S)
        return self


swarm = swarm_fixture(Asked)


@pytest.fixture
def web(swarm: MeshSwarm) -> Iterator[str]:
    create = ["service", "create", "-d", "--no-resolve-image", "--name", "web", "--replicas", "3"]
    options = ["-p", f"{PORT}:80", "--network", "inner", "--entrypoint", "/usr/bin/python3 -I -S /web.py"]
    checked = ["--health-cmd", LISTENS, "--health-interval", "300ms", "--health-retries", "20"]
    swarm.manager.docker(*create, *options, *checked, "--update-delay", "0s", IMAGE, "80")
    _settled(swarm, 3)
    wait_until(
        "each host leads to it", lambda: all(_answers(swarm, host.address) for host in swarm.hosts), 30
    )
    yield "web"
    swarm.manager.docker("service rm web")
    wait_until("its tasks are gone", lambda: not any(_containers(swarm)), 30)


def _vip(swarm: MeshSwarm) -> str:
    """Returns the service's own address on the containers' network."""
    (web,) = swarm.manager.json("service", "inspect", "web")
    (network,) = swarm.manager.json("network", "inspect", "inner")
    found = {each["NetworkID"]: each["Addr"] for each in web["Endpoint"]["VirtualIPs"]}
    return str(found[network["Id"]]).partition("/")[0]


def _inside(host: MeshHost) -> list[str]:
    """Returns the begin of a command in a container that asks."""
    container = host.docker("ps", "-q", "--filter", "label=com.docker.swarm.service.name=asker")
    pid = host.docker("inspect", "--format", "{{.State.Pid}}", container)
    return ["nsenter", f"--net=/proc/{pid}/ns/net"]


def _answers(swarm: MeshSwarm, address: str) -> bool:
    command = [*swarm.client.prefix, sys.executable, "-c", CONNECT, address, str(PORT)]
    return subprocess.run(command, capture_output=True).returncode == 0


def _containers(swarm: MeshSwarm) -> Iterator[str]:
    for host in swarm.hosts:
        yield from host.docker("ps -q --filter label=com.docker.swarm.service.name=web").split()


def _settled(swarm: MeshSwarm, count: int) -> None:
    """Waits until so many tasks run, and no other container of the service is left."""

    def is_settled() -> bool:
        return len(swarm.manager.running("web")) == count == len(list(_containers(swarm)))

    wait_until(f"{count} tasks run", is_settled, WAIT_S)
    time.sleep(1.0)  # their hosts know it


def _update(swarm: MeshSwarm, *options: str) -> None:
    """Updates the service, one task at a time, and waits until that is done."""
    swarm.manager.docker("service update -d --no-resolve-image", *options, "web")

    def is_done() -> bool:
        (found,) = swarm.manager.json("service inspect web")
        state = str(found.get("UpdateStatus", {}).get("State", ""))
        assert state in ("", "updating", "completed"), found["UpdateStatus"]
        return state == "completed"

    wait_until("the update is completed", is_done, WAIT_S)


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
def test_a_rolling_update(swarm: MeshSwarm, web: str, order: str) -> None:
    with load(swarm), wrk_load(swarm):
        _update(swarm, "--update-order", order, "--env-add", "V=2")


def test_an_update_to_a_server_that_begins_late(swarm: MeshSwarm, web: str) -> None:
    with load(swarm):
        _update(swarm, "--args", "80 3")


def test_draining_a_node(swarm: MeshSwarm, web: str) -> None:
    for worker in swarm.workers:
        wait_until(
            "who asks is back", lambda: len(swarm.manager.running("asker")) == len(swarm.hosts), WAIT_S
        )
        with load(swarm), wrk_load(swarm, worker):
            swarm.manager.docker("node update --availability drain", worker.name)
            wait_until(
                "it is drained",
                lambda w=worker: not w.docker("ps -q --filter label=com.docker.swarm.service.name=web"),
                WAIT_S,
            )
            _settled(swarm, 3)
        swarm.manager.docker("node update --availability active", worker.name)


def test_scaling_down_and_up(swarm: MeshSwarm, web: str) -> None:
    with load(swarm):
        for count in (1, 4, 2):
            swarm.manager.docker("service scale -d web={}", count)
            _settled(swarm, count)
