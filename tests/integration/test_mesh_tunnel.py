"""Who can use the mesh's tunnel: nodes, for what goes to tasks and back. Real VXLAN packets, made by hand."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from skep.network.ways import mac_of

from .mesh_hosts import CLIENT, NETWORK, TUNNEL, Lan, MeshHost, Namespace

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

GATEWAY = "10.0.0.251"  # the first host's address on its bridge

# Packets within packets: from SOURCE, by a node with MAC, to PORT at TARGET on the host at HOST.
FORGE = """
import socket, struct, sys
host, mac, source, target, port, vni = sys.argv[1:]
own = "026e" + socket.inet_aton(host).hex()
data = b"forged"
udp = struct.pack("!4H", 7777, int(port), 8 + len(data), 0) + data
def ip(checksum):
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, checksum) + ends
total = sum(struct.unpack("!10H", ip(0)))
total = (total & 0xFFFF) + (total >> 16)
frame = bytes.fromhex(own + mac.replace(":", "")) + b"\\x08\\x00" + ip(~total & 0xFFFF) + udp
vxlan = struct.pack("!II", 0x08000000, int(vni) << 8)
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(vxlan + frame, (host, 4789))
"""

# What comes in at a port within a second, each with its sender.
HEAR = """
import socket, sys
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
made.bind(("0.0.0.0", int(sys.argv[1])))
print("ready", flush=True)
made.settimeout(1)
try:
    while True:
        data, sender = made.recvfrom(100)
        print(data.decode(), sender[0], flush=True)
except OSError:
    pass
"""
SAY = """
import socket, sys
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"said", (sys.argv[1], int(sys.argv[2])))
"""
REFUSED = """
import os, pathlib, sys
import msgspec
from skep.model.mesh import Mesh
from skep.network.nftables import Nftables
from skep.network.plane import DataPlane
run = Nftables.run
Nftables.run = lambda self, text: run(self, text + "no command")
print(DataPlane(sys.argv[1], "", pathlib.Path(os.devnull)).apply(msgspec.json.decode(sys.argv[2], type=Mesh)).failures)
"""


@pytest.fixture
def lan(own_lan: Lan) -> Lan:
    return own_lan.serving()


def forged(
    by: Namespace,
    host: MeshHost,
    target: str,
    hears: Namespace,
    port: int,
    mac: str,
    source: str = CLIENT,
    vni: int = NETWORK.vni,
) -> list[str]:
    """Returns what is heard where a forged packet is sent."""
    command = [*hears.prefix, sys.executable, "-c", HEAR, str(port)]
    hearing = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert hearing.stdout is not None
    assert hearing.stdout.readline() == "ready\n"
    by.run(sys.executable, "-c", FORGE, host.address, mac, source, target, str(port), str(vni))
    return hearing.communicate(timeout=10)[0].splitlines()


def test_who_is_no_node_does_not_get_in_by_the_tunnel(lan: Lan) -> None:
    host, other = lan.hosts[0], lan.hosts[1]
    task = lan.tasks[0]
    assert lan.client.ask(host.address, 8080, 2)  # the ways are known
    for mac in (mac_of(other.address), "02:00:00:00:00:99"):
        for target, hears in ((host.address, host), (GATEWAY, host), (task.address, task)):
            assert forged(lan.client, host, target, hears, 9999, mac) == [], (mac, target)
    lan.assert_all_answer()


def test_a_node_reaches_tasks_by_the_tunnel_and_not_the_host(lan: Lan) -> None:
    """What it sends there is as what its containers could have it send."""
    host, other = lan.hosts[0], lan.hosts[1]
    task = lan.tasks[0]
    assert forged(other, host, task.address, task, 9999, mac_of(other.address)) == [f"forged {CLIENT}"]
    for mac in (mac_of(other.address), "02:00:00:00:00:99"):
        for target in (host.address, GATEWAY):
            assert forged(other, host, target, host, 9999, mac) == [], (mac, target)
        assert forged(other, host, CLIENT, lan.client, 9999, mac, source="10.0.0.12") == [], mac
    lan.assert_all_answer()


def test_a_host_that_is_no_node_any_more_is_shut_out(lan: Lan) -> None:
    host, other = lan.hosts[0], lan.hosts[2]
    task = lan.tasks[0]
    assert forged(other, host, task.address, task, 9999, mac_of(other.address)) == [f"forged {CLIENT}"]
    mesh = lan.mesh(*lan.tasks)
    mesh.nodes.pop(other.node_id)
    lan.tell(mesh, "quick")
    assert forged(other, host, task.address, task, 9998, mac_of(other.address)) == []


def test_tasks_reach_the_world_by_the_same_bridge(lan: Lan) -> None:
    task = lan.tasks[0]
    command = [*lan.client.prefix, sys.executable, "-c", HEAR, "9999"]
    hearing = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert hearing.stdout is not None
    assert hearing.stdout.readline() == "ready\n"
    task.run(sys.executable, "-c", SAY, CLIENT, "9999")
    assert hearing.communicate(timeout=10)[0].splitlines() == [f"said {lan.hosts[0].address}"]


def test_other_tunnels_at_the_same_port_go_on(lan: Lan) -> None:
    """Docker's own swarm, or Kubernetes': told by their number, with hosts that are no nodes."""
    ends = ((lan.hosts[0], CLIENT, "192.168.9.1"), (lan.client, lan.hosts[0].address, "192.168.9.2"))
    for space, remote, address in ends:
        vxlan = ("type", "vxlan", "id", "4096", "remote", remote, "dstport", "4789", "dev", "eth0")
        space.run("ip", "link", "add", "vx9", *vxlan)
        space.run("ip", "addr", "add", f"{address}/24", "dev", "vx9")
        space.run("ip", "link", "set", "vx9", "up")
    for told in lan.tell(lan.mesh(*lan.tasks)):
        assert told["failures"] == []
    server = lan.hosts[0].serve("beside", 9000)
    try:
        assert lan.client.ask("192.168.9.1", 9000) == ["beside 192.168.9.2"]
    finally:
        server.kill()
        server.wait(5)


def test_there_is_no_tunnel_without_rules(lan: Lan) -> None:
    host, mesh = lan.hosts[0], lan.mesh(*lan.tasks)
    host.clear()
    host.die()
    text = msgspec.json.encode(mesh).decode()
    assert "nftables did not take the rules: " in host.run(sys.executable, "-c", REFUSED, host.node_id, text)
    assert TUNNEL not in host.run("ip", "link")
    assert host.told(mesh)["failures"] == []
    lan.assert_all_answer()
