"""Containers of two hosts that address each other directly: no rule of their hosts' is asked for that."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from .fast_paths import devices, fast_path, said, talk
from .mesh_hosts import PREFIX, Lan, MeshHost
from .overlay_hosts import BACK, Member, names_of
from .test_mesh_vips import VIP, Services

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

BRIDGE, _ = names_of(BACK)
# What is forwarded between containers is counted where users' rules would see it.
COUNT = f"""
from skep.network.nftables import Nftables
Nftables().run("add table ip seen\\nadd chain ip seen ways {{ type filter hook forward priority 0; }}\\n"
    'add rule ip seen ways iifname "{BRIDGE}" counter')
"""
COUNTED = """
import json
from skep.network.nftables import Nftables
listed = json.loads(Nftables().list("list chain ip seen ways"))["nftables"]
print(next(e["rule"] for e in listed if "rule" in e)["expr"][-1]["counter"]["packets"])
"""
# Asks twice from one port, by one address each, and says what is answered.
SAME_PORT = """
import socket, sys
for address in sys.argv[1:]:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")  # no TIME_WAIT here
    made.bind(("", 5555))
    made.settimeout(3)
    try:
        made.connect((address, 80))
        print(made.recv(100).decode().strip())
    except OSError as error:
        print("error", type(error).__name__)
    made.close()
"""


@pytest.fixture
def web(lan: Lan) -> Iterator[Services]:
    """A task on each host, and a client on the first."""
    made = Services(lan)
    try:
        made.serving()
        made.client(1, "x", "10.1.0.21")
        yield made
    finally:
        made.stop()
        made.members.clear()
        made.tell()


def led(host: MeshHost, web: Services) -> tuple[int, int, int]:
    """Returns the connections to the service that this host has led, and their bytes."""
    seen = host.seen(web.for_host(host))
    moved = seen["Bytes"][VIP]
    found = seen["Connections"][VIP], moved["Received"], moved["Sent"]
    alone = host.carried()[VIP]  # a moment later
    assert all(now >= then for now, then in zip(alone, found, strict=True))
    assert alone[0] == found[0]
    return found


@contextlib.contextmanager
def forgotten(*hosts: MeshHost) -> Iterator[None]:
    """Waits until no host knows of connections any more that were made meanwhile."""

    def known() -> list[set[str]]:
        return [set(fast_path(host, "flows").splitlines()) for host in hosts]

    before, deadline = known(), time.monotonic() + 10
    yield
    while any(now - then for now, then in zip(known(), before, strict=True)):
        assert time.monotonic() < deadline, known()
        time.sleep(0.1)


def counting(host: MeshHost) -> None:
    host.run(sys.executable, "-c", COUNT)


def counted(host: MeshHost) -> int:
    return int(host.run(sys.executable, "-c", COUNTED))


def uncount(host: MeshHost) -> None:
    host.run(
        sys.executable,
        "-c",
        "from skep.network.nftables import Nftables; Nftables().run('delete table ip seen')",
    )


@pytest.fixture
def rules(web: Services) -> Iterator[list[MeshHost]]:
    """Hosts that count what is forwarded."""
    hosts = web.hosts[:2]
    for host in hosts:
        counting(host)
    try:
        yield hosts
    finally:
        for host in hosts:
            uncount(host)


def test_connections_by_address_pass_no_rules_of_either_host(web: Services, rules: list[MeshHost]) -> None:
    client, task = web.clients[0], web.members[1]
    assert client.ask(task.address, 80) == [f"b {client.address}"]  # what it answers makes it known
    assert counted(rules[0]) == 0, "who asks is known from the first packet on"
    before = counted(rules[1])
    assert before <= 1, "who is asked from its first answer on"
    assert client.ask(task.address, 80, 20) == [f"b {client.address}"] * 20
    assert [counted(host) for host in rules] == [0, before]


def test_connections_by_a_services_address_pass_no_rules_either(web: Services, rules: list[MeshHost]) -> None:
    """But for the first to a task of the client's own host, which the program has not seen yet."""
    client = web.clients[0]
    web.meet()
    before = [counted(host) for host in rules]
    with forgotten(*rules):
        answers = client.ask(VIP, 80, 30)
    assert Counter(each.split()[0] for each in answers) == dict.fromkeys("abc", 10)
    assert {each.split()[1] for each in answers} == {client.address}
    assert [counted(host) for host in rules] == before


