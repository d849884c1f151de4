"""Hosts for tests of the data plane: network namespaces on a bridge, with tasks that are namespaces, too.

A host's data plane is the product's own (`mesh_process`); the engine's part, a container on the mesh's bridge
with an address and a way out, is made here by hand.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from skep.model.mesh import Mesh, MeshEndpoint, MeshPort, MeshService
from skep.model.overlay import OverlayNetwork
from skep.network import turn

PREFIX = f"{os.environ.get('SKEP_TEST_NETNS', f'skt{os.getpid() % 100000}')}x"
NETWORK = OverlayNetwork("net1", "10.0.0.0/24", 4097, 4789)
BRIDGE, TUNNEL = "skb4097", "skv4097"
_NUMBERS = itertools.count(1)  # a namespace that could not be removed is in no other's way
SERVER = Path(__file__).parents[1] / "mesh_server.py"
CLIENT = "10.214.0.100"

# In a namespace: connects so often, and says what each connection was told.
ASK = """
import socket, sys
kind, host, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
kept = []
for _ in range(count):
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    made.settimeout(3)
    try:
        made.connect((host, port))
        if kind == "udp":
            made.send(b"x")
        print(made.recv(100).decode().strip())
    except OSError as error:
        print("error", type(error).__name__)
    # The kernel takes ports of UDP by chance: one that was used just now would be the same flow to the same task.
    made.close() if kind == "tcp" else kept.append(made)
"""


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def ip(*arguments: str) -> str:
    return run("ip", *arguments)


class Namespace:
    """One network namespace with an address, on a bridge of another one."""

    def __init__(self, name: str) -> None:
        self.label = name
        self.name = f"{PREFIX}{next(_NUMBERS)}{name}"
        ip("netns", "add", self.name)
        ip("-n", self.name, "link", "set", "lo", "up")

    @property
    def prefix(self) -> list[str]:
        return ["nsenter", f"--net=/var/run/netns/{self.name}"]

    def run(self, *command: str) -> str:
        return run(*self.prefix, *command)

    def cable(self, to: Namespace, bridge: str, device: str, address: str) -> None:
        veth = f"v{device}{self.name.removeprefix(PREFIX)}"
        cable = ["link", "add", device, "netns", self.name, "type", "veth", "peer", "name", veth]
        ip(*cable, "netns", to.name)
        ip("-n", to.name, "link", "set", veth, "master", bridge, "up")
        ip("-n", self.name, "addr", "add", address, "dev", device)
        ip("-n", self.name, "link", "set", device, "up")

    def ask(self, host: str, port: int, count: int = 1, kind: str = "tcp") -> list[str]:
        """Returns what connections are told, `NAME CLIENT` each."""
        return self.run(sys.executable, "-c", ASK, kind, host, str(port), str(count)).splitlines()

    def serve(self, name: str, port: int) -> subprocess.Popen[str]:
        """Begins a server that answers with its name. It listens by now."""
        command = [*self.prefix, sys.executable, str(SERVER), name, str(port)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        return server

    def remove(self) -> None:
        """That it is gone already is as well."""
        path = Path(f"/var/run/netns/{self.name}")
        if not path.exists():
            return
        inode = path.stat().st_ino
        (turn.DIRECTORY / str(inode)).unlink(missing_ok=True)  # of daemons that were killed
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)


class MeshHost(Namespace):
    def __init__(self, name: str, address: str) -> None:
        super().__init__(name)
        self.node_id = name
        self.address = address
        self._process: subprocess.Popen[str] | None = None

    def start(self, lan: Namespace) -> None:
        self.cable(lan, "lan", "eth0", f"{self.address}/24")
        self.run("ip", "route", "add", "default", "via", "10.214.0.254")

    def fellow(self) -> MeshHost:
        """Returns another daemon's data plane on this host."""
        made = copy.copy(self)
        made._process = None
        return made

    def told(self, mesh: Mesh, how: str = "look") -> dict[str, Any]:
        """Has the node's data plane be as this mesh needs it. Returns what became of it."""
        return self._say(f"{how} {msgspec.json.encode(mesh).decode()}")

    def seen(self, mesh: Mesh) -> dict[str, Any]:
        """Returns what the kernel has, beside what this mesh needs."""
        return self._say(f"seen {msgspec.json.encode(mesh).decode()}")

    def carried(self) -> dict[str, tuple[int, int, int]]:
        """Returns what the kernel has counted: connections, bytes from clients and to them, by what leads there."""
        keys = ("connections", "received_bytes", "sent_bytes")
        return {each["of"]: tuple(each[key] for key in keys) for each in self._say("carried")}

    def clear(self) -> Any:
        return self._say("clear")

    def _say(self, line: str) -> Any:
        if self._process is None:
            command = [*self.prefix, sys.executable, "-m", "tests.integration.mesh_process", self.node_id]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the data plane's process ended"
        return json.loads(answer)

    def die(self) -> None:
        """Ends the process, not what it made."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(5)
            self._process = None


class Task(Namespace):
    """A container on its host's bridge. `is_second`: with another network, by which it reaches the world."""

    def __init__(self, host: MeshHost, name: str, address: str, second: str = "") -> None:
        super().__init__(name)
        self.host = host
        self.address = address
        self.is_alone = not second
        self.second = second
        self.server: subprocess.Popen[str] | None = None

    def start(self) -> None:
        host, second = self.host, self.second
        gateway = "10.0.0.25" + host.node_id[-1]
        if gateway not in host.run("ip", "addr", "show", BRIDGE):  # as an engine does
            host.run("ip", "addr", "add", f"{gateway}/24", "dev", BRIDGE)
            leaving = ("POSTROUTING", "-s", "10.0.0.0/24", "!", "-o", BRIDGE, "-j", "MASQUERADE")
            host.run("iptables", "-w", "-t", "nat", "-A", *leaving)
        self.cable(host, BRIDGE, "eth0", f"{self.address}/24")
        if second:
            host.run("ip", "link", "add", "br-user", "type", "bridge")
            host.run("ip", "addr", "add", "172.30.0.1/24", "dev", "br-user")
            host.run("ip", "link", "set", "br-user", "up")
            self.cable(host, "br-user", "eth1", f"{second}/24")
        self.run("ip", "route", "add", "default", "via", "172.30.0.1" if second else gateway)
        self.server = self.serve(self.label, 80)

    def end(self) -> None:
        if self.server is not None:
            self.server.kill()
            self.server.wait(5)


