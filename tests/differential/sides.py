"""The two swarms that are compared, each with machines of its own."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .machines import Machine, Reply, SkepMachine
from .normalise import Name

WAIT_S = 40.0  # Docker takes up to half of it to make a worker a manager
ADDRESS = "127.0.0.1:2377"
INIT = ("swarm", "init", "--advertise-addr", ADDRESS, "--listen-addr", ADDRESS)
# A node is down after three heartbeats: with Docker's own 5 s a scenario would mostly wait.
HEARTBEAT = "2s"
_KINDS = ("nodes", "services", "tasks", "networks", "secrets", "configs")


class Side:
    """One swarm. Where no machine is named, its first is meant, which is a manager; the others are workers."""

    machine: type[Machine] = Machine

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.machines = [self.machine(directory, 1)]
        self.nodes = 0
        """Of how many nodes its swarm is; 0 where it is in none."""
        self._names: dict[str, str] = {}

    @property
    def first(self) -> Machine:
        return self.machines[0]

    def start(self) -> None:
        self.first.start()

    def stop(self) -> None:
        for machine in reversed(self.machines):
            machine.stop()

    def at(self, number: int) -> Machine:
        return self.machines[number - 1]

    def call(self, method: str, path: str) -> Reply:
        return self.first.call(method, path)

    def docker(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.first.docker(*arguments)

    def set_swarm(self, nodes: int) -> None:
        """Makes it a swarm of so many nodes, of which the first is the only manager, or takes it out of one."""
        if self.nodes == nodes and (nodes < 2 or self._is_whole()):
            if nodes == 0:
                self.docker("swarm", "leave", "--force")
            return
        for machine in reversed(self.machines):
            machine.plug_in()
            machine.docker("swarm", "leave", "--force")
        self._names.clear()
        if nodes == 1:
            self._done(self.docker(*INIT))
        elif nodes:
            self._form(nodes)
        self.nodes = nodes

    def _form(self, nodes: int) -> None:
        while len(self.machines) < nodes:
            made = self.machine(self.directory, len(self.machines) + 1)
            self.machines.append(made)  # also where its start fails: what it left is stopped then
            made.start()
            made.link_to(self.first)
        self._done(self.docker("swarm", "init", "--dispatcher-heartbeat", HEARTBEAT, *_at(self.first)))
        for machine in self.machines[1:nodes]:
            line = ("swarm", "join", "--token", self.token("worker"), *_at(machine))
            self._done(machine.docker(*line, f"{self.first.address}:2377"))
        self.nodes = nodes
        self.wait_for("all nodes ready", self._is_whole)

    def _done(self, done: subprocess.CompletedProcess[str]) -> None:
        assert done.returncode == 0, f"{self.name}: {done.stderr}"

    def _is_whole(self) -> bool:
        """True where every machine is the node that it was made, and nobody else is one."""
        try:
            reply = self.call("GET", "/nodes")
        except OSError:
            return False  # the scenario failed while it was down
        nodes = reply.json() if reply.status == 200 else []
        roles = {node["ID"]: node["Spec"]["Role"] for node in nodes if node["Status"]["State"] == "ready"}
        wanted = {m.node_id(): "worker" for m in self.machines[: self.nodes]}
        wanted[self.first.node_id()] = "manager"
        return len(nodes) == self.nodes and roles == wanted

    @property
    def variables(self) -> dict[str, Callable[[], str]]:
        """What stands for something of this side in a scenario's text; longer names first."""
        return {
            "$NODE2": lambda: self.at(2).node_id(),
            "$NODE": self.first.node_id,
            "$WORKER": lambda: self.token("worker"),
            "$MANAGER": lambda: self.token("manager"),
            "$FIRST": lambda: f"{self.first.address}:2377",
            "$SECOND": lambda: self.at(2).address,
        }

    def token(self, role: str) -> str:
        tokens = self.call("GET", "/swarm").json()["JoinTokens"]
        return str(tokens[role.capitalize()])

    def name_of(self, text: str) -> str:
        """Returns what an id, or its first 12 characters, is the id of; the same text for what is no id."""
        if text not in self._names:
            with contextlib.suppress(OSError):  # the machine is down
                self._learn()
        known = self._names.get(text)
        if known is None and len(text) == 25:
            return "<id>"
        return known or text

    @property
    def names(self) -> Name:
        return self.name_of

    def _learn(self) -> None:
        for kind in _KINDS:
            answer = self.call("GET", f"/{kind}")
            for item in (answer.json() or []) if answer.status == 200 else []:
                identity = str(item.get("ID") or item.get("Id"))
                name = self._name(kind, item)
                self._names[identity] = self._names[identity[:12]] = name

    def _name(self, kind: str, item: dict[str, Any]) -> str:
        if kind == "tasks":
            service = self._names.get(item["ServiceID"], "<service ?>")[9:-1]
            node = self._names.get(item.get("NodeID", ""), "<node>")[1:-1]
            return f"<task {service}.{item.get('Slot') or node}>"
        if kind == "nodes":
            host = item["Description"].get("Hostname")
            return next((f"<node {m.number}>" for m in self.machines[1:] if m.name == host), "<node>")
        own = item["Name"] if kind == "networks" else item["Spec"]["Name"]
        return f"<{kind[:-1]} {own}>"

    def empty(self) -> None:
        """Removes what a scenario made."""
        if self.nodes > 1 and not self._is_whole():
            self.set_swarm(self.nodes)
            return
        for node in self.call("GET", "/nodes").json():
            spec = {"Availability": "active", "Role": node["Spec"]["Role"], "Labels": {}}
            if any(node["Spec"].get(key) != value for key, value in spec.items()):
                self.first.call(
                    "POST", f"/nodes/{node['ID']}/update?version={node['Version']['Index']}", spec
                )
        for kind in ("services", "secrets", "configs", "networks"):
            answer = self.call("GET", f"/{kind}")
            for item in (answer.json() or []) if answer.status == 200 else []:
                if kind == "networks" and (item["Name"] in _BUILT_IN or item.get("Ingress")):
                    continue
                path = f"/{kind}/{item.get('ID') or item['Id']}"
                self.wait_for(
                    f"{path} removed", lambda p=path: self.call("DELETE", p).status in (200, 204, 404)
                )
                self.wait_for(f"{path} gone", lambda p=path: self.call("GET", p).status == 404)
        for machine in self.machines:
            self.wait_for("containers gone", lambda m=machine: not m.call("GET", RUNNING).json())
        self._names.clear()

    def wait_for(self, what: str, test: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + WAIT_S
        while True:
            last = test()
            if last:
                return last
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: not within {WAIT_S:g} s: {what}")
            time.sleep(0.1)


RUNNING = "/containers/json?filters=" + quote('{"label":["com.docker.swarm.task"]}')
_BUILT_IN = ("bridge", "host", "none", "docker_gwbridge", "ingress")


def _at(machine: Machine) -> tuple[str, ...]:
    return ("--advertise-addr", machine.address, "--listen-addr", f"{machine.address}:2377")


class DockerSide(Side):
    """Docker's own swarm."""

    def __init__(self, directory: Path) -> None:
        super().__init__("docker", directory)


class SkepSide(Side):
    machine = SkepMachine

    def __init__(self, directory: Path) -> None:
        super().__init__("skep", directory)
