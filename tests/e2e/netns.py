"""Hosts with an address of their own, in network namespaces on a bridge, whose cables can be cut.

The namespaces' names begin with SKEP_TEST_NETNS, by which ./check finds those that a killed run left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from .hosts import Host
from .managers import Managers, etcd_pid

PREFIX = os.environ.get("SKEP_TEST_NETNS", f"skt{os.getpid() % 100000}")
PORT = 2377


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class NetworkHost(Host):
    """A daemon in a namespace of its own. `address` is its host's on the bridge."""

    def __init__(self, directory: Path, name: str, namespace: str, address: str) -> None:
        super().__init__(directory, name, "simulated")
        self.namespace = namespace
        self.address = address

    @property
    def prefix(self) -> list[str]:
        return ["nsenter", f"--net=/var/run/netns/{self.namespace}"]

    def unplug(self) -> None:
        """Its cable is pulled: nothing arrives and nobody is told."""
        ip("-n", self.namespace, "link", "set", "eth0", "down")

    def plug(self) -> None:
        ip("-n", self.namespace, "link", "set", "eth0", "up")

    def deaf_to(self, *others: NetworkHost) -> None:
        """What the others send does not arrive; what it sends does."""
        for other in others:
            self._iptables("-A", "INPUT", "-s", other.address, "-j", "DROP")

    def heal(self) -> None:
        self._iptables("-F", "INPUT")
        self.plug()

    def lose_power(self) -> None:
        """The machine is gone, its kernel too: no connection is closed."""
        assert self.process is not None
        self.unplug()
        for pid in (self.process.pid, etcd_pid(self)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(5)
        self.process = None

    def _iptables(self, *arguments: str) -> None:
        subprocess.run([*self.prefix, "iptables", "-w", *arguments], check=True, capture_output=True)


class Network(Managers):
    """Managers and workers on a bridge, which has a namespace of its own: nothing of the machine's network
    sees what they say."""

    def __init__(self, directory: Path, managers: int, workers: int) -> None:
        super().__init__(directory, 0, 0)
        self._bridge = f"{PREFIX}b"
        self._namespaces = [self._bridge]
        ip("netns", "add", self._bridge)
        ip("-n", self._bridge, "link", "add", "br0", "type", "bridge")
        ip("-n", self._bridge, "link", "set", "br0", "up")
        self.managers: list[NetworkHost] = [self._add(f"m{n}", n) for n in range(managers)]  # type: ignore[assignment]
        self.workers: list[NetworkHost] = [self._add(f"w{n}", 100 + n) for n in range(workers)]  # type: ignore[assignment]
        self.addresses = {host.name: f"{host.address}:{PORT}" for host in [*self.managers, *self.workers]}

    def _add(self, name: str, number: int) -> NetworkHost:
        namespace, address = f"{PREFIX}{name}", f"10.213.0.{number + 1}"
        self._namespaces.append(namespace)
        ip("netns", "add", namespace)
        ip(
            "link",
            "add",
            "eth0",
            "netns",
            namespace,
            "type",
            "veth",
            "peer",
            f"v{name}",
            "netns",
            self._bridge,
        )
        ip("-n", self._bridge, "link", "set", f"v{name}", "master", "br0", "up")
        ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", namespace, "link", "set", device, "up")
        return NetworkHost(self.directory, name, namespace, address)

    def stop(self) -> None:
        super().stop()
        for namespace in self._namespaces:
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True)
