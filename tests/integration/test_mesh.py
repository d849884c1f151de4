"""The routing mesh's packets: real nftables, tunnels and tables of three hosts, and clients' real addresses."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter

import msgspec
import pytest

from skep.network.netlink import METRIC
from skep.network.ways import mac_of

from .mesh_hosts import BRIDGE, CLIENT, TUNNEL, Lan

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]


@pytest.fixture
def lan(own_lan: Lan) -> Lan:
    return own_lan


def test_a_port_answers_on_every_host_and_tasks_see_the_client(lan: Lan) -> None:
    lan.serving()
    for host in lan.hosts:
        for kind in ("tcp", "udp"):
            assert Counter(lan.client.ask(host.address, 8080, 8, kind)) == {
                f"a {CLIENT}": 4,
                f"b {CLIENT}": 4,
            }, (host.node_id, kind)


def test_a_host_reaches_it_by_its_own_addresses(lan: Lan) -> None:
    lan.serving()
    for host in lan.hosts:
        for address in ("127.0.0.1", host.address):
            for kind in ("tcp", "udp"):
                answers = host.ask(address, 8080, 4, kind)
                names = Counter(answer.split()[0] for answer in answers)
                assert names == {"a": 2, "b": 2}, (host.node_id, address, kind, answers)


def test_hosts_reach_it_through_each_other(lan: Lan) -> None:
    lan.serving()
    for client in lan.hosts:
        for host in lan.hosts:
            names = Counter(answer.split()[0] for answer in client.ask(host.address, 8080, 4))
            assert names == {"a": 2, "b": 2}, (client.node_id, host.node_id)


def test_tasks_reach_it_themselves_too(lan: Lan) -> None:
    lan.serving()
    for task in lan.tasks:
        for host in lan.hosts:
            names = Counter(answer.split()[0] for answer in task.ask(host.address, 8080, 4))
            assert names == {"a": 2, "b": 2}, (task.name, host.node_id)


def test_connections_are_spread_evenly(lan: Lan) -> None:
    lan.serving()
    names = Counter(answer.split()[0] for answer in lan.client.ask(lan.hosts[2].address, 8080, 3000))
    assert names == {"a": 1500, "b": 1500}


def test_a_task_on_several_networks_answers_all_the_same(lan: Lan) -> None:
    """Its answers leave by the other network: TCP's with the client's address, UDP's are asked by the node."""
    lan.tell(lan.mesh())
    task = lan.task(lan.hosts[1], "b", "10.0.0.12", second="172.30.0.2")
    lan.tell(lan.mesh(task))
    for host in lan.hosts:
        assert lan.client.ask(host.address, 8080, 2) == [f"b {CLIENT}"] * 2
        answers = lan.client.ask(host.address, 8080, 2, "udp")
        assert [answer.split()[0] for answer in answers] == ["b"] * 2, host.node_id


DOCKERS = ("-N DOCKER-USER", "-A DOCKER-USER -j RETURN", "-I FORWARD -j DOCKER-USER", "-P FORWARD DROP")


def test_the_engines_rules_do_not_drop_it(lan: Lan) -> None:
    """Docker's engine: what is forwarded is dropped, and users' rules are heard first."""
    lan.serving()
    for host in lan.hosts:
        for rule in DOCKERS:
            host.run("iptables", "-w", *rule.split())
    assert lan.client.ask(lan.hosts[2].address, 8080, 2) == ["error TimeoutError"] * 2
    lan.tell(lan.mesh(*lan.tasks))
    lan.assert_all_answer()
    user = lan.hosts[0]
    user.run("iptables", "-w", "-I", "DOCKER-USER", "-s", CLIENT, "-j", "DROP")
    assert lan.client.ask(user.address, 8080) == ["error TimeoutError"]


FIREWALL = """
from skep.network.nftables import Nftables
Nftables().run("add table inet fw")
Nftables().run("add chain inet fw forward { type filter hook forward priority 0; policy drop; }")
"""
RULE = "from skep.network.nftables import Nftables; Nftables().run('add rule inet fw forward %s')"