def test_what_is_led_by_the_program_is_counted_as_what_rules_lead(web: Services) -> None:
    client = web.clients[0]
    before = led(client.host, web)
    client.ask(VIP, 80, 30)
    after = led(client.host, web)
    assert after[0] - before[0] == 30
    assert after[1] - before[1] > 30 * 40
    assert after[2] - before[2] > 30 * 40


def test_a_connection_to_a_service_goes_on_while_its_tasks_change(web: Services) -> None:
    client, task = web.clients[0], web.members[1]
    others = [each for each in web.members if each not in (client, task)]
    web.leaving = others
    web.tell()
    with talk(client, VIP) as talking:
        assert said(talking, "hear") == f"b {client.address}"
        web.leaving = [task]
        web.tell()
        assert {each.split()[0] for each in client.ask(VIP, 80, 10)} == {"a", "c"}
        assert said(talking, "ask") == f"b {client.address}"


def test_who_asks_a_service_whose_task_went_hears_that_it_is_over(web: Services) -> None:
    client, task = web.clients[0], web.members[1]
    web.leaving = [each for each in web.members if each not in (client, task)]
    web.tell()
    with talk(client, VIP) as talking:
        assert said(talking, "hear") == f"b {client.address}"
        web.leaving = []
        web.remove(task)
        web.tell()
        time.sleep(2.6)  # for which the program may take the task's node for known
        assert said(talking, "ask") in ("", "error ConnectionResetError")


def test_another_skeps_program_leaves_what_it_knows(web: Services, rules: list[MeshHost]) -> None:
    client, task = web.clients[0], web.members[1]
    web.leaving = [each for each in web.members if each not in (client, task)]
    web.tell()
    with talk(client, VIP) as talking:
        assert said(talking, "hear") == f"b {client.address}"
        before, flows = counted(client.host), fast_path(client.host, "flows")
        assert f"{client.address}:" in flows
        client.host.die()
        fast_path(client.host, "another")  # takes the place of all programs there
        assert fast_path(client.host, "flows") == flows
        assert said(talking, "ask") == f"b {client.address}"
        web.tell()
        assert fast_path(client.host, "flows") == flows
        assert said(talking, "ask") == f"b {client.address}"
        assert counted(client.host) == before


def test_a_port_that_came_by_address_comes_by_the_services_address(web: Services) -> None:
    """A connection that is known by its ports is not in the way of another one that is to be replaced."""
    client, task = web.clients[0], web.members[1]
    web.leaving = [each for each in web.members if each not in (client, task)]  # all are led to that one
    web.tell()
    for _ in range(3):
        said = client.run(sys.executable, "-c", SAME_PORT, task.address, VIP, task.address, VIP).splitlines()
        assert said == [f"b {client.address}"] * 4


def test_where_one_host_has_no_fast_path_both_ways_pass_its_rules(
    web: Services, rules: list[MeshHost]
) -> None:
    client, task = web.clients[0], web.members[1]
    fast_path(rules[1], "detach", *devices(rules[1]))
    assert client.ask(task.address, 80, 5) == [f"b {client.address}"] * 5
    assert counted(rules[0]) == 0
    assert counted(rules[1]) > 5 * 6, "both directions"
    web.tell()  # looks, and mends
    assert client.ask(task.address, 80) == [f"b {client.address}"]
    before = counted(rules[1])
    assert client.ask(task.address, 80, 5) == [f"b {client.address}"] * 5
    assert counted(rules[1]) == before


def test_what_goes_leaves_nothing(web: Services) -> None:
    host, extra = web.hosts[1], web.add(2, "e", "10.1.0.15")
    web.tell()
    device = f"veth0{extra.name.removeprefix(PREFIX)}"
    listed = host.seen(web.for_host(host))
    assert listed["Missing"] == listed["Surplus"] == []
    assert device in devices(host)
    web.remove(extra)
    web.tell("quick")
    assert device not in devices(host)
    listed = host.seen(web.for_host(host))
    assert listed["Missing"] == listed["Surplus"] == []


def test_a_node_that_leaves_has_none_of_it(web: Services) -> None:
    host: MeshHost = web.hosts[2]
    assert devices(host)
    for member in [each for each in web.members if each.host is host]:
        web.remove(member)
    host.clear()
    assert devices(host) == []