class Lan:
    """Hosts `h1`, `h2`, `h3` and a client outside, which has no way to the tasks' addresses."""

    def __init__(self) -> None:
        self.spaces: list[Namespace] = []
        self.tasks: list[Task] = []
        self.hosts: list[MeshHost] = []

    def start(self) -> Lan:
        lan = self._kept(Namespace("lan"))
        ip("-n", lan.name, "link", "add", "lan", "type", "bridge")
        ip("-n", lan.name, "link", "set", "lan", "up")
        for number in (1, 2, 3):
            host = MeshHost(f"h{number}", f"10.214.0.{number}")
            self.hosts.append(host)
            self._kept(host)
            host.start(lan)
        self.client = self._kept(Namespace("out"))
        self.client.cable(lan, "lan", "eth0", f"{CLIENT}/24")
        return self

    def _kept(self, space: Namespace) -> Namespace:
        self.spaces.append(space)
        return space

    def space(self, name: str) -> Namespace:
        return self._kept(Namespace(name))

    def task(self, host: MeshHost, name: str, address: str, second: str = "") -> Task:
        made = Task(host, name, address, second)
        self._kept(made)
        self.tasks.append(made)
        made.start()
        return made

    def mesh(self, *tasks: Task, ports: tuple[MeshPort, ...] = (), leaving: tuple[Task, ...] = ()) -> Mesh:
        """Returns what every node is told where these tasks serve `web`."""
        ports = ports or (MeshPort("tcp", 8080, 80), MeshPort("udp", 8080, 80))
        endpoints = tuple(MeshEndpoint(t.address, t.host.node_id, t not in leaving) for t in tasks)
        web = MeshService("s1", "web", ports, endpoints, all(task.is_alone for task in tasks))
        nodes = {host.node_id: host.address for host in self.hosts}
        return Mesh(NETWORK, nodes, {web.id: web})

    def unused(self) -> Mesh:
        """Returns what every node is told where nothing is published."""
        return msgspec.structs.replace(self.mesh(), services={})

    def serving(self) -> Lan:
        """Two tasks, on the first two hosts; the third has none."""
        self.tell(self.mesh())
        first, second, _ = self.hosts
        self.task(first, "a", "10.0.0.11")
        self.task(second, "b", "10.0.0.12")
        for told in self.tell(self.mesh(*self.tasks)):
            assert told["failures"] == []
        return self

    def assert_all_answer(self, *names: str) -> None:
        """Every host leads to each of these tasks; without names: to all that there are."""
        wanted = set(names) or {task.label for task in self.tasks}
        for host in self.hosts:
            answers = self.client.ask(host.address, 8080, 2 * len(wanted))
            assert {answer.split()[0] for answer in answers} == wanted, (host.node_id, answers)

    def tell(self, mesh: Mesh, how: str = "look") -> list[dict[str, Any]]:
        return [host.told(mesh, how) for host in self.hosts]

    def stop(self) -> None:
        for task in self.tasks:
            task.end()
        for host in self.hosts:
            host.die()
        for space in self.spaces:
            space.remove()


@contextlib.contextmanager
def three_hosts() -> Iterator[Lan]:
    """Yields a network of them, which goes in the end, also where its making fails."""
    made = Lan()
    try:
        yield made.start()
    finally:
        made.stop()
