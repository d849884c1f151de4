"""The machines of both swarms: each an engine in a network of its own; on skep's side with a skepd.

All engines are the same program with the same image; what they give where the swarm has no part is equal. Machines
beside the first have a link to it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.e2e.hosts import Host, UnixConnection, busybox_into

ENGINE_SH = Path(__file__).parents[2] / "scripts/engine.sh"
API = "v1.41"
_LINK = "link0"


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


class Machine:
    """One engine with Docker's own swarm in it, as its clients see it. The first is number 1."""

    def __init__(self, directory: Path, number: int) -> None:
        self.number = number
        self.name = socket.gethostname() + (f"-{number}" if number > 1 else "")
        self.address = f"192.168.231.{number}"
        self.directory = directory / f"{number}" if number > 1 else directory
        self.engine = directory / (f"e{number}" if number > 1 else "e")
        self._client_config = self.directory / "config"
        self._node_id = ""

    @property
    def socket(self) -> Path:
        return self.engine / "docker.sock"

    @property
    def network(self) -> Path:
        """Its network namespace, which outlives a killed engine."""
        return self.engine / "net"

    def start(self) -> None:
        self._client_config.mkdir(parents=True)
        self._start_engine()
        busybox_into(str(self.engine / "docker.sock"))

    def _start_engine(self) -> None:
        command = [str(ENGINE_SH), "start", str(self.engine), "engine0", "--own-network"]
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name, *command]
        subprocess.run(named, check=True, capture_output=True, text=True)

    def stop(self) -> None:
        subprocess.run([str(ENGINE_SH), "stop", str(self.engine)], check=True, capture_output=True)

    def pull_plug(self) -> None:
        """Its daemons die at once; what they started is left alone."""
        self.node_id()  # still asked for afterwards
        for file in (self.engine / "pid", self.engine / "exec/containerd/containerd.pid"):
            pid = int(file.read_text())
            with contextlib.suppress(ProcessLookupError):  # the second ends with the first
                os.kill(pid, signal.SIGKILL)
            while _runs(pid):
                time.sleep(0.01)
            file.unlink()  # else it counts as running for as long as nobody has reaped it

    def plug_in(self) -> None:
        """Starts its daemons again, also where they were not killed."""
        self._start_engine()

    def link_to(self, first: Machine) -> None:
        """Joins its network to the first one's, where a bridge connects all."""
        first_ip, own_ip = (["nsenter", f"--net={each.network}", "ip"] for each in (first, self))
        port = f"link{self.number}"
        if subprocess.run([*first_ip, "link", "show", _LINK], capture_output=True).returncode:
            _all(
                [*first_ip, "link", "add", _LINK, "type", "bridge"],
                [*first_ip, "addr", "add", f"{first.address}/24", "dev", _LINK],
                [*first_ip, "link", "set", _LINK, "up"],
                # Docker's engine refuses what it has not asked for, between a bridge's own ports too.
                [*first_ip[:-1], *["iptables", "-I", "FORWARD", "-i"], _LINK, "-o", _LINK, "-j", "ACCEPT"],
            )
        pid = (self.engine / "pid").read_text().strip()
        _all(
            [*first_ip, *f"link add {port} type veth peer name {_LINK} netns {pid}".split()],
            [*first_ip, "link", "set", port, "master", _LINK, "up"],
            [*own_ip, "addr", "add", f"{self.address}/24", "dev", _LINK],
            [*own_ip, "link", "set", _LINK, "up"],
        )

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, api: str = API
    ) -> Reply:
        """A `body` of bytes goes as it is, others as JSON. An empty `api` is a path without a version."""
        connection = UnixConnection(self.socket)
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
        own = {
            "DOCKER_CONFIG": str(self._client_config),
            "DOCKER_CLI_HINTS": "false",
            **(environment or {}),
        }
        return subprocess.run(
            ["docker", "-H", f"unix://{self.socket}", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env={**os.environ, **own},
        )

    def node_id(self) -> str:
        """Returns the id it has in its swarm, or had there last."""
        with contextlib.suppress(OSError):
            self._node_id = self.call("GET", "/info").json()["Swarm"]["NodeID"] or self._node_id
        return self._node_id


class SkepMachine(Machine):
    """An engine, and a skepd in its network."""

    def __init__(self, directory: Path, number: int) -> None:
        super().__init__(directory, number)
        self._host = _NamespacedHost(self)

    @property
    def socket(self) -> Path:
        return self._host.socket

    def start(self) -> None:
        super().start()
        self._host.start()

    def stop(self) -> None:
        if self._host.process is not None:
            self._host.run("swarm", "leave", "--force", check=False)
            self._host.stop()
        super().stop()

    def pull_plug(self) -> None:
        self.node_id()
        self._host.kill()
        super().pull_plug()

    def plug_in(self) -> None:
        super().plug_in()
        if self._host.process is None:
            self._host.start()


class _NamespacedHost(Host):
    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.directory, machine.name, f"unix://{machine.engine / 'docker.sock'}")
        self._network = machine.network

    @property
    def prefix(self) -> list[str]:
        return ["nsenter", f"--net={self._network}"]


def _runs(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _all(*commands: list[str]) -> None:
    for command in commands:
        subprocess.run(command, check=True, capture_output=True, text=True)
