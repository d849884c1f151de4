"""The ways that `beside_docker.py` compares: hosts in network namespaces on one bridge, two of a kind.

Who is asked is always nginx and iperf3, who asks is in the client's namespace or in a container's.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from msgspec import Struct
from tests.e2e.hosts import wait_until
from tests.e2e.mesh import PORT, MeshHost, MeshSwarm
from tests.integration.mesh_hosts import Namespace

from beside_tools import IMAGE, IPERF_PORT, Tools

WEB_PORT, VIA_PORT, VIA_BYTES = 8081, 8082, 5202
MTU = "1450"  # as all overlays here
BESIDE_DOCKERS = 4788  # whose own tunnels end at 4789
RAW = "raw underlay"
DOCKER_PORT = "docker -p, plain engine"
MESH_HERE, MESH_VIA = "skep: mesh, task on the asked host", "skep: mesh, via another host"
BARE, BARE_BRIDGED = "bare VXLAN, two namespaces", "bare VXLAN, behind bridges"
BARE_CONTAINER = "bare VXLAN, behind bridges, of containers"
BARE_ENGINES = "bare VXLAN, behind bridges, of containers, on engines' hosts"
DOCKER_OVERLAY = "Docker's overlay, by address"
OVERLAY, VIP = "skep: overlay, by address", "skep: overlay, by the service's address"


class Way(Struct, frozen=True):
    """`prefix` is what a command of the one who asks begins with, `server` the process that answers it."""

    name: str
    prefix: list[str]
    address: str
    server: int
    web_port: int = 80
    bytes_port: int = IPERF_PORT


class Skep(MeshSwarm):
    """Two hosts of a swarm: `m`, which leads and is asked, and `w0`."""

    def __init__(self, directory: Path, tools: Tools) -> None:
        super().__init__(directory, ("m", "w0"))
        self._tools = tools

    def _give_images(self, host: MeshHost) -> None:
        self._tools.image_into(host.engine_socket)

    def ways(self) -> list[Way]:
        """Each has a task of its own: one that a client has reached by another address keeps that one's ports
        for a minute (TIME_WAIT), and has it try again, a second later, where it comes with the same port."""
        there, other = self.manager, self.workers[0]
        there.docker("network", "create", "-d", "overlay", "--attachable", "ov")
        self._create("here", there, "-p", f"{WEB_PORT}:80", "-p", f"{IPERF_PORT}:{IPERF_PORT}")
        self._create("via", there, "-p", f"{VIA_PORT}:80", "-p", f"{VIA_BYTES}:{IPERF_PORT}")
        for name, host in (("api", other), ("named", other), ("asker", there)):
            self._create(name, host, "--network", "ov")
        asks = _entering(_pid(there, self._container("asker", there)))
        (inspected,) = there.json("service", "inspect", "named")
        vip = inspected["Endpoint"]["VirtualIPs"][0]["Addr"].partition("/")[0]
        outside, api = self.client.prefix, self._container("api", other)
        here, via = (_pid(there, self._container(name, there)) for name in ("here", "via"))
        return [
            Way(MESH_HERE, outside, there.address, here, WEB_PORT),
            Way(MESH_VIA, outside, other.address, via, VIA_PORT, VIA_BYTES),
            Way(OVERLAY, asks, _address(other, api, "ov"), _pid(other, api)),
            Way(VIP, asks, vip, _pid(other, self._container("named", other))),
        ]

    def _create(self, name: str, host: MeshHost, *options: str) -> None:
        where = f"node.hostname=={host.name}"
        create = ("service", "create", "-d", "--no-resolve-image", "--name", name, "--constraint", where)
        self.manager.docker(*create, *options, IMAGE)
        wait_until(f"{name} runs", lambda: self.manager.running(name), 60)

    def _container(self, service: str, host: MeshHost) -> str:
        return host.on_engine("ps", "-q", "--filter", f"label=com.docker.swarm.service.name={service}")


class Beside:
    """What skep is compared with, on the same bridge."""

    def __init__(self, directory: Path, tools: Tools, lan: Namespace, client: Namespace) -> None:
        self._directory = directory
        self._tools = tools
        self._lan = lan
        self._client = client
        self._spaces: list[Namespace] = []
        self._engines: list[MeshHost] = []
        self._servers: list[subprocess.Popen[bytes]] = []

    def stop(self) -> None:
        for server in self._servers:
            server.kill()
            server.wait(5)
        for host in reversed(self._engines):
            subprocess.run(host.engine_command("swarm", "leave", "--force"), check=False, capture_output=True)
            host.stop_engine()
        for space in self._spaces:
            space.remove()

    def ways(self) -> list[Way]:
        _only_switch(self._lan)
        return [*self._plain(), *self._bare(), *self._bare_bridged(), *self._engines_hosts()]

    def _plain(self) -> list[Way]:
        plain = self._engine("p", 11)
        ports = ("-p", f"{WEB_PORT}:80", "-p", f"{IPERF_PORT}:{IPERF_PORT}")
        server = _pid(plain, plain.on_engine("run", "-d", *ports, IMAGE))
        return [Way(DOCKER_PORT, self._client.prefix, plain.address, server, WEB_PORT)]

    def _engines_hosts(self) -> list[Way]:
        """Docker's overlay, and a bare tunnel beside it: on hosts that track connections and have an engine's
        rules, as all have that run containers."""
        first, second = self._engine("d1", 12), self._engine("d2", 13)
        pool = ("--default-addr-pool", "10.218.0.0/16")
        first.on_engine("swarm", "init", *pool, "--advertise-addr", f"{first.address}:{PORT}")
        token = first.on_engine("swarm", "join-token", "-q", "worker")
        second.on_engine("swarm", "join", "--token", token, f"{first.address}:{PORT}")
        first.on_engine("network", "create", "-d", "overlay", "--attachable", "ov")
        asks = first.on_engine("run", "-d", "--network", "ov", IMAGE)
        asked = second.on_engine("run", "-d", "--network", "ov", IMAGE)
        overlay = Way(
            DOCKER_OVERLAY, _entering(_pid(first, asks)), _address(second, asked, "ov"), _pid(second, asked)
        )
        containers = []
        for number, host in enumerate((first, second), 1):
            other = second if host is first else first
            _tunnel(host.space, 41, host.address, other.address, BESIDE_DOCKERS)
            _bridged(host.space)
            containers.append(_pid(host, host.on_engine("run", "-d", "--network", "none", IMAGE)))
            _cabled(host.space, containers[-1], f"10.219.2.{number}/24")
        asking, asked_pid = containers
        return [overlay, Way(BARE_ENGINES, _entering(asking), "10.219.2.2", asked_pid)]

    def _bare(self) -> list[Way]:
        """Two hosts with a tunnel each; the second one's own address is the raw underlay."""
        first, second = self._tunnel_ends("v", 21)
        for number, host in enumerate((first, second), 1):
            host.run("ip", "addr", "add", f"10.219.0.{number}/24", "dev", "vx0")
            host.run("ip", "link", "set", "vx0", "up")
        server = self._serve(second)
        raw = Way(RAW, self._client.prefix, "10.215.0.22", server)
        return [raw, Way(BARE, first.prefix, "10.219.0.2", server)]

    def _bare_bridged(self) -> list[Way]:
        """As a network of containers is built, with no rule or connection tracking on the hosts: from
        namespace to namespace, and from container to container."""
        insides, containers = [], []
        engine = self._engine("k", 14)
        for number, host in enumerate(self._tunnel_ends("b", 31), 1):
            _bridged(host)
            inside = self._space(f"c{number}")
            inside.cable(host, "br0", "eth0", f"10.219.1.{number}/24")
            inside.run("ip", "link", "set", "eth0", "mtu", MTU)
            insides.append(inside)
            containers.append(_pid(engine, engine.on_engine("run", "-d", "--network", "none", IMAGE)))
            _cabled(host, containers[-1], f"10.219.1.{10 + number}/24")
        (asks, asked), (asking, container) = insides, containers
        return [
            Way(BARE_BRIDGED, asks.prefix, "10.219.1.2", self._serve(asked)),
            Way(BARE_CONTAINER, _entering(asking), "10.219.1.12", container),
        ]

    def _tunnel_ends(self, name: str, first: int) -> tuple[Namespace, Namespace]:
        own, other = (f"10.215.0.{number}" for number in (first, first + 1))
        one, two = self._space(f"{name}1"), self._space(f"{name}2")
        for space, here, there in ((one, own, other), (two, other, own)):
            space.cable(self._lan, "lan", "eth0", f"{here}/24")
            _tunnel(space, first, here, there)
        return one, two

    def _serve(self, space: Namespace) -> int:
        """Returns the web server's process."""
        for command in (self._tools.serve_bytes, self._tools.serve_web):
            server = subprocess.Popen(
                [*space.prefix, *command],
                env=self._tools.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            self._servers.append(server)
        return server.pid

    def _engine(self, name: str, number: int) -> MeshHost:
        host = MeshHost(self._directory, name, f"10.215.0.{number}", self._lan, self._space(name))
        self._engines.append(host)
        host.start_engine()
        self._tools.image_into(host.engine_socket)
        return host

    def _space(self, name: str) -> Namespace:
        made = Namespace(name)
        self._spaces.append(made)
        return made


def _only_switch(space: Namespace) -> None:
    """Has its bridges ask no rules of the host's, as a switch has none; without the module they do not."""
    switch = "/proc/sys/net/bridge/bridge-nf-call-iptables"
    space.run("sh", "-c", f"[ ! -e {switch} ] || echo 0 >{switch}")


def _tunnel(space: Namespace, vni: int, here: str, there: str, port: int = 4789) -> None:
    tunnel = ("vxlan", "id", str(vni), "local", here, "remote", there, "dstport", str(port))
    space.run("ip", "link", "add", "vx0", "mtu", MTU, "type", *tunnel)


def _bridged(space: Namespace) -> None:
    """Has the tunnel be on a bridge, which containers can be put on."""
    space.run("ip", "link", "add", "br0", "mtu", MTU, "type", "bridge")
    space.run("ip", "link", "set", "br0", "up")
    _only_switch(space)
    space.run("ip", "link", "set", "vx0", "master", "br0", "up")


def _cabled(host: Namespace, container: int, address: str) -> None:
    """Has a container without a network be on the host's bridge, and have an engine's rules for names: with
    them its own kernel tracks connections."""
    host.run("ip", "link", "add", "inside", "mtu", MTU, "type", "veth", "peer", "name", "outside")
    host.run("ip", "link", "set", "outside", "master", "br0", "up")
    host.run("ip", "link", "set", "inside", "netns", str(container), "name", "eth0")
    for line in (
        f"ip addr add {address} dev eth0",
        "ip link set eth0 up",
        "iptables -w -t nat -A OUTPUT -d 127.0.0.11/32 -p udp --dport 53 -j DNAT --to 127.0.0.11:1053",
    ):
        subprocess.run([*_entering(container), *line.split()], check=True)


def _pid(host: MeshHost, container: str) -> int:
    """Returns the container's first process, which becomes its web server."""
    return int(host.on_engine("inspect", "--format", "{{.State.Pid}}", container))


def _entering(pid: int) -> list[str]:
    """Returns the begin of a command in a container's network."""
    return ["nsenter", f"--net=/proc/{pid}/ns/net"]


def _address(host: MeshHost, container: str, network: str) -> str:
    form = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
    return host.on_engine("inspect", "--format", form, container)