def test_a_firewall_of_the_hosts_is_said_with_the_rule_that_it_lacks(lan: Lan) -> None:
    lan.serving()
    host, mesh = lan.hosts[2], lan.mesh(*lan.tasks)
    host.run(sys.executable, "-c", FIREWALL)
    assert lan.client.ask(host.address, 8080) == ["error TimeoutError"]
    (said,) = host.told(mesh)["failures"]
    assert "table inet fw drops what is forwarded" in said
    host.run(sys.executable, "-c", RULE % said.rpartition(": ")[2])
    assert host.told(mesh)["failures"] == []
    lan.assert_all_answer()


@pytest.mark.parametrize("bad", ["0.0.0.0", "127.0.0.9", "224.0.0.1", "10.214.0.255"])
def test_another_nodes_wrong_address_is_no_matter(lan: Lan, bad: str) -> None:
    lan.serving()
    mesh = lan.mesh(*lan.tasks)
    for told in lan.tell(msgspec.structs.replace(mesh, nodes={**mesh.nodes, "bad": bad})):
        assert told["failures"] == []
    lan.assert_all_answer()


@pytest.mark.parametrize("bad", ["10.0.0.11", "10.0.0.12", "10.0.0.251"])
def test_a_node_that_says_a_tasks_address_gets_nothing_of_the_tasks(lan: Lan, bad: str) -> None:
    """The last one is that of a bridge of a host's."""
    lan.serving()
    mesh = lan.mesh(*lan.tasks)
    for told in lan.tell(msgspec.structs.replace(mesh, nodes={**mesh.nodes, "bad": bad})):
        (said,) = told["failures"]
        assert f"are not reached by published ports: bad ({bad}). " in said
    lan.assert_all_answer()
    for host in lan.hosts:  # in vain, it would be sought in the tunnel
        assert mac_of(bad) not in host.run("ip", "neigh") + host.run("bridge", "fdb")


def test_a_task_that_names_itself_a_node_gets_nowhere_by_it(lan: Lan) -> None:
    """Its packets have the MAC address of another node's bridge: only for the mesh's tasks does that count."""
    lan.serving()
    task = lan.tasks[1]
    host = task.host
    host.run("ip", "link", "add", "br-user", "type", "bridge")
    host.run("ip", "addr", "add", "172.30.0.1/24", "dev", "br-user")
    host.run("ip", "link", "set", "br-user", "up")
    other = lan.space("other")
    other.cable(host, "br-user", "eth0", "172.30.0.2/24")
    for rule in (*DOCKERS, "-A FORWARD -d 172.30.0.2"):  # counts who comes so far
        host.run("iptables", "-w", *rule.split())
    lan.tell(lan.mesh(*lan.tasks))
    task.run("ip", "link", "set", "eth0", "address", mac_of(lan.hosts[0].address))
    task.ask("172.30.0.2", 80, kind="udp")
    (counted,) = [
        line for line in host.run("iptables", "-vS", "FORWARD").splitlines() if "172.30.0.2" in line
    ]
    assert "-c 0 " not in counted


