"""Published ports by IPVS, on two kernels that have it. Clients outside of the swarm are on the machines' wire, each
in a network namespace of a machine's, and come to the *other* machine."""

from __future__ import annotations

import re

import pytest

from tests.mesh_image import IMAGE

from . import swarm
from .machine import SUBNET, Machine
from .swarm import DOCKER

pytestmark = [pytest.mark.timeout(1800)]

SKEP = "DOCKER_HOST=unix:///run/skepd.sock .venv/bin/skep"
CLIENT = ".venv/bin/python tests/emulated/client.py"
TASKS = 4
_TAR = "from tests.mesh_image import mesh_tar; import sys; sys.stdout.buffer.write(mesh_tar())"
_ENTRY = '-c \'ENTRYPOINT ["/usr/bin/python3", "-I", "-S", "/server.py"]\''
_OUTSIDE = (
    "ip netns add outside && ip link add out0 link eth0 type macvlan mode bridge && ip link set out0 netns outside"
    " && ip -n outside addr add {address}/24 dev out0 && ip -n outside link set out0 up"
)
# What asks from a container: it has the server's Python, and no library of Python's.
_FROM_CONTAINER = (
    'import _socket\nfor n in range({count}):\n    s = _socket.socket()\n    s.connect(("{address}", {port}))\n'
    '    print("1", s.recv(99).decode().strip())'
)


@pytest.fixture(scope="module")
def pair(machines: list[Machine]) -> list[Machine]:
    """Two nodes with two tasks of `web` each, whose ports IPVS leads."""
    swarm.start(machines)
    for machine in machines:
        machine.run(
            f".venv/bin/python -c '{_TAR}' | docker -H unix:///run/docker.sock import {_ENTRY} - {IMAGE}"
        )
        machine.run(_OUTSIDE.format(address=_outside(machine)))
    first = machines[0]
    first.run(f"{SKEP} cluster set data-path=ipvs")
    ports = "-p 8080:9000 -p 8080:9000/udp"
    first.run(
        f"{DOCKER} service create -d --name web --replicas {TASKS} --stop-grace-period 15s {ports} {IMAGE} - 9000"
    )
    for machine in machines:
        _until_all_serve(machine)
    return machines


def _outside(machine: Machine) -> str:
    return f"{SUBNET}.10{machine.address.rpartition('.')[2]}"


def _until_all_serve(machine: Machine, count: int = TASKS) -> None:
    """Each task takes new connections, over TCP and UDP."""
    machine.until("all tasks serve", f"test $(ipvsadm -Ln | grep -c 'Masq    1') = {2 * count}")


def _counts(said: str) -> dict[tuple[str, str], int]:
    """Returns how often which task saw which client. Lines of another form are failures of the client's."""
    counts: dict[tuple[str, str], int] = {}
    for number, task, address in re.findall(r"^(\d+) (\S+) (\S+)$", said, re.M):
        counts[task, address] = counts.get((task, address), 0) + int(number)
    return counts


def _asked(
    machine: Machine, kind: str, address: str, count: int, outside: bool = False
) -> dict[tuple[str, str], int]:
    prefix = "ip netns exec outside " if outside else ""
    said = machine.run(f"{prefix}{CLIENT} {kind} {address} 8080 {count}")
    assert "failed" not in said, said
    return _counts(said)


def test_ipvsadm_shows_a_service_per_port_and_a_real_server_per_task(pair: list[Machine]) -> None:
    for machine in pair:
        shown = machine.run("ipvsadm -Ln").partition("ActiveConn InActConn\n")[2]
        first, second = (part for part in re.split(r"^FWM +", shown, flags=re.M) if part)
        for mark, part in (("257", first), ("258", second)):
            assert part.startswith(f"{mark} rr"), shown
            assert len(re.findall(r"-> 10\.0\.0\.\d+:9000 +Masq +1 ", part)) == TASKS, shown
    settings = pair[0].run(f"{SKEP} cluster settings")
    assert "data-path=ipvs" in settings
    assert "IPVS services 2" in pair[0].run(f"{SKEP} net inspect m2")
    assert "real servers of IPVS 8" in pair[0].run(f"{SKEP} net inspect m2")


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_tasks_see_the_clients_own_address_each_as_often(pair: list[Machine], kind: str) -> None:
    for machine, other in (pair, pair[::-1]):
        counts = _asked(machine, kind, other.address, 50 * TASKS, outside=True)
        assert {address for _, address in counts} == {_outside(machine)}
        assert len(counts) == TASKS
        # A client may happen to use a port again, and is the same one then.
        assert max(counts.values()) - min(counts.values()) <= 0.02 * sum(counts.values()), counts


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_host_reaches_all_tasks_by_any_of_its_and_the_others_addresses(
    pair: list[Machine], kind: str
) -> None:
    for machine, other in (pair, pair[::-1]):
        for address in (machine.address, "127.0.0.1", other.address):
            counts = _asked(machine, kind, address, 2 * TASKS)
            assert len(counts) == TASKS, (machine.name, address, counts)
            assert set(counts.values()) == {2}


def test_containers_reach_all_tasks_through_both_nodes(pair: list[Machine]) -> None:
    first = pair[0]
    task = swarm.container(first, "web")
    docker = "docker -H unix:///run/docker.sock"
    python = "-I -S -c"
    for machine in pair:
        code = _FROM_CONTAINER.format(count=TASKS, address=machine.address, port=8080)
        alone = first.run(f"{docker} run --rm --entrypoint /usr/bin/python3 {IMAGE} {python} '{code}'")
        within = first.run(f"{docker} exec {task} /usr/bin/python3 {python} '{code}'")
        assert len(_counts(alone)) == len(_counts(within)) == TASKS