def test_a_tunnel_that_is_made_anew_is_what_ports_lead_to(web: Services) -> None:
    """They know it by its number, which is another then."""
    client, task = web.clients[0], web.members[1]
    assert client.ask(task.address, 80) == [f"b {client.address}"]
    _, tunnel = names_of(BACK)
    client.host.run("ip", "link", "del", tunnel)
    web.tell()
    assert tunnel in devices(client.host)
    assert client.ask(task.address, 80, 3) == [f"b {client.address}"] * 3


def test_another_process_takes_over_with_all_connections(web: Services, rules: list[MeshHost]) -> None:
    client, task = web.clients[0], web.members[1]
    with talk(client, task.address) as talking:
        assert said(talking, "hear") == f"b {client.address}"
        before, flows = counted(client.host), fast_path(client.host, "flows")
        assert f" {task.address}:80" in flows
        client.host.die()
        web.tell()
        assert fast_path(client.host, "flows") == flows
        assert said(talking, "ask") == f"b {client.address}"
        assert counted(client.host) == before
        listed = client.host.seen(web.for_host(client.host))
        assert listed["Missing"] == listed["Surplus"] == []


def test_what_ended_is_forgotten(web: Services) -> None:
    client, task = web.clients[0], web.members[1]
    with forgotten(client.host, task.host):
        assert client.ask(task.address, 80, 20) == [f"b {client.address}"] * 20


def test_a_container_that_comes_back_while_no_skepd_runs_is_reached(web: Services) -> None:
    """With its address, by another port, of which nobody tells the program."""
    client, task = web.clients[0], web.members[1]
    with talk(client, task.address) as before:
        assert said(before, "hear") == f"b {client.address}"
        task.host.die()
        # Nothing more is heard of it.
        task.host.run("ip", "link", "del", f"veth0{task.name.removeprefix(PREFIX)}")
        web.remove(task)
        again = Member(task.host, "b", task.addresses)
        web.members.insert(1, again)
        again.start()
        assert client.ask(task.address, 80, 3) == [f"b {client.address}"] * 3
        time.sleep(2.6)  # where a connection goes on, whether the port is there is looked at now and then
        over = said(before, "ask")
        assert over == "error ConnectionResetError", "the one that is there now knows nothing of it"
    with talk(client, task.address) as talking:
        assert said(talking, "hear") == f"b {client.address}"
        assert said(talking, "ask") == f"b {client.address}"


def test_an_address_that_comes_from_another_node_is_reached_where_it_is(web: Services) -> None:
    """Others here may know it by the bridge's MAC address for a minute, and their host by its own."""
    client, task = web.clients[0], web.members[1]
    assert client.ask(task.address, 80, 2) == [f"b {client.address}"] * 2
    bridge = client.run("ip", "neigh", "show", task.address).split("lladdr ")[1].split()[0]
    web.remove(task)
    web.add(1, "b", task.address)
    web.tell()
    client.run("ip", "neigh", "replace", task.address, "lladdr", bridge, "dev", "eth0", "nud", "permanent")
    client.host.ask(task.address, 80)  # its host has its MAC address now
    assert client.ask(task.address, 80, 3) == [f"b {client.address}"] * 3


def test_a_refusal_is_heard_at_once(web: Services) -> None:
    """The host of who refuses has seen neither what is refused nor anything of the connection."""
    client, task = web.clients[0], web.members[1]
    assert client.ask(task.address, 80, 2) == [f"b {client.address}"] * 2
    assert client.ask(task.address, 81, 3) == ["error ConnectionRefusedError"] * 3
    assert "81" not in fast_path(client.host, "flows")


def test_a_device_that_takes_no_program_keeps_no_other_from_it(web: Services) -> None:
    host = web.hosts[1]
    made = [Member(host, name, {BACK: f"10.1.0.3{number}"}) for number, name in enumerate("efgh")]
    web.members += made
    web.tell("quick")
    for member in made:
        member.start()
    ports = [f"veth0{member.name.removeprefix(PREFIX)}" for member in made]
    for port in ports[:-1]:
        host.run("tc", "qdisc", "add", "dev", port, "ingress_block", "22", "ingress")
    (failure,) = host.told(web.for_host(host))["failures"]
    assert failure.endswith("(and 2 more)")
    assert ports[-1] in devices(host)
    client = web.clients[0]
    for member in made:
        assert client.ask(member.address, 80, 2) == [f"{member.label} {client.address}"] * 2
    for port in ports[:-1]:
        host.run("tc", "qdisc", "del", "dev", port, "ingress_block", "22", "ingress")
    assert host.told(web.for_host(host))["failures"] == []
    assert set(ports) < set(devices(host))
