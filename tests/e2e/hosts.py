"""Hosts for tests: real `skepd` processes on one engine, driven by the real `docker` client."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.images import IMAGE, busybox_tar
from tests.words import words

START_S = 20.0
SKEPD = Path(sys.executable).with_name("skepd")


def wait_until(what: str, test: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """Returns the first true answer of `test`; fails with `what` when there is none in time."""
    deadline = time.monotonic() + timeout_s
    last: Any = None
    while time.monotonic() < deadline:
        last = test()
        if last:
            return last
        time.sleep(0.1)
    raise AssertionError(f"not within {timeout_s:g} s: {what} (last: {last!r})")


def busybox_into(engine_socket: str) -> str:
    """Gives an engine the tests' image and returns its tag."""
    command = ["docker", "-H", f"unix://{engine_socket}", "import", "-", IMAGE]
    subprocess.run(command, input=busybox_tar(), check=True, capture_output=True)
    return IMAGE


_given: set[int] = set()


def free_port() -> int:
    """Returns a port that nobody listens on and that was not returned before: who asked may not listen yet."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout_s: float = 60.0) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Host:
    """One skepd. `engine` is unix://PATH or `simulated`."""

    def __init__(
        self, directory: Path, name: str, engine: str, *options: str, client: str = "docker"
    ) -> None:
        self.name = name
        self.client = client
        self.socket = directory / f"{name}.sock"
        self._directory = directory
        self._engine = engine
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def prefix(self) -> list[str]:
        """Returns what comes before the daemon's command."""
        return []

    @property
    def state_dir(self) -> Path:
        return self._directory / self.name

    def start(
        self, environment: dict[str, str] | None = None, wait_for: tuple[str, ...] = ("version",)
    ) -> Host:
        return self.launch(environment).wait_up(wait_for)

    def launch(self, environment: dict[str, str] | None = None) -> Host:
        """Starts it and does not wait until it answers."""
        command = [*self.prefix, str(SKEPD), "--name", self.name, "--state-dir", str(self.state_dir)]
        command += ["--host", self.url, "--engine", self._engine, *self.options]
        with (self._directory / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **(environment or {})}
            )
        return self

    def wait_up(self, wait_for: tuple[str, ...] = ("version",)) -> Host:
        wait_until(f"{self.name} answers: {self.log()}", lambda: self._answers(wait_for), START_S)
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(15)
            self.process = None

    def kill(self) -> None:
        """The daemon dies like in a crash; what it started is left alone."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(5)
        self.process = None

    def log(self) -> str:
        path = self._directory / f"{self.name}.log"
        return path.read_text()[-2000:] if path.exists() else ""

    def run(
        self, line: str, *values: object, check: bool = True, data: bytes | None = None, timeout_s: float = 90
    ) -> subprocess.CompletedProcess[str]:
        """Runs the docker client against this host; the command line is as in `tests.words`."""
        arguments = words(line, *values)
        done = subprocess.run(
            [self.client, "-H", self.url, *arguments],
            input=None if data is None else data.decode(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL if data is None else None,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"docker {' '.join(arguments)}: {done.stderr}\n{self.log()}")
        return done

    def pinged(self) -> str:
        """Returns what a ping says of this host's part in a swarm."""
        connection = UnixConnection(self.socket)
        try:
            connection.request("GET", "/_ping")
            return connection.getresponse().headers["Swarm"]
        finally:
            connection.close()

    @contextlib.contextmanager
    def stream(self, line: str, *values: object, both: bool = False) -> Iterator[Lines]:
        """Runs the docker client and gives what it prints as it comes; `both`: on stderr, too."""
        process = subprocess.Popen(
            [self.client, "-H", self.url, *words(line, *values)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if both else None,
            text=True,
        )
        try:
            yield Lines(process)
        finally:
            process.kill()
            process.wait(5)

    def docker(self, line: str, *values: object, data: bytes | None = None) -> str:
        return self.run(line, *values, data=data).stdout.strip()

    def json(self, line: str, *values: object) -> Any:
        return json.loads(self.docker(line, *values))

    def tasks(self, service: str, *filters: str) -> list[dict[str, str]]:
        """Returns `docker service ps` as rows."""
        options = [part for each in filters for part in ("--filter", each)]
        lines = self.docker("service ps --no-trunc --format '{{json .}}'", *options, service)
        return [json.loads(line) for line in lines.splitlines()]

    def get(self, path: str, **filters: str) -> Any:
        """Returns what the API says. What is asked until something comes true is asked so: a docker client is a
        process and several requests each time. Errors: `AssertionError` where it refuses, `OSError`."""
        return json.loads(self.get_raw(path, **filters))

    def get_raw(self, path: str, **filters: str) -> bytes:
        """The same of what is no JSON."""
        connection = UnixConnection(self.socket)
        query = {"filters": json.dumps({name: [value] for name, value in filters.items()})} if filters else {}
        try:
            connection.request("GET", f"{path}?{urllib.parse.urlencode(query)}")
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise AssertionError(f"{self.name} says to GET {path}: {content.decode()}\n{self.log()}")
        return content

    def running(self, service: str) -> list[dict[str, str]]:
        """Returns the service's tasks that run, as rows of `docker service ps`."""
        tasks = self.get("/tasks", service=service, **{"desired-state": "running"})
        names = {node["ID"]: node["Description"]["Hostname"] for node in self.get("/nodes")} if tasks else {}
        return [
            {
                "ID": task["ID"],
                "Name": f"{service}.{task.get('Slot') or task['NodeID']}",
                "Image": task["Spec"]["ContainerSpec"]["Image"],
                "Node": names.get(task["NodeID"], task["NodeID"]),
            }
            for task in tasks
            if task["Status"]["State"] == "running"
        ]

    def _answers(self, command: tuple[str, ...]) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended: {self.log()}")
        return self._listens() and self.run(*command, check=False).returncode == 0

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0


class Lines:
    """What a client prints, gathered in the background."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.seen: list[str] = []
        self.ended = False
        assert process.stdout is not None
        self._stream = process.stdout
        threading.Thread(target=self._gather, daemon=True).start()
        time.sleep(0.5)  # the client has connected by then

    def _gather(self) -> None:
        for line in self._stream:
            self.seen.append(line)
        self.ended = True

    def first(self, text: str) -> str:
        """Returns the first line with `text` in it."""
        return str(wait_until(text, lambda: next((line for line in self.seen if text in line), "")))


def start_all(hosts: Sequence[Host]) -> None:
    """Starts them at the same time."""
    for host in hosts:
        host.launch()
    for host in hosts:
        host.wait_up()


def stop_all(hosts: Sequence[Host]) -> None:
    """Ends them at the same time. Each gives containers that its engine does not let go of 15 seconds."""
    for host in hosts:
        if host.process is not None:
            host.process.terminate()
    for host in hosts:
        if host.process is not None:
            host.process.wait(30)
            host.process = None


def nodes_of(manager: Host) -> dict[str, tuple[str, str]]:
    """Returns host name -> (status, manager status), as `docker node ls` shows them."""
    return {
        node["Description"]["Hostname"]: (node["Status"]["State"].capitalize(), _manager_status(node))
        for node in manager.get("/nodes")
    }


def _manager_status(node: Any) -> str:
    status = node.get("ManagerStatus") or {}
    return "Leader" if status.get("Leader") else str(status.get("Reachability", "")).capitalize()


class Swarm:
    """A manager `mg0` and workers `w0`, `w1`, … of one swarm."""

    def __init__(self, directory: Path, engine: str, workers: int) -> None:
        self.port = free_port()
        self.engine = engine
        self.manager = Host(directory, "mg0", engine)
        self.workers = [Host(directory, f"w{n}", engine) for n in range(workers)]

    @property
    def hosts(self) -> list[Host]:
        return [self.manager, *self.workers]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> Swarm:
        start_all(self.hosts)
        self.manager.docker("swarm init --advertise-addr {} --listen-addr {}", self.address, self.address)
        for worker in self.workers:
            self.join(worker)
        return self

    def join(self, worker: Host) -> None:
        token = self.manager.docker("swarm join-token -q worker")
        own = f"127.0.0.1:{free_port()}"  # where it is a manager once it is promoted
        worker.docker(
            "swarm join --token {} --advertise-addr {} --listen-addr {} {}", token, own, own, self.address
        )

    def stop(self) -> None:
        for host in reversed(self.hosts):
            if host.process is not None and self.engine != "simulated":
                host.run("swarm leave --force", check=False)  # with its containers
        stop_all(self.hosts)

    def nodes(self) -> dict[str, str]:
        """Returns host name -> status."""
        return {name: status for name, (status, _) in nodes_of(self.manager).items()}


def containers(engine_socket: str, label: str) -> Iterator[dict[str, str]]:
    """Yields the engine's containers with a label."""
    command = f"docker -H unix://{engine_socket} ps -a --no-trunc --filter label={label} --format".split()
    output = subprocess.run(
        [*command, "{{json .}}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for line in output.splitlines():
        yield json.loads(line)