PUT = f"""
from skep.network.netlink import Netlink
from skep.network.objects import SubnetRoute
from skep.runtime.errors import Unavailable
with Netlink() as netlink:
    try:
        netlink.put(SubnetRoute("10.0.0.0/24", "{BRIDGE}"))
    except Unavailable as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("lan_of_its_own", "said"),
    [
        (["addr", "add", "10.0.0.77/24", "dev", "eth1"], "route to 10.0.0.0/24 by eth1"),
        (["addr", "add", "10.0.0.77/24", "dev", "eth1", "metric", "100"], "route to 10.0.0.0/24 by eth1"),
        (["addr", "add", "10.0.0.77/16", "dev", "eth1"], "route to 10.0.0.0/16 by eth1"),
        (["addr", "add", "10.0.0.77/24", "dev", "br0"], "route to 10.0.0.0/24 by br0"),
        (["route", "add", "10.0.0.0/8", "via", "10.214.0.2", "metric", "100"], "route to 10.0.0.0/8 by eth0"),
    ],
    ids=("lan", "metric", "vpc", "bridge", "vpn"),
)
def test_a_host_keeps_its_lan(lan: Lan, lan_of_its_own: list[str], said: str) -> None:
    """Also where it comes later than the mesh, and goes again."""
    lan.serving()
    host, mesh = lan.hosts[2], lan.mesh(*lan.tasks)
    host.clear()
    host.run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "cable")
    host.run("ip", "link", "add", "br0", "type", "bridge")
    for device in ("eth1", "cable", "br0"):
        host.run("ip", "link", "set", device, "up")
    taken = [*lan_of_its_own]
    taken[1] = "del"
    for has_mesh in (False, True):
        if has_mesh:
            host.run("ip", *taken)
            assert host.told(mesh)["failures"] == []
            lan.assert_all_answer()
        host.run("ip", *lan_of_its_own)
        before = [line for line in host.run("ip", "route").splitlines() if BRIDGE not in line]
        (text,) = host.told(mesh)["failures"]
        assert said in text
        assert host.run("ip", "route").splitlines() == before
        assert BRIDGE not in host.run("ip", "link")
        assert host.told(mesh) == {
            "failures": [text],
            "changed": 0,
            "lingers": False,
            "vips": [],
            "unsure": [],
            "has_lost": False,
        }  # it stays so
        assert lan.client.ask(host.address, 8080) == ["error ConnectionRefusedError"]


def test_a_route_of_somebody_else_is_never_replaced(lan: Lan) -> None:
    """One that came after the look."""
    lan.serving()
    host = lan.hosts[2]
    host.run("ip", "route", "del", "10.0.0.0/24", "dev", BRIDGE)
    host.run("ip", "route", "add", "10.0.0.0/24", "dev", "eth0", "metric", str(METRIC))
    assert "route 10.0.0.0/24 could not be made: " in host.run(sys.executable, "-c", PUT)
    assert f"10.0.0.0/24 dev eth0 scope link metric {METRIC}" in host.run("ip", "route")


def test_without_a_task_it_is_refused_at_once(lan: Lan) -> None:
    """Not by running into a limit of time, of which a client would say so."""
    lan.serving()
    lan.tell(lan.mesh())
    for host in lan.hosts:
        for kind in ("tcp", "udp"):
            assert lan.client.ask(host.address, 8080, kind=kind) == ["error ConnectionRefusedError"]
    for address in ("127.0.0.1", lan.hosts[2].address):
        assert lan.hosts[2].ask(address, 8080) == ["error ConnectionRefusedError"]


KEEP = """
import socket, sys
made = socket.create_connection((sys.argv[1], 8080), timeout=3)
for line in sys.stdin:
    made.send(b"x")
    print(made.recv(100).decode().split()[0], flush=True)
"""
UDP_FLOW = """
import socket, sys
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
made.bind(("", 5555))
made.settimeout(2)
made.connect((sys.argv[1], 8080))
for line in sys.stdin:
    try:
        made.send(b"x")
        print(made.recv(100).decode().split()[0], flush=True)
    except OSError as error:
        print("error", type(error).__name__, flush=True)
"""


class _Open:
    """A connection that stays, or UDP packets from one port, of the client."""

    def __init__(self, lan: Lan, program: str, host: str) -> None:
        command = [*lan.client.prefix, sys.executable, "-c", program, host]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def said(self) -> str:
        """Returns who answers now."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.wait(5)


def test_a_task_that_leaves_keeps_its_connections_and_gets_no_new_ones(lan: Lan) -> None:
    lan.serving()
    a, b = lan.tasks
    kept = [_Open(lan, KEEP, lan.hosts[2].address) for _ in range(2)]
    assert {each.said() for each in kept} == {"a", "b"}
    lan.tell(lan.mesh(a, b, leaving=(b,)), "quick")
    for host in lan.hosts[1:]:
        assert {answer.split()[0] for answer in lan.client.ask(host.address, 8080, 6)} == {"a"}
    assert {each.said() for each in kept} == {"a", "b"}
    for each in kept:
        each.end()


def test_a_udp_flow_does_not_stick_to_a_task_that_is_gone(lan: Lan) -> None:
    lan.serving()
    flow = _Open(lan, UDP_FLOW, lan.hosts[2].address)
    name = flow.said()
    (other,) = (task for task in lan.tasks if task.label != name)
    lan.tell(lan.mesh(other), "quick")
    assert flow.said() == other.label
    flow.end()


