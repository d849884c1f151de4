"""Overlay networks for tests of the data plane: containers on three hosts, made by hand as an engine would."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from skep.model.mesh import Mesh, bridge_name, tunnel_name
from skep.model.overlay import Overlay, OverlayEndpoint, OverlayNetwork, OverlayService

from .mesh_hosts import PREFIX, Lan, MeshHost, Namespace

BACK = OverlayNetwork("net2", "10.1.0.0/24", 4098, 4789, "back")
FRONT = OverlayNetwork("net3", "10.2.0.0/24", 4099, 4789, "front", 1400)

# In a namespace: is there an answer to a ping with so many bytes, which nobody may cut up?
PING = """
import socket, struct, sys
made = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
made.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER: always
made.settimeout(3)
data = bytes(int(sys.argv[2]) - 28)
def packet(checksum):
    return struct.pack("!BBHHH", 8, 0, checksum, 77, 1) + data
total = sum(struct.unpack(f"!{len(packet(0)) // 2}H", packet(0)))
total = (total & 0xFFFF) + (total >> 16)
kinds = []
try:
    made.sendto(packet(~total & 0xFFFF), (sys.argv[1], 0))
    while True:
        answer, _ = made.recvfrom(2000)
        kinds.append(answer[20])
        made.settimeout(0.3)  # for what else somebody says to it
except OSError as error:
    if not kinds:
        kinds.append(type(error).__name__)
print(kinds)
"""
ANSWERED, UNANSWERED = "[0]", "['TimeoutError']"


# In a namespace: says something by one flow each time it is told to, and what is answered.
FLOW = """
import socket, sys
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
made.settimeout(1)
made.connect((sys.argv[1], 80))
for line in sys.stdin:
    try:
        made.send(b"x")
        print(made.recv(100).decode().strip(), flush=True)
    except OSError as error:
        print("error", type(error).__name__, flush=True)
"""


class Flow:
    """One that `Member.flow` has begun."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def say(self) -> str:
        """Returns what is answered, `NAME CLIENT`; an error where nothing is within a second."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


def gateway(host: MeshHost, network: OverlayNetwork) -> str:
    return f"{network.subnet.rpartition('.')[0]}.25{host.node_id[-1]}"


class Member(Namespace):
    """A container on overlay networks, by its addresses there; on the first of them it has its way out."""

    def __init__(self, host: MeshHost, name: str, addresses: dict[OverlayNetwork, str]) -> None:
        super().__init__(name)
        self.host = host
        self.addresses = addresses
        self.server: subprocess.Popen[str] | None = None

    @property
    def address(self) -> str:
        return next(iter(self.addresses.values()))

    def start(self) -> None:
        host = self.host
        for number, (network, address) in enumerate(self.addresses.items()):
            bridge = bridge_name(network.vni)
            own = gateway(host, network)
            if own not in host.run("ip", "addr", "show", bridge):  # as an engine does
                host.run("ip", "addr", "add", f"{own}/24", "dev", bridge)
                leaving = ("POSTROUTING", "-s", network.subnet, "!", "-o", bridge, "-j", "MASQUERADE")
                host.run("iptables", "-w", "-t", "nat", "-A", *leaving)
            self.cable(host, bridge, f"eth{number}", f"{address}/24")
            mac = "02:42:" + ":".join(f"{int(each):02x}" for each in address.split("."))  # engines' own
            self.run("ip", "link", "set", f"eth{number}", "mtu", str(network.mtu), "address", mac)
            if number == 0:
                self.run("ip", "route", "add", "default", "via", own)
        self.server = self.serve(self.label, 80)

    def ping(self, to: str, size: int = 100) -> str:
        return self.run(sys.executable, "-c", PING, to, str(size)).strip()

    @contextlib.contextmanager
    def flow(self, to: str) -> Iterator[Flow]:
        """Yields one flow of UDP from here."""
        command = [*self.prefix, sys.executable, "-c", FLOW, to]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield Flow(process)
        finally:
            process.kill()
            process.wait(5)

    def end(self) -> None:
        """The container goes. The kernel takes its devices away a little later."""
        if self.server is not None:
            self.server.kill()
            self.server.wait(5)
        self.remove()
        while f"veth0{self.name.removeprefix(PREFIX)}" in self.host.run("ip", "link"):
            time.sleep(0.01)


class Overlays:
    """Who is on which network, as a manager has it, and each host told of its own."""

    def __init__(self, lan: Lan) -> None:
        self.lan = lan
        self.hosts = lan.hosts
        self.members: list[Member] = []
        self.mesh = Mesh(nodes={host.node_id: host.address for host in lan.hosts})

    def add(self, number: int, name: str, *addresses: str) -> Member:
        """Adds a container to the host of that number, on the networks that the addresses are of. All hosts
        are told of it before it is there."""
        known = {network.subnet.rpartition(".")[0]: network for network in (BACK, FRONT)}
        on = {known[address.rpartition(".")[0]]: address for address in addresses}
        member = Member(self.hosts[number - 1], name, on)
        self.members.append(member)
        for told in self.tell("quick"):
            assert told["failures"] == []
        member.start()
        return member

    def remove(self, member: Member) -> None:
        self.members.remove(member)
        member.end()

    def serving(self) -> Overlays:
        """One on each host."""
        for number, name in enumerate("abc", 1):
            self.add(number, name, f"10.1.0.1{number}")
        self.tell()
        return self

    def for_host(self, host: MeshHost) -> Mesh:
        """Returns what the host is told."""
        networks = {network.id: network for m in self.members if m.host is host for network in m.addresses}
        return replace(self.mesh, overlays={id: self.overlay(each) for id, each in networks.items()})

    def overlay(self, network: OverlayNetwork) -> Overlay:
        on_it = [member for member in self.members if network in member.addresses]
        nodes = {member.host.node_id: member.host.address for member in on_it}
        services = {
            member.name: OverlayService(
                member.name,
                member.label,
                endpoints=(OverlayEndpoint(member.addresses[network], member.host.node_id, member.label),),
            )
            for member in on_it
        }
        return Overlay(network, nodes, services)

    def tell(self, how: str = "look") -> list[dict[str, Any]]:
        return [host.told(self.for_host(host), how) for host in self.hosts]

    def assert_all_reach_all(self, kinds: tuple[str, ...] = ("tcp", "udp")) -> None:
        """By each network that two are on, with their own addresses."""
        for asker in self.members:
            for asked in self.members:
                for network in asker.addresses.keys() & asked.addresses.keys() if asker != asked else ():
                    own, address = asker.addresses[network], asked.addresses[network]
                    for kind in kinds:
                        said = asker.ask(address, 80, kind=kind)
                        assert said == [f"{asked.label} {own}"], (
                            asker.label,
                            asked.label,
                            network.name,
                            kind,
                        )

    def stop(self) -> None:
        for member in self.members:
            member.end()


@contextlib.contextmanager
def on_overlays(lan: Lan) -> Iterator[Overlays]:
    made = Overlays(lan)
    try:
        yield made
    finally:
        made.stop()


def names_of(network: OverlayNetwork) -> tuple[str, str]:
    return bridge_name(network.vni), tunnel_name(network.vni)
