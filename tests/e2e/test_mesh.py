"""Published ports of a swarm on three hosts, through the docker client and real connections."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.mesh_image import IMAGE

from .fixtures import swarm_fixture
from .hosts import wait_until
from .mesh import CLIENT, MeshSwarm, steady
from .skep_cli import skep, skep_ok

NAME = "t{{.Task.Slot}}-{{.Node.Hostname}}"  # answers are known from errors by their hyphen

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


mesh = swarm_fixture(MeshSwarm)


def _create(mesh: MeshSwarm, name: str, *options: str, replicas: int = 2) -> None:
    create = ["service", "create", "-d", "--no-resolve-image", "--name", name, "--replicas", str(replicas)]
    mesh.manager.docker(*create, *options, "--hostname", NAME, IMAGE, "-", "80")


def _remove(mesh: MeshSwarm, name: str) -> None:
    mesh.manager.docker("service rm", name)


@pytest.fixture(scope="module")
def web(mesh: MeshSwarm) -> Iterator[str]:
    """Two tasks on the workers: the manager has none."""
    ports = ["-p", "8080:80", "-p", "8080:80/udp"]
    _create(mesh, "web", *ports, "--constraint", "node.role==worker")
    mesh.wait_answers(8080, 2)
    yield "web"
    _remove(mesh, "web")


def test_a_port_answers_on_every_host_from_everywhere(mesh: MeshSwarm, web: str) -> None:
    for host in mesh.hosts:
        for kind in ("tcp", "udp"):
            answers = Counter(mesh.ask(host, 8080, 4, kind))
            assert {answer.split()[1] for answer in answers} == {CLIENT}, (host.name, kind)
            assert sorted(answers.values()) == [2, 2], (host.name, kind)
            for address in ("127.0.0.1", host.address):
                answers = Counter(a.split()[0] for a in host.ask(address, 8080, 4, kind))
                assert sorted(answers.values()) == [2, 2], (host.name, address, kind, answers)


def test_the_way_is_told(mesh: MeshSwarm, web: str) -> None:
    told = skep_ok("net trace web:8080/udp --from", mesh.manager.name, on=mesh.manager)
    for worker in mesh.workers:
        assert f"on {worker.name}: by tunnel skv4096 to {worker.address}, UDP port 4789" in told
    inside = skep_ok("net trace web:80 --from web.1", on=mesh.manager)
    assert "no network across hosts in common" in inside
    own = json.loads(skep_ok("net inspect {} --json", mesh.workers[0].name, on=mesh.manager))
    assert [(each["Port"], each["Running"]) for each in own["Ports"]] == [("8080/tcp", 2), ("8080/udp", 2)]
    mesh.ask(mesh.workers[0], 8080, 3)
    own = json.loads(skep_ok("net inspect {} --json", mesh.workers[0].name, on=mesh.manager))
    assert (own["Kernel"]["Missing"], own["Kernel"]["Surplus"], own["Kernel"]["Failures"]) == ([], [], [])
    assert own["Kernel"]["Connections"]["8080/tcp"] >= 3
    said = skep_ok("net inspect", mesh.workers[0].name, on=mesh.manager)
    assert "connections from here" in said
    assert "its kernel has: bridges 1, " in said
    for wrong, said in (
        (("web:80800", "--from", "web.1"), "port '80800' is none: 8080, or 53/udp"),
        (("web:80/icmp", "--from", "web.1"), "protocol 'icmp' is none of tcp, udp, sctp"),
        (("web:80", "--from", "nowhere"), "there is no node and no task nowhere"),
        (("web:80", "--from", "web"), "it is a service: name one of its tasks, web.1, or a node"),
        (("none:80", "--from", "web.1"), "service none not found"),
        (("web", "--from", "web.1"), "name a service and a port: web:8080, dns:53/udp"),
    ):
        done = skep("net trace", *wrong, on=mesh.manager)
        assert done.returncode != 0
        assert said in done.stderr


def test_containers_reach_it_by_any_hosts_address(mesh: MeshSwarm, web: str) -> None:
    for host in mesh.hosts:
        for target in mesh.hosts:
            said = host.docker("run --rm skep-test/busybox:latest nc -w 3 {} 8080", target.address)
            assert "-w" in said, (host.name, target.name)
    for worker in mesh.workers:
        (task, *_) = worker.docker("ps -q --filter label=com.docker.swarm.service.name=web").split()
        program = (
            f"import _socket as s; c = s.socket(); c.connect(('{worker.address}', 8080)); print(c.recv(99))"
        )
        for _ in range(2):  # one of them is the task itself
            assert "-w" in worker.docker("exec {} /usr/bin/python3 -I -S -c {}", task, program)


def test_it_is_even_over_3000_connections(mesh: MeshSwarm, web: str) -> None:
    answers = Counter(mesh.ask(mesh.manager, 8080, 3000))
    assert set(answers.values()) == {1500}


def test_a_service_without_a_running_task_refuses_at_once(mesh: MeshSwarm) -> None:
    _create(mesh, "none", "-p", "8081:80", replicas=0)
    try:
        wait_until(
            "nobody answers, and that is said",
            lambda: all(mesh.ask(host, 8081) == ["error ConnectionRefusedError"] for host in mesh.hosts),
        )
        wait_until("the port is held", lambda: _is_held(mesh, 8081))
    finally:
        _remove(mesh, "none")


def _is_held(mesh: MeshSwarm, port: int) -> bool:
    taking = f"import socket; s = socket.socket(); s.setsockopt(1, 2, 1); s.bind(('127.0.0.1', {port}))"
    command = [*mesh.workers[0].prefix, sys.executable, "-c", taking]
    return subprocess.run(command, capture_output=True).returncode != 0


def test_a_port_that_somebody_has_is_said_with_his_name(mesh: MeshSwarm) -> None:
    worker = mesh.workers[0]
    his = worker.space.serve("his", 8082)
    try:
        _create(mesh, "taken", "-p", "8082:80")
        said = f"port 8082/tcp of service taken is not published here: it is taken by python3 (process {his.pid})"
        wait_until("the node says so", lambda: said[:60] in _message(mesh, worker.name))
        assert f"(process {his.pid})" in _message(mesh, worker.name)
        assert f"1 node ({worker.name}): {said[:60]}" in skep_ok("explain taken", on=mesh.manager)
        for command in (("trace", "taken:8082", "--from", worker.name), ("inspect", worker.name)):
            assert said[:60] in skep_ok("net", *command, on=mesh.manager)
        assert "8082/tcp of service taken" in worker.log()
        assert mesh.ask(worker, 8082) == [f"his {CLIENT}"]
        wait_until("others serve it", lambda: "-" in mesh.ask(mesh.workers[1], 8082)[0])
    finally:
        his.kill()
        his.wait(5)
    wait_until("it is published after all", lambda: "-" in mesh.ask(worker, 8082)[0])
    wait_until("the node says no more", lambda: _message(mesh, worker.name) == "")
    _remove(mesh, "taken")


def _message(mesh: MeshSwarm, node: str) -> str:
    return mesh.manager.docker("node inspect --format {{.Status.Message}}", node)


def test_tasks_that_come_and_go_are_followed(mesh: MeshSwarm, web: str) -> None:
    for count in (4, 1, 2):
        mesh.manager.docker("service scale -d web={}", count)
        mesh.wait_answers(8080, count)
    with steady(mesh.client, mesh.manager.address, 8080) as answers:
        time.sleep(2)
    assert len(answers) > 50
    assert [answer for answer in answers if "-" not in answer] == []


def test_it_stands_while_the_daemons_are_dead(mesh: MeshSwarm, web: str) -> None:
    for host in mesh.hosts:
        host.kill()
    for host in mesh.hosts:
        assert len(set(mesh.ask(host, 8080, 2))) == 2, host.name
    with steady(mesh.client, mesh.workers[0].address, 8080) as answers:
        for host in mesh.hosts:
            host.start()
        wait_until("the nodes are back", lambda: _ready(mesh) == 3, 60)
        mesh.wait_answers(8080, 2)
        time.sleep(1)
    assert [answer for answer in answers if "-" not in answer] == []


def _ready(mesh: MeshSwarm) -> int:
    return mesh.manager.run("node ls --format {{.Status}}", check=False).stdout.count("Ready")


def test_what_somebody_flushed_is_there_again(mesh: MeshSwarm, web: str) -> None:
    host = mesh.manager
    flush = "from skep.network.nftables import Nftables; Nftables().run('delete table ip skep')"
    host.space.run(sys.executable, "-c", flush)
    host.space.run("ip", "link", "del", next(n for n in host.rules().split() if n.startswith("skv")))
    wait_until("its tunnel is there again", lambda: "skv" in host.rules())
    mesh.wait_answers(8080, 2)


def test_a_lost_node_is_led_to_no_more(mesh: MeshSwarm, web: str) -> None:
    mesh.manager.docker("service update -d --constraint-rm node.role==worker web")
    mesh.wait_answers(8080, 2)
    lost = mesh.workers[1]
    lost.kill()
    lost.stop_engine()
    try:
        others = [mesh.manager, mesh.workers[0]]
        wait_until("it is down", lambda: _ready(mesh) == 2, 60)
        wait_until(
            "two tasks answer",
            lambda: all(len({a for a in mesh.ask(host, 8080, 4) if "-" in a}) == 2 for host in others),
            60,
        )
        assert all("-w1" not in answer for host in others for answer in mesh.ask(host, 8080, 8))
    finally:
        lost.start_engine()
        lost.start()
        wait_until("it is back", lambda: _ready(mesh) == 3, 60)


def test_sctp_is_refused_in_words(mesh: MeshSwarm) -> None:
    refused = mesh.manager.run("service create -d --no-resolve-image -p 90:90/sctp", IMAGE, check=False)
    assert "port 90/sctp cannot be published by the routing mesh" in refused.stderr


def test_leaving_takes_all_of_it_away(mesh: MeshSwarm, web: str) -> None:
    worker = mesh.workers[1]
    assert "skb" in worker.rules()
    worker.docker("swarm leave")
    assert worker.rules() == ""
    left = worker.space.run("iptables-save") + worker.space.run("ip", "rule")
    assert "0x5a000000" not in left
    listed = "from skep.network.nftables import Nftables; print(Nftables().list('list table ip skep'))"
    assert worker.space.run(sys.executable, "-c", listed).strip() == "None"
    assert mesh.ask(worker, 8080) == ["error ConnectionRefusedError"]
    wait_until("it is down", lambda: _ready(mesh) == 2, 60)
    mesh.manager.docker("node rm --force", worker.name)
    mesh.join(worker)
    mesh.wait_answers(8080, 2)