FORGETTING = """
from skep.network import conntrack
dumps, dump = [], conntrack.dumped
conntrack.dumped = lambda *given: dumps.append(given) or dump(*given)
gone = [f"10.0.{n >> 8}.{n & 255}" for n in range(1, 501) if n != 11]
print(conntrack.forget_tasks(gone), len(dumps))
"""


def test_many_tasks_that_are_gone_are_forgotten_at_once(lan: Lan) -> None:
    """10.0.0.12 is among them, 10.0.0.11 is not."""
    lan.serving()
    host = lan.hosts[2]
    assert len(set(lan.client.ask(host.address, 8080, 4))) == 2
    assert host.run(sys.executable, "-c", FORGETTING).split() == ["2", "1"]
    assert host.run(sys.executable, "-c", FORGETTING).split() == ["0", "1"]


def test_it_goes_on_without_the_process_and_is_taken_over_as_it_is(lan: Lan) -> None:
    lan.serving()
    kept = _Open(lan, KEEP, lan.hosts[2].address)
    name = kept.said()
    for host in lan.hosts:
        host.die()
    assert len(set(lan.client.ask(lan.hosts[2].address, 8080, 2))) == 2
    assert [told["changed"] for told in lan.tell(lan.mesh(*lan.tasks))] == [0, 0, 0]
    assert kept.said() == name
    kept.end()


FLUSH = "from skep.network.nftables import Nftables; Nftables().run('flush ruleset')"


@pytest.mark.parametrize(
    "damage",
    [
        [sys.executable, "-c", FLUSH],
        ["ip", "link", "del", TUNNEL],
        ["ip", "link", "set", TUNNEL, "down"],
        ["ip", "link", "del", BRIDGE],
        ["ip", "link", "set", BRIDGE, "address", "02:00:00:00:00:77"],
        ["ip", "neigh", "flush", "dev", BRIDGE, "nud", "permanent"],
        ["ip", "rule", "del", "priority", "7700"],
        ["ip", "rule", "del", "priority", "40001"],
        ["ip", "link", "set", BRIDGE, "down"],
        ["sysctl", "-w", f"net.ipv4.conf.{BRIDGE}.route_localnet=0"],
    ],
    ids=(
        "rules",
        "tunnel",
        "tunnel-down",
        "bridge",
        "mac",
        "neighbours",
        "returns",
        "return",
        "down",
        "setting",
    ),
)
def test_what_somebody_did_to_it_is_repaired(lan: Lan, damage: list[str]) -> None:
    lan.serving()
    host = lan.hosts[0]
    host.run(*damage)
    (told, *_) = lan.tell(lan.mesh(*lan.tasks))
    assert (told["failures"], told["changed"] > 0) == ([], True)
    if damage[-2:] == [BRIDGE, "down"] or "flush" in damage[-1]:  # an engine's rules and routes went with it
        host.run("ip", "route", "replace", "10.0.0.0/24", "dev", BRIDGE)
    lan.assert_all_answer()
    assert [told["changed"] for told in lan.tell(lan.mesh(*lan.tasks))] == [0, 0, 0]


def test_rules_of_an_earlier_skep_go_and_others_stay(lan: Lan) -> None:
    """It had one for each node, all at one priority."""
    lan.serving()
    host = lan.hosts[0]
    of_node = ["fwmark", "0x5a000009/0xff00ffff", "table", "5898249"]
    others = ["fwmark", "0x7/0xff", "table", "77"]
    for rule in (of_node, others):
        host.run("ip", "rule", "add", "priority", "7700", *rule, "protocol", "90")
    (told, *_) = lan.tell(lan.mesh(*lan.tasks))
    assert (told["failures"], told["changed"]) == ([], 1)
    left = host.run("ip", "rule")
    assert "0x5a000009" not in left
    assert "lookup 77" in left
    host.run("ip", "rule", "del", "priority", "7700", "table", "77")


