"""A host with containers that ask for names, and servers that it asks in turn."""

from __future__ import annotations

import ctypes
import itertools
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rrset
import msgspec

from skep.model.overlay import Overlay, OverlayEndpoint, OverlayNetwork, OverlayService

from .mesh_hosts import Namespace, ip

T = TypeVar("T")
GATEWAY, WEB, BACK = "10.0.9.1", "10.0.9.11", "10.0.9.12"
BRIDGE = "skb4098"
STRANGER, OTHER_GATEWAY = "172.30.7.2", "172.30.7.1"
RESOLVER, SILENT, FAILING, NOBODY, OWN = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6"
CLONE_NEWNET = 0x40000000
_NUMBERS = itertools.count(1)


def inside(space: Namespace | Path, call: Callable[[], T]) -> T:
    """Returns what a call does in a network namespace: in a thread of its own, which ends there."""
    path = Path(f"/var/run/netns/{space.name}") if isinstance(space, Namespace) else space

    def enter() -> T:
        with path.open() as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        return call()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(enter).result()


class Reply:
    """An answer, as far as tests look at it."""

    def __init__(self, message: dns.message.Message) -> None:
        self.code = dns.rcode.to_text(message.rcode())
        self.is_cut = bool(message.flags & dns.flags.TC)
        self.records = [each.to_text() for found in message.answer for each in found]
        self.ttls = {found.ttl for found in message.answer}
        self.bytes = len(message.wire or b"")

    def __repr__(self) -> str:
        return f"{self.code} {self.records}"


class DnsHost:
    """A host with two containers on a bridge of the swarm's, and a stranger on another bridge. `server` is
    skep's part; `resolv_conf` is its own file."""

    def __init__(self, directory: Path) -> None:
        self.resolv_conf = directory / "resolv.conf"
        self.name_servers(RESOLVER)
        self.spaces: list[Namespace] = []
        self.resolvers: list[Resolver] = []
        self.servers: list[Server] = []

    def start(self) -> DnsHost:
        self.space = self._kept("dhost")
        self.web, self.back, self.stranger = (self._kept(each) for each in ("dweb", "dback", "dother"))
        for bridge, gateway in ((BRIDGE, GATEWAY), ("user0", OTHER_GATEWAY)):
            ip("-n", self.space.name, "link", "add", bridge, "type", "bridge")
            ip("-n", self.space.name, "addr", "add", f"{gateway}/24", "dev", bridge)
            ip("-n", self.space.name, "link", "set", bridge, "up")
        for space, bridge, address in (
            (self.web, BRIDGE, WEB),
            (self.back, BRIDGE, BACK),
            (self.stranger, "user0", STRANGER),
        ):
            space.cable(self.space, bridge, "eth0", f"{address}/24")
        self.stranger.run("ip", "route", "add", "default", "via", OTHER_GATEWAY)
        self.server = self.begin()
        return self

    def _kept(self, name: str) -> Namespace:
        self.spaces.append(Namespace(name))
        return self.spaces[-1]

    def begin(self) -> Server:
        self.servers.append(Server(self.space, self.resolv_conf))
        return self.servers[-1]

    def name_servers(self, *addresses: str) -> None:
        self.resolv_conf.write_text("".join(f"nameserver {each}\n" for each in addresses))

    def resolver(self, address: str = RESOLVER) -> Resolver:
        self.resolvers.append(Resolver(self.space, address))
        return self.resolvers[-1]

    def ask(
        self,
        name: str,
        kind: str = "A",
        space: Namespace | None = None,
        tcp: bool = False,
        at: str = GATEWAY,
        payload: int = 0,
        wait_s: float = 8.0,
    ) -> Reply:
        """Returns what a container is told; the first one, where none is named. A `payload` goes by EDNS."""
        asked = dns.message.make_query(name, kind)
        if payload:
            asked.use_edns(0, payload=payload)
        how = dns.query.tcp if tcp else dns.query.udp
        return Reply(inside(space or self.web, lambda: how(asked, at, timeout=wait_s)))

    def stop(self) -> None:
        for each in (*self.servers, *self.resolvers, *self.spaces):
            each.remove() if isinstance(each, Namespace) else each.stop()