def test_connections_to_tasks_that_are_to_end_go_on_and_new_ones_go_elsewhere(pair: list[Machine]) -> None:
    first, second = pair
    held = f"ip netns exec outside {CLIENT} held {first.address} 8080 8"
    for n in range(TASKS):
        second.run(f"{held} >/run/held.{n} 2>&1 & echo $! >/run/held.{n}.pid")
    second.until("all are connected", f"sleep 1; test $(ls /run/held.?.pid | wc -l) = {TASKS}")
    first.until("each task has one", f"test $(ipvsadm -Ln | grep -c 'Masq    1      1') = {TASKS}", 6)
    first.run(f"{DOCKER} service scale -d web=1")
    first.until("three get nothing new", "test $(ipvsadm -Ln | grep -c 'Masq    0') = 3", 12)
    assert len(_asked(second, "tcp", first.address, 20, outside=True)) == 1
    assert len(_asked(second, "udp", first.address, 20, outside=True)) == 1
    second.run("while pgrep -f '[c]lient.py held'; do sleep 0.5; done", 60)
    said = [second.run(f"cat /run/held.{n}") for n in range(TASKS)]
    assert len({task for each in said for task, _ in _counts(each)}) == TASKS, said
    assert not any("ended" in each or "Error" in each for each in said), said
    first.until("they are gone", "test $(ipvsadm -Ln | grep -c Masq) = 2")


def test_a_service_without_a_task_refuses_at_once(pair: list[Machine]) -> None:
    first, second = pair
    first.run(f"{DOCKER} service scale -d web=0")
    first.until("none is there", "test $(ipvsadm -Ln | grep -c Masq) = 0")
    assert "Connection refused" in second.run(f"ip netns exec outside {CLIENT} tcp {first.address} 8080 1")
    first.run(f"{DOCKER} service scale -d web={TASKS}")
    for machine in pair:
        _until_all_serve(machine)


def test_what_somebody_flushes_is_mended_and_others_services_are_left_alone(pair: list[Machine]) -> None:
    first, second = pair
    first.run("ipvsadm -C; nft flush ruleset; ipvsadm -A -f 259 -s wlc")
    _until_all_serve(first)
    assert re.search(r"FWM +259 wlc", first.run("ipvsadm -Ln"))
    assert len(_asked(second, "tcp", first.address, 2 * TASKS, outside=True)) == TASKS
    first.run(f"{DOCKER} service create -d --name more -p 8081:9000 {IMAGE} - 9000")
    first.until("another port has another mark", "ipvsadm -Ln | grep -q 'FWM  260 rr'")
    first.run(f"{DOCKER} service rm more")
    first.until("it is gone", "! ipvsadm -Ln | grep -q 'FWM  260 rr'")
    first.run("ipvsadm -D -f 259")


def test_connections_go_on_when_ipvs_takes_over_and_end_when_it_gives_up(pair: list[Machine]) -> None:
    first, second = pair
    held = f"ip netns exec outside {CLIENT} held {first.address} 8080 300 >/run/held 2>&1 & echo $! >/run/held.pid"
    ended = "while kill -0 $(cat /run/held.pid) 2>/dev/null; do sleep 0.5; done; cat /run/held"
    there = {"ipvs": "ipvsadm -Ln | grep -q FWM", "nftables": 'test -z "$(ipvsadm -Ln | grep FWM)"'}
    first.run(f"{SKEP} cluster set data-path=nftables")
    first.until("there is nothing of IPVS", there["nftables"])
    for data_path, goes_on in (("ipvs", True), ("nftables", False), ("ipvs", True)):
        second.run("rm -f /run/held.enough")
        second.run(held)
        second.run("sleep 2")
        first.run(f"{SKEP} cluster set data-path={data_path}")
        first.until("it is so in the kernel", there[data_path])
        second.run("sleep 5; touch /run/held.enough")
        said = second.run(ended)
        assert ("ended" in said or "Error" in said) != goes_on, (data_path, said)
    for machine in pair:
        _until_all_serve(machine)


def test_a_node_without_ipvs_leads_on_by_nftables_and_says_so(pair: list[Machine]) -> None:
    """Its own kernel's: the other one's is as it was."""
    first, second = pair
    status = "docker -H unix:///run/skepd.sock node inspect --format '{{.Status.Message}}' m2"
    first.run(f"{SKEP} cluster set data-path=nftables")
    second.until("there is nothing of IPVS", 'test -z "$(ipvsadm -Ln | grep FWM)"')
    second.run("kill $(cat /run/skepd.pid)")
    second.until("skepd has ended", "! kill -0 $(cat /run/skepd.pid) 2>/dev/null")
    second.run("rmmod ip_vs_rr ip_vs; echo 'install ip_vs /bin/false' >/etc/modprobe.d/no-ipvs.conf")
    swarm.begin(second)
    second.until("skepd answers", f"{DOCKER} version >/dev/null")
    first.until("the node is back", f"{DOCKER} node ls | grep -c Ready | grep -qx 2")
    first.run(f"{SKEP} cluster set data-path=ipvs")
    first.until("it says so", f"{status} | grep -q 'led by nftables here, and not by IPVS'")
    _until_all_serve(first)
    for machine, other in (pair, pair[::-1]):
        counts = _asked(machine, "tcp", other.address, 2 * TASKS, outside=True)
        assert len(counts) == TASKS
        assert {address for _, address in counts} == {_outside(machine)}


def test_who_leaves_has_nothing_of_it_any_more(pair: list[Machine]) -> None:
    first = pair[0]
    first.run(f"{DOCKER} swarm leave --force")
    first.until("nothing is left", 'test -z "$(ipvsadm -Ln | grep FWM; nft list tables | grep skep)"', 120)
