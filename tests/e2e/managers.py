"""Swarms of several managers, on one machine: each on a loopback port of its own."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import time
from pathlib import Path
from typing import Any

from .hosts import Host, free_port, nodes_of, start_all, wait_until

FORM_S = 60.0  # etcd takes another manager only when all have been connected for five seconds


class Managers:
    """Managers `m0`, `m1`, … and workers `w0`, `w1`, … on simulated engines, or on a given one."""

    def __init__(self, directory: Path, managers: int, workers: int, engine: str = "simulated") -> None:
        self.directory = directory
        self.engine = engine
        self.managers = [Host(directory, f"m{n}", engine) for n in range(managers)]
        self.workers = [Host(directory, f"w{n}", engine) for n in range(workers)]
        self.addresses = {host.name: f"127.0.0.1:{free_port()}" for host in self.hosts}

    @property
    def hosts(self) -> list[Host]:
        return [*self.managers, *self.workers]

    @property
    def first(self) -> Host:
        return self.managers[0]

    @property
    def manager(self) -> Host:
        """Some manager that runs."""
        return self.alive()

    def host(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    def start(self) -> Managers:
        start_all(self.hosts)
        self.first.docker("swarm init", *self._listen(self.first))
        for manager in self.managers[1:2]:
            self.join(manager, "manager")
        for worker in self.workers:  # before etcd takes a third one
            self.join(worker, "worker")
        for manager in self.managers[2:]:
            self.join(manager, "manager")
        self.wait_reachable(len(self.managers))
        return self

    def join(self, host: Host, role: str, by: Host | None = None) -> None:
        token = self.first.docker("swarm join-token -q", role)
        address = self.addresses[(by or self.first).name]
        host.docker("swarm join --token", token, *self._listen(host), address)

    def _listen(self, host: Host) -> tuple[str, ...]:
        address = self.addresses[host.name]
        return ("--advertise-addr", address, "--listen-addr", address)

    def stop(self) -> None:
        for host in self.hosts:
            if host.process is not None:
                resume(host)
                host.kill()
        for host in self.hosts:
            end_leftovers(host)

    # Looking

    def nodes(self, by: Host | None = None) -> dict[str, tuple[str, str]]:
        """Returns host name -> (status, manager status), as a manager says; as the first that answers where
        none is given, empty where nobody answers."""
        if by is not None:
            return nodes_of(by)
        for host in self.managers:
            if host.process is not None:
                with contextlib.suppress(AssertionError, OSError, http.client.HTTPException):
                    return nodes_of(host)
        return {}

    def alive(self) -> Host:
        return next(host for host in self.managers if host.process is not None)

    def leader(self, by: Host | None = None) -> Host:
        found = wait_until("somebody leads", lambda: self._leaders(by), 20)
        return self.host(found[0])

    def _leaders(self, by: Host | None) -> list[str]:
        return [name for name, (_, manager) in self.nodes(by).items() if manager == "Leader"]

    def followers(self) -> list[Host]:
        leader = self.leader()
        return [host for host in self.managers if host is not leader and host.process is not None]

    def wait_reachable(self, count: int, by: Host | None = None, timeout_s: float = FORM_S) -> None:
        """Waits until that many managers lead or are reachable."""

        def reachable() -> bool:
            return sum(m in ("Leader", "Reachable") for _, m in self.nodes(by).values()) == count

        wait_until(f"{count} managers are reachable", reachable, timeout_s)


def pause(host: Host) -> None:
    """Stops the daemon and its etcd, as a machine that hangs."""
    for pid in pids(host):
        os.kill(pid, signal.SIGSTOP)


def resume(host: Host) -> None:
    for pid in pids(host):
        os.kill(pid, signal.SIGCONT)


def pids(host: Host) -> list[int]:
    """Returns the daemon's process and its etcd's."""
    assert host.process is not None
    return [host.process.pid, *filter(None, [etcd_pid(host)])]


def etcd_pid(host: Host) -> int:
    try:
        return int((host.state_dir / "etcd" / "pid").read_text())
    except (OSError, ValueError):
        return 0


def end_leftovers(host: Host) -> None:
    """An etcd whose daemon was killed ends with it (prctl); not at once."""
    pid = etcd_pid(host)
    command = Path(f"/proc/{pid}/cmdline")
    for _ in range(50):
        if not pid or not command.exists() or str(host.state_dir) not in command.read_text():
            return
        time.sleep(0.1)


def create(by: Host, name: str, replicas: int, *options: str) -> None:
    by.docker(
        "service create -q -d --no-resolve-image --name {} --replicas {}",
        name,
        replicas,
        *options,
        "image",
    )


def wait_running(by: Host, name: str, replicas: int, timeout_s: float = 30.0) -> None:
    wait_until(f"{replicas} of {name} run", lambda: len(by.running(name)) == replicas, timeout_s)


def info(host: Host) -> dict[str, Any]:
    return host.json("info --format '{{json .Swarm}}'")  # type: ignore[no-any-return]
