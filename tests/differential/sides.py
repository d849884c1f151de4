"""The two swarms that are compared: each on an engine of its own, in a network of its own, on one host name.

Both engines are the same program with the same image; what they give where the swarm has no part is equal.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.e2e.hosts import Host, busybox_into

from .normalise import Name

ENGINE_SH = Path(__file__).parents[2] / "scripts/engine.sh"
API = "v1.41"
WAIT_S = 20.0
ADDRESS = "127.0.0.1:2377"
INIT = ("swarm", "init", "--advertise-addr", ADDRESS, "--listen-addr", ADDRESS)
_KINDS = ("services", "tasks", "nodes", "networks", "secrets", "configs")


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Side:
    """One swarm's manager, as its clients see it."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.engine = directory / "e"
        self.client_config = directory / "config"
        self.in_swarm = False
        self._names: dict[str, str] = {}

    @property
    def socket(self) -> Path:
        return self.engine / "docker.sock"

    def start(self) -> None:
        self.client_config.mkdir()
        command = [str(ENGINE_SH), "start", str(self.engine), "engine0", "--own-network"]
        subprocess.run(command, check=True, capture_output=True, text=True)
        busybox_into(str(self.engine / "docker.sock"))

    def stop(self) -> None:
        subprocess.run([str(ENGINE_SH), "stop", str(self.engine)], check=True, capture_output=True)

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, api: str = API
    ) -> Reply:
        """A `body` of bytes goes as it is, others as JSON. An empty `api` is a path without a version."""
        connection = _UnixConnection(str(self.socket))
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        try:
            sent = {"Content-Type": "application/json"} if data is not None else {}
            url = f"/{api}{path}" if api else path
            connection.request(method, url, data, {**sent, **(headers or {})})
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def docker(
        self,
        *arguments: str,
        stdin: str = "",
        environment: dict[str, str] | None = None,
        timeout_s: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        own = {"DOCKER_CONFIG": str(self.client_config), "DOCKER_CLI_HINTS": "false", **(environment or {})}
        return subprocess.run(
            ["docker", "-H", f"unix://{self.socket}", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env={**os.environ, **own},
        )

    def set_swarm(self, wanted: bool) -> None:
        """Makes it a swarm of one manager, or takes it out of one."""
        if wanted and not self.in_swarm:
            done = self.docker(*INIT)
            assert done.returncode == 0, f"{self.name}: {done.stderr}"
        if not wanted:
            self.docker("swarm", "leave", "--force")
        self.in_swarm = wanted

    def node_id(self) -> str:
        return str(self.call("GET", "/info").json()["Swarm"]["NodeID"])

    def name_of(self, text: str) -> str:
        """Returns what an id, or its first 12 characters, is the id of; the same text for what is no id."""
        if text not in self._names:
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
                name = _name(kind, item, self._names)
                self._names[identity] = self._names[identity[:12]] = name

    def empty(self) -> None:
        """Removes what a scenario made."""
        node = self.call("GET", f"/nodes/{self.node_id()}").json()
        if node["Spec"]["Availability"] != "active":
            self.docker("node", "update", "--availability", "active", node["ID"])
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
        self.wait_for("containers gone", lambda: not self.call("GET", RUNNING).json())
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


def _name(kind: str, item: dict[str, Any], known: dict[str, str]) -> str:
    if kind == "tasks":
        service = known.get(item["ServiceID"], "<service ?>")[9:-1]
        return f"<task {service}.{item.get('Slot') or 'node'}>"
    if kind == "nodes":
        return "<node>"
    own = item["Name"] if kind == "networks" else item["Spec"]["Name"]
    return f"<{kind[:-1]} {own}>"


class DockerSide(Side):
    """Docker's own swarm."""

    def __init__(self, directory: Path) -> None:
        super().__init__("docker", directory)


class SkepSide(Side):
    """skepd, in the network of its engine."""

    def __init__(self, directory: Path) -> None:
        super().__init__("skep", directory)
        self.host: _NamespacedHost | None = None

    @property
    def socket(self) -> Path:
        assert self.host is not None
        return self.host.socket

    def start(self) -> None:
        super().start()
        pid = int((self.engine / "pid").read_text())
        made = _NamespacedHost(
            self.directory, socket.gethostname(), f"unix://{self.engine / 'docker.sock'}", engine_pid=pid
        )
        self.host = made
        made.start()

    def stop(self) -> None:
        if self.host is not None and self.host.process is not None:
            self.host.run("swarm", "leave", "--force", check=False)
            self.host.stop()
        super().stop()


class _NamespacedHost(Host):
    def __init__(self, directory: Path, name: str, engine: str, *, engine_pid: int) -> None:
        super().__init__(directory, name, engine)
        self._engine_pid = engine_pid

    @property
    def prefix(self) -> list[str]:
        return ["nsenter", f"--net=/proc/{self._engine_pid}/ns/net"]