def test_a_host_that_loses_its_address_for_a_moment_loses_no_connection(lan: Lan) -> None:
    lan.serving()
    kept = [_Open(lan, KEEP, lan.hosts[0].address) for _ in range(2)]
    assert {each.said() for each in kept} == {"a", "b"}
    host, mesh = lan.hosts[0], lan.mesh(*lan.tasks)
    host.run("ip", "addr", "del", f"{host.address}/24", "dev", "eth0")
    (said,) = host.told(mesh)["failures"]
    assert "10.214.0.1 is none of this host's" in said
    host.run("ip", "addr", "add", f"{host.address}/24", "dev", "eth0")
    host.run("ip", "route", "add", "default", "via", "10.214.0.254")
    for own in ("", "2001:db8::1"):
        unknown = msgspec.structs.replace(mesh, nodes={**mesh.nodes, host.node_id: own})
        told = host.told(unknown)
        assert (len(told["failures"]), told["changed"]) == (1, 0)
    assert host.told(mesh)["failures"] == []
    assert {each.said() for each in kept} == {"a", "b"}
    lan.assert_all_answer()
    for each in kept:
        each.end()


def test_an_address_that_another_nodes_task_has_now_is_sought_there(lan: Lan) -> None:
    lan.serving()
    stays, moved = lan.tasks
    moved.end()
    moved.remove()
    lan.tell(lan.mesh(stays), "quick")
    task = lan.task(lan.hosts[2], "c", moved.address)
    for told in lan.tell(lan.mesh(stays, task), "quick"):
        assert told["failures"] == []
    for host in lan.hosts:
        assert {answer.split()[0] for answer in lan.client.ask(host.address, 8080, 2)} == {"a", "c"}


def test_a_port_that_somebody_has_stays_his_and_he_is_named(lan: Lan) -> None:
    lan.tell(lan.mesh())
    task = lan.task(lan.hosts[1], "b", "10.0.0.12")
    host = lan.hosts[0]
    host.die()  # held by nobody, for a moment
    his = host.serve("his", 8080)
    try:
        told = lan.tell(lan.mesh(task))
        assert told[1]["failures"] == told[2]["failures"] == []
        tcp, udp = told[0]["failures"]
        assert "port 8080/tcp of service web is not published here: it is taken by python" in tcp
        assert f"(process {his.pid})" in udp
        assert lan.client.ask(host.address, 8080) == [f"his {CLIENT}"]
        assert lan.client.ask(lan.hosts[2].address, 8080) == [f"b {CLIENT}"]
    finally:
        his.kill()
        his.wait(5)
    assert lan.tell(lan.mesh(task))[0]["failures"] == []
    assert lan.client.ask(host.address, 8080) == [f"b {CLIENT}"]


def test_a_published_port_is_nobody_elses(lan: Lan) -> None:
    lan.serving()
    taking = "import socket; s = socket.socket(); s.setsockopt(1, 2, 1); s.bind(('127.0.0.1', 8080))"
    command = [*lan.hosts[0].prefix, sys.executable, "-c", taking]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "Address already in use" in done.stderr


REUSE = """
import socket, sys
for host in sys.argv[1:]:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.settimeout(3)
    made.bind(("", 40000))
    try:
        made.connect((host, 8080))
        print(made.recv(100).decode().strip())
    except OSError as error:
        print("error", error)
    made.close()
"""


def test_one_client_port_may_come_by_several_hosts(lan: Lan) -> None:
    lan.tell(lan.mesh())
    task = lan.task(lan.hosts[0], "a", "10.0.0.11")
    lan.tell(lan.mesh(task))
    hosts = [host.address for host in lan.hosts]
    answers = lan.client.run(sys.executable, "-c", REUSE, *hosts).splitlines()
    assert answers == [f"a {CLIENT}"] * 3


def test_a_client_port_that_is_used_again_is_not_led_to_a_task_that_is_gone(lan: Lan) -> None:
    lan.tell(lan.mesh())
    gone, stays = lan.task(lan.hosts[0], "a", "10.0.0.11"), lan.task(lan.hosts[1], "b", "10.0.0.12")
    host = lan.hosts[2]
    lan.tell(lan.mesh(gone))
    assert lan.client.run(sys.executable, "-c", REUSE, host.address).split() == ["a", CLIENT]
    gone.end()
    lan.tell(lan.mesh(stays), "quick")
    lan.client.run("sysctl", "-w", "net.ipv4.tcp_tw_reuse=1")  # not only after a minute
    time.sleep(1.2)  # as long as a port is its last connection's in any case
    assert lan.client.run(sys.executable, "-c", REUSE, host.address).split() == ["b", CLIENT]
