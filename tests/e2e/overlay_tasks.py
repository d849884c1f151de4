"""Containers on overlay networks of a swarm of hosts, and what they find there."""

from __future__ import annotations

import json
import os
import subprocess

from tests.words import words

from .hosts import wait_until
from .mesh import MeshHost, MeshSwarm

# Within a container of the image: all addresses of a name; what a server there says, and how long that took.
RESOLVE = """
import _socket as s
try:
    print(*sorted({found[4][0] for found in s.getaddrinfo(b"%s", 80, s.AF_INET, s.SOCK_STREAM)}))
except s.gaierror as error:
    print("error", error.args[1])
"""
ASK = """
import _socket as s
c = s.socket()
c.settimeout(3)
try:
    c.connect((s.getaddrinfo(b"%s", %d, s.AF_INET)[0][4][0], %d))
    print(c.recv(99).decode().strip())
except OSError as error:
    print("error", error)
"""
REVERSE = """
import _socket as s
print(s.getnameinfo(("%s", 80), s.NI_NAMEREQD)[0])
"""


class Task:
    """A running task of a service, or a single container, on its host."""

    def __init__(self, host: MeshHost, container: str, network: str) -> None:
        self.host = host
        self.container = container
        (found,) = json.loads(host.docker("inspect", container))
        self.name = found["Name"].removeprefix("/")
        self.hostname = found["Config"]["Hostname"]
        self.address = found["NetworkSettings"]["Networks"][network]["IPAddress"]

    def python(self, program: str, **environment: str) -> str:
        """Returns what it prints within the container: with its network, its files and its name. Not by the
        engine's `exec`, which costs a shim and half a second each time."""
        pid = self.host.on_engine("inspect -f {{.State.Pid}}", self.container)
        assert pid != "0", f"{self.name} does not run"
        command = words("nsenter --target {} --net --mount --uts --root -- /usr/bin/python3 -I -S -c", pid)
        done = subprocess.run(
            [*command, program],
            capture_output=True,
            text=True,
            timeout=90,
            env={**os.environ, **environment},
        )
        assert done.returncode == 0, f"in {self.name}: {done.stderr}"
        return done.stdout.strip()

    def resolve(self, name: str) -> set[str]:
        return set(self.python(RESOLVE % name).split())

    def lacks(self, name: str) -> bool:
        """True where the name leads nowhere. For what the swarm does not know its hosts ask the world, and
        there is none: a resolver of usual patience would wait for ten seconds each time."""
        return "error" in self.python(RESOLVE % name, RES_OPTIONS="attempts:1 timeout:3")

    def ask(self, name: str, port: int = 80) -> str:
        return self.python(ASK % (name, port, port))


def tasks_of(swarm: MeshSwarm, service: str, count: int, network: str = "back") -> list[Task]:
    """Returns the service's running tasks; it waits until there are so many."""
    label = f"label=com.docker.swarm.service.name={service}"

    def found() -> list[tuple[MeshHost, str]]:
        return [
            (host, container)
            for host in swarm.hosts
            for container in host.docker("ps -q --filter", label).split()
        ]

    def run() -> bool:
        return len(swarm.manager.running(service)) == count == len(found())

    wait_until(f"{count} tasks of {service} run", run, 60)
    return [Task(host, container, network) for host, container in found()]


def vip_of(swarm: MeshSwarm, service: str, network: str = "back") -> str:
    (found,) = swarm.manager.json("service inspect", service)
    (network_id,) = [each["Id"] for each in swarm.manager.json("network inspect", network)]
    vips = {each["NetworkID"]: each["Addr"] for each in found["Endpoint"]["VirtualIPs"]}
    return str(vips[network_id]).partition("/")[0]