class Server:
    """skep's name server, in its host's namespace."""

    def __init__(self, space: Namespace, resolv_conf: Path) -> None:
        command = [*space.prefix, sys.executable, "-m", "tests.integration.dns_process", str(resolv_conf)]
        self._log = resolv_conf.with_name(f"log{next(_NUMBERS)}")
        pipe = subprocess.PIPE
        with self._log.open("w") as log:
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True)
        self.failures()

    def say(self, *command: Any) -> list[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(command).decode() + "\n")
        self._process.stdin.flush()
        return list(msgspec.json.decode(self._process.stdout.readline()))

    def failures(self) -> list[str]:
        return self.say("failures?")

    def serve(self, is_internal: bool = False, gateway: str = GATEWAY) -> None:
        self.say("serve", "net", gateway, is_internal)

    def told(self, *services: OverlayService, others: Iterable[Overlay] = ()) -> None:
        network = OverlayNetwork("net", "10.0.9.0/24", 4098, 4789, "app")
        own = Overlay(network, {}, {each.id: each for each in services})
        self.say("told", {each.network.id: each for each in (own, *others)})

    def log(self) -> str:
        return self._log.read_text()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(5)


class Resolver:
    """A server somewhere, in the host's namespace: names ask for what it does. `asked` are its questions."""

    def __init__(self, space: Namespace, address: str) -> None:
        self.address = address
        self.asked: list[tuple[str, int, int, str]] = []  # name, number, source port, how
        self._udp, self._forger = inside(space, lambda: (_bound(address), _bound("127.0.0.99", 53)))
        self._tcp = inside(space, lambda: socket.create_server((address, 53)))
        self._is_over = False
        self._udp.settimeout(0.1)
        self._tcp.settimeout(0.1)
        self._threads = [threading.Thread(target=each) for each in (self._serve_udp, self._serve_tcp)]
        for each in self._threads:
            each.start()

    def _serve_udp(self) -> None:
        while not self._is_over:
            try:
                wire, (host, port) = self._udp.recvfrom(4096)
            except TimeoutError:
                continue
            asked = dns.message.from_wire(wire)
            name = asked.question[0].name.to_text()
            self.asked.append((name, asked.id, port, "udp"))
            if self.address == SILENT:
                continue
            if name.startswith("forged"):
                self._forge(asked, (host, port))
                time.sleep(0.2)
            self._udp.sendto(self._answer(asked, "udp").to_wire(max_size=65535), (host, port))

    def _forge(self, asked: dns.message.Message, where: tuple[str, int]) -> None:
        """Sends answers that are none: of another number, to another question, from another server."""
        made = self._answer(asked, "udp", "198.51.100.66")
        right, made.id = made.id, made.id ^ 1
        self._udp.sendto(made.to_wire(), where)
        other = dns.message.make_query("other.example.", "A")
        other.id = right
        self._udp.sendto(self._answer(other, "udp", "198.51.100.66").to_wire(), where)
        made.id = right
        self._forger.sendto(made.to_wire(), where)
        self._udp.sendto(b"\0\1", where)

    def _answer(
        self, asked: dns.message.Message, how: str, address: str = "192.0.2.7"
    ) -> dns.message.Message:
        made = dns.message.make_response(asked)
        name = asked.question[0].name.to_text()
        if self.address == FAILING:
            made.set_rcode(dns.rcode.SERVFAIL)
        elif name.startswith("none"):
            made.set_rcode(dns.rcode.NXDOMAIN)
        elif name.startswith("big") and how == "udp":
            made.flags |= dns.flags.TC
        else:
            found = [f"192.0.2.{n}" for n in range(1, 201)] if name.startswith(("big", "long")) else [address]
            made.answer.append(dns.rrset.from_text_list(name, 77, "IN", "A", found))
        return made

    def _serve_tcp(self) -> None:
        while not self._is_over:
            try:
                made, _ = self._tcp.accept()
            except TimeoutError:
                continue
            with made, made.makefile("rb") as file:
                wire = file.read(int.from_bytes(file.read(2)))
                asked = dns.message.from_wire(wire)
                self.asked.append((asked.question[0].name.to_text(), asked.id, 0, "tcp"))
                answer = self._answer(asked, "tcp").to_wire(max_size=65535)
                made.sendall(len(answer).to_bytes(2) + answer)

    def stop(self) -> None:
        self._is_over = True
        for each in self._threads:
            each.join(5)
        for made in (self._udp, self._forger, self._tcp):
            made.close()


def _bound(address: str, port: int = 53) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((address, port))
    return made


def service(name: str, *addresses: str, aliases: tuple[str, ...] = ()) -> OverlayService:
    endpoints = tuple(OverlayEndpoint(each, "n1", f"{name}.{n}.t") for n, each in enumerate(addresses, 1))
    return OverlayService(f"id-{name}", name, aliases, "", endpoints)


def wait_until(what: str, holds: Callable[[], bool], wait_s: float = 10.0) -> None:
    until = time.monotonic() + wait_s
    while not holds():
        assert time.monotonic() < until, f"{what}: not within {wait_s} s"
        time.sleep(0.05)
