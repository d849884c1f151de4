"""A swarm of emulated machines: an engine and a skepd on each, as the machine's shell has them begin."""

from __future__ import annotations

from tests.images import IMAGE

from .machine import Machine

_ENGINE = (
    "dockerd -H unix:///run/docker.sock --iptables=true >/run/dockerd.log 2>&1 &",
    "docker -H unix:///run/docker.sock version >/dev/null",
)
DOCKER = "docker -H unix:///run/skepd.sock"


def start(machines: list[Machine], before: str = "") -> None:
    """Has them be one swarm, the first its manager. `before`: Python that is done before each daemon begins."""
    for machine in machines:
        machine.run(_ENGINE[0])
    for machine in machines:
        machine.until("the engine answers", _ENGINE[1])
        tar = ".venv/bin/python -c 'import sys; from tests.images import *; sys.stdout.buffer.write(busybox_tar())'"
        machine.run(f"{tar} | docker -H unix:///run/docker.sock import - {IMAGE}")
        begin(machine, before)
    for machine in machines:
        machine.until("skepd answers", f"{DOCKER} version >/dev/null")
    first = machines[0]
    first.run(f"{DOCKER} swarm init --advertise-addr {first.address}")
    token = first.run(f"{DOCKER} swarm join-token -q worker").strip()
    for machine in machines[1:]:
        machine.run(
            f"{DOCKER} swarm join --advertise-addr {machine.address} --token {token} {first.address}:2377"
        )
    first.until("all nodes are ready", f"test $({DOCKER} node ls | grep -c Ready) = {len(machines)}")


def begin(machine: Machine, before: str = "") -> None:
    """Has a skepd begin."""
    program = f"{before or 'pass'}; from skep.daemon.main import main; main()"
    options = f"--name {machine.name} --state-dir /var/lib/skep --host unix:///run/skepd.sock"
    options += " --engine unix:///run/docker.sock"
    machine.run(f'.venv/bin/python -c "{program}" {options} >/run/skepd.log 2>&1 & echo $! >/run/skepd.pid')


def container(machine: Machine, service: str) -> str:
    """Returns the id of a service's container on the machine, once it is there."""
    engine = "docker -H unix:///run/docker.sock"
    return machine.until(
        f"a container of {service}", f"{engine} ps -q --filter name={service}. | grep ."
    ).split()[0]


def within(machine: Machine, container_id: str, command: str) -> str:
    """Returns what the command says in a container."""
    return machine.run(f"docker -H unix:///run/docker.sock exec {container_id} {command}")
