"""Three hosts with an address and an engine each, and a client outside that knows their addresses only."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.integration.mesh_hosts import ASK, Namespace, ip
from tests.mesh_image import mesh_image_into
from tests.words import words

from .engine_roots import wanted
from .hosts import Host, busybox_into, wait_until

ENGINE_SH = Path(__file__).parents[2] / "scripts/engine.sh"
CLIENT = "10.215.0.100"
PORT = 2377


class MeshHost(Host):
    """A daemon, and its engine, in a network namespace."""

    def __init__(
        self,
        directory: Path,
        name: str,
        address: str,
        lan: Namespace,
        space: Namespace,
        engine: Sequence[str] = (),
    ) -> None:
        """`engine` are options of `scripts/engine.sh`."""
        self.space = space
        self.engine_options = engine
        self.space.cable(lan, "lan", "eth0", f"{address}/24")
        self.space.run("ip", "route", "add", "default", "via", "10.215.0.254")
        self.address = address
        self.engine_dir = directory / f"e{name}"
        self.engine_socket = self.engine_dir / "docker.sock"
        super().__init__(directory, name, f"unix://{self.engine_socket}")

    @property
    def prefix(self) -> list[str]:
        return self.space.prefix

    def start_engine(self) -> None:
        command = [*self.prefix, str(ENGINE_SH), "start", str(self.engine_dir), "engine0"]
        subprocess.run([*command, *self.engine_options], check=True, capture_output=True, text=True)

    def stop_engine(self) -> None:
        command = [*self.prefix, str(ENGINE_SH), "stop", str(self.engine_dir)]
        subprocess.run(command, capture_output=True, text=True)

    def engine_command(self, line: str, *values: object) -> list[str]:
        return [self.client, "-H", f"unix://{self.engine_socket}", *words(line, *values)]

    def on_engine(self, line: str, *values: object) -> str:
        """Returns what the docker client prints that speaks to the engine itself."""
        command = self.engine_command(line, *values)
        done = subprocess.run(command, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout.strip()

    def ask(self, address: str, port: int, count: int = 1, kind: str = "tcp") -> list[str]:
        return self.space.ask(address, port, count, kind)

    def rules(self) -> str:
        """Returns what of the mesh's is in the host's kernel, for looking and comparing."""
        links = self.space.run("ip", "-o", "link")
        kept = [line.split(":")[1].split("@")[0].strip() for line in links.splitlines()]
        return " ".join(name for name in kept if name.startswith("sk"))


class MeshSwarm:
    """`m` leads, `w0` and `w1` work; `m` may, too."""

    # Docker's own pool may hold this machine's nameserver, which namespaces ask as well.
    pool: tuple[str, ...] = ("--default-addr-pool", "10.217.0.0/16")

    def __init__(
        self,
        directory: Path,
        names: Sequence[str] = ("m", "w0", "w1"),
        engines: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """`engines` are the hosts' (options of `scripts/engine.sh`), in turn; this machine's where nothing is said."""
        self._directory = directory
        self._names = names
        self._engines = wanted() if engines is None else engines
        self.spaces: list[Namespace] = []
        self.hosts: list[MeshHost] = []

    def _kept(self, name: str) -> Namespace:
        made = Namespace(name)
        self.spaces.append(made)
        return made

    def _make(self) -> None:
        self.lan = self._kept("elan")
        ip("-n", self.lan.name, "link", "add", "lan", "type", "bridge")
        ip("-n", self.lan.name, "link", "set", "lan", "up")
        self.client = self._kept("eout")
        self.client.cable(self.lan, "lan", "eth0", f"{CLIENT}/24")
        for number, name in enumerate(self._names, 1):
            space = self._kept(f"e{name}")
            engine = self._engines[(number - 1) % len(self._engines)]
            address = f"10.215.0.{number}"
            self.hosts.append(MeshHost(self._directory, name, address, self.lan, space, engine))
        self.manager, *self.workers = self.hosts

    def start(self) -> MeshSwarm:
        self._make()
        for host in self.hosts:  # not all at once: each has a deadline, and a start is work
            host.start_engine()
            self._give_images(host)
            host.start()
        address = f"{self.manager.address}:{PORT}"
        self.manager.docker("swarm init", *self.pool, "--advertise-addr", address, "--listen-addr", address)
        for worker in self.workers:
            self.join(worker)
        return self

    def _give_images(self, host: MeshHost) -> None:
        mesh_image_into(str(host.engine_socket))
        busybox_into(str(host.engine_socket))

    def join(self, worker: MeshHost) -> None:
        token = self.manager.docker("swarm join-token -q worker")
        own = f"{worker.address}:{PORT}"
        worker.docker(
            "swarm join --token {} --advertise-addr {} {}:{}", token, own, self.manager.address, PORT
        )

    def stop(self) -> None:
        _each(self.hosts, self._stop)
        for space in self.spaces:
            space.remove()

    def _stop(self, host: MeshHost) -> None:
        if host.process is not None:
            host.run("swarm leave --force", check=False)
        host.stop()
        host.stop_engine()

    def ask(self, host: MeshHost, port: int, count: int = 1, kind: str = "tcp") -> list[str]:
        """Returns what the client outside is told by the host's address."""
        return self.client.ask(host.address, port, count, kind)

    def wait_answers(self, port: int, names: int, kind: str = "tcp") -> None:
        """Waits until each host leads to so many tasks."""

        def answers() -> bool:
            found = [{a.split()[0] for a in self.ask(host, port, 2 * names, kind)} for host in self.hosts]
            return all(len(each - {"error"}) == names and "error" not in each for each in found)

        wait_until(f"{names} tasks answer at port {port} of every host", answers, 60)


def _each(hosts: Sequence[MeshHost], do: Callable[[MeshHost], None]) -> None:
    """Does it to all at the same time. The first error is raised when all are done."""
    if hosts:
        with ThreadPoolExecutor(len(hosts)) as pool:
            works = [pool.submit(do, host) for host in hosts]
        for work in works:
            work.result()


@contextlib.contextmanager
def steady(space: Namespace, address: str, port: int) -> Iterator[list[str]]:
    """Connects all the time meanwhile; gives a list that has each answer in the end."""
    command = [*space.prefix, sys.executable, "-u", "-c", ASK, "tcp", address, str(port), "1000000"]
    answers: list[str] = []
    with tempfile.TemporaryFile("w+") as said:  # a pipe that nobody reads would stop it
        asking = subprocess.Popen(command, stdout=said)
        try:
            time.sleep(0.5)
            yield answers
        finally:
            asking.terminate()
            asking.wait(10)
            said.seek(0)
            answers += said.read().splitlines()
