"""Machines that boot: by systemd, an engine and a skepd as its units have them, and firewalld, Debian's own. What
should be there after a boot is there again, and nothing else."""

from __future__ import annotations

import difflib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images import IMAGE as BUSYBOX
from tests.mesh_image import IMAGE

from .machine import Machine
from .swarm import container, within

pytestmark = [pytest.mark.timeout(3600)]

DOCKER = "docker -H unix:///run/skep/skep.sock"
SKEP = "/opt/skep/bin/skep"
CLIENT = ".venv/bin/python tests/emulated/client.py"
FIREWALL = "firewall-cmd -q"
SETTLE_S = (
    600  # a daemon starts in a minute where the processors are others', too, and finds its manager then
)
_UP = (
    "ln -sfn /skep/.venv /opt/skep && cp src/skep/machine/skepd.service /etc/systemd/system/"
    " && systemctl enable --now skepd && docker version"
)
_PUT = ".venv/bin/python -c 'import sys; from {0} import {1}; sys.stdout.buffer.write({1}())' | docker import {2} - {3}"
_ENTRY = '-c \'ENTRYPOINT ["/usr/bin/python3", "-I", "-S", "/server.py"]\''
# What the kernel has of ours, without addresses that each task has anew, and without what is drawn by lot.
_KERNEL = (
    "ip -o link | sed -n 's/^[0-9]*: \\(sk[^:@]*\\).*/link \\1/p'; ip -4 route show table all proto 90; ip rule;"
    " ip neigh show nud permanent; bridge fdb show | grep -e 'skv.* dst '; nft -s list table ip skep;"
    " iptables -S DOCKER-USER; docker network ls --format '{{.Name}}'; docker ps -a --format '{{.Names}}'"
)


@pytest.fixture(scope="module")
def pair(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Machine]]:
    """A manager and a worker, with a task of `web` (published) and one of `names` on each, on one network."""
    directory = tmp_path_factory.mktemp("b")
    begun: list[Machine] = []
    try:
        begun.extend(Machine(made, directory, number, boots=True) for number in (1, 2))
        for machine in begun:
            machine.start()
        _form(begun)
        yield begun
    finally:
        for machine in begun:
            machine.kill()


def _form(machines: list[Machine]) -> None:
    for machine in machines:
        machine.until("the engine answers", _UP, SETTLE_S)
        machine.run(_PUT.format("tests.mesh_image", "mesh_tar", _ENTRY, IMAGE))
        machine.run(_PUT.format("tests.images", "busybox_tar", "", BUSYBOX))
    for machine in machines:
        machine.until("skepd answers", f"{DOCKER} version", SETTLE_S)
    first, second = machines
    first.run(f"{DOCKER} swarm init --advertise-addr {first.address}")
    first.until("it leads", f"{DOCKER} swarm update --task-history-limit 0", SETTLE_S)
    token = first.run(f"{DOCKER} swarm join-token -q worker").strip()
    join = f"{DOCKER} swarm join --advertise-addr {second.address} --token {token} {first.address}:2377"
    second.run(join, check=False)  # where it takes long it goes on
    first.until("both are ready", f"{DOCKER} node ls | grep -c Ready | grep -qx 2", SETTLE_S)
    first.run(f"{DOCKER} network create -d overlay --attachable over")
    create = f"{DOCKER} service create -d --no-resolve-image --mode global --network over"
    first.run(f"{create} --name web -p 8080:9000 -p 8080:9000/udp {IMAGE} - 9000")
    first.run(f"{create} --name names {BUSYBOX} nc -ll -p 7000 -e hostname")
    _until_whole(machines)


def _until_whole(machines: list[Machine]) -> None:
    """All tasks run, and each node's kernel has what it should have, and nothing else."""
    first = machines[0]
    ready = f"{DOCKER} node ls | grep -c Ready | grep -qx 2"
    running = f"{DOCKER} service ls --format '{{{{.Replicas}}}}' | grep -cx 2/2 | grep -qx 2"
    first.until("all run", f"{ready} && {running}", SETTLE_S)
    for machine in machines:
        same = (
            f"{SKEP} net inspect {machine.name} --json | grep -v '^ *$' >/run/seen &&"
            ' .venv/bin/python -c \'import json; k = json.load(open("/run/seen"))["Kernel"];'
            ' assert k["Objects"] and not k["Missing"] + k["Surplus"] + k["Failures"], k\''
        )
        first.until(f"{machine.name}'s kernel is as it should be", same, SETTLE_S)


def _kernel(machine: Machine) -> list[str]:
    said = machine.run(_KERNEL)
    said = re.sub(r' comment "[0-9a-f]*"', "", said)  # of a rule's text, with its addresses
    said = re.sub(r"(?m)^((?:web|names)\.\w+)\.\w+$", r"\1", said)  # a task's name, without its id
    said = re.sub(r"\b10\.0\.[01]\.\d+\b(?!/)", "ADDRESS", said)
    return sorted(line.strip() for line in said.splitlines())


def _until_as(machines: list[Machine], before: list[list[str]]) -> None:
    """Each has again what it had, and nothing else: what is left of tasks of before takes a moment to go."""
    for machine, wanted in zip(machines, before, strict=True):
        deadline = time.monotonic() + SETTLE_S
        while (now := _kernel(machine)) != wanted:
            lines = "\n".join(difflib.unified_diff(wanted, now, n=0, lineterm=""))
            assert time.monotonic() < deadline, f"{machine.name} has not what it had: {lines}"
            time.sleep(5)


def _serves(machines: list[Machine]) -> None:
    """Ports, addresses, names: from both machines, through both, to both."""
    for machine, other in (machines, machines[::-1]):
        for kind in ("tcp", "udp"):
            for address in (machine.address, other.address):
                said = machine.run(f"{CLIENT} {kind} {address} 8080 4")
                assert sorted(line.split()[0] for line in said.splitlines()) == ["2", "2"], said
        here = container(machine, "names")
        own, others = _hostname(machine), _hostname(other)
        ask = "sh -c 'for n in 1 2 3 4; do nc -w 20 {} 7000 </dev/null; done'"
        assert set(within(machine, here, ask.format("names")).split()) == {own, others}, "by its VIP"
        address = within(machine, here, "sh -c 'nslookup tasks.names'")
        assert len(set(re.findall(r"10\.0\.1\.\d+", address))) == 2, address
        assert within(machine, here, ask.format(_address(other, "names"))).split() == [others] * 4


def _hostname(machine: Machine) -> str:
    return within(machine, container(machine, "names"), "hostname").strip()


def _address(machine: Machine, service: str) -> str:
    return _address_of(machine, container(machine, service))


def _address_of(machine: Machine, container_id: str) -> str:
    said = json.loads(machine.run(f"docker inspect {container_id}"))
    networks = said[0]["NetworkSettings"]["Networks"].values()
    return next(str(each["IPAddress"]) for each in networks if each["IPAddress"].startswith("10.0.1."))


def test_a_worker_that_boots_has_what_it_had_and_nothing_else(pair: list[Machine]) -> None:
    before = _kernel(pair[1])
    assert any("goto tcp-8080" in line for line in before)
    _serves(pair)
    pair[1].reboot()
    _until_whole(pair)
    _until_as(pair[1:], [before])
    _serves(pair)


def test_a_manager_that_loses_power_has_what_it_had_and_nothing_else(pair: list[Machine]) -> None:
    before = [_kernel(each) for each in pair]
    pair[0].lose_power()
    pair[0].switch_on()
    _until_whole(pair)
    _until_as(pair, before)
    _serves(pair)


def test_a_worker_that_boots_without_a_manager_leads_nobody_and_says_so(pair: list[Machine]) -> None:
    """What `docs/operations.md` says of it. The manager's tasks, and what its kernel has, go on meanwhile."""
    first, second = pair
    for name in ("lone", "beside"):
        run = f"{DOCKER} run -d --restart always --network over --name {name}"
        second.run(f"{run} {BUSYBOX} nc -ll -p 7000 -e hostname")
    _until_whole(pair)
    before = [_kernel(each) for each in pair]
    ask = "sh -c 'nc -w 5 {} 7000 </dev/null || echo failed'"
    beside, elsewhere = _address_of(second, "beside"), _address(first, "names")
    assert _hostname(first) in within(second, "lone", ask.format(elsewhere))
    first.run("systemctl stop skepd")
    second.reboot()
    second.until("skepd answers", f"{DOCKER} version", SETTLE_S)
    second.until("it says that it has no manager", f"{DOCKER} info | grep 'Error: manager {first.address}'")
    second.until("it takes away what nobody needs", "! docker network ls | grep -w ingress")
    assert set(second.run("docker ps --format '{{.Names}}'").split()) == {"lone", "beside"}
    assert "refused" in second.run(f"{CLIENT} tcp {second.address} 8080 1")
    assert not second.run("nft list tables | grep skep; ip rule | grep 'proto 90'", check=False).strip()
    assert "failed" not in within(second, "lone", ask.format(beside))
    assert "failed" in within(second, "lone", ask.format(elsewhere))
    assert "10.0.1." not in within(second, "lone", "nslookup names || true")
    # The manager's kernel has not been told: half of what it leads on goes to a task that is no more.
    answers = [
        line.split(maxsplit=1) for line in first.run(f"{CLIENT} tcp {first.address} 8080 4").splitlines()
    ]
    assert sum(int(n) for n, said in answers if not said.startswith("failed")) == 2, answers
    first.run("systemctl start skepd")
    _until_whole(pair)
    _until_as(pair, before)
    _serves(pair)
    assert {_hostname(each) for each in pair} == {
        within(second, "lone", ask.format("names")).strip() for _ in range(4)
    }
    second.run("docker rm -f lone beside")


def test_firewalld_that_begins_later_and_is_loaded_again(pair: list[Machine]) -> None:
    first, second = pair
    message = f"{DOCKER} node inspect --format '{{{{.Status.Message}}}}' {second.name}"
    second.run("systemctl start firewalld")
    assert second.run("firewall-cmd --get-default-zone").strip() == "public"
    first.until(
        "the node says what to type", f"{message} | grep -q 'zone=public --add-port=4789/udp'", SETTLE_S
    )
    here = container(second, "names")
    said = within(second, here, f"sh -c 'nc -w 5 {_address(first, 'names')} 7000 </dev/null || echo failed'")
    assert "failed" in said, "else what is said were not so"
    second.run(f"{FIREWALL} --permanent --zone=public --add-port=4789/udp; {FIREWALL} --reload")
    for how in ("--reload", "--complete-reload"):
        second.run(f"{FIREWALL} {how}")
        trusted = f"{FIREWALL} --zone=trusted --query-interface=skb+"
        second.until("the bridges have their zone again", trusted, SETTLE_S)
        _until_whole(pair)
        _serves(pair)


def test_firewalld_that_begins_with_the_machine(pair: list[Machine]) -> None:
    """The engine finds it then, and puts its bridges in a zone of its own making."""
    second = pair[1]
    second.run("systemctl enable firewalld")
    second.reboot()
    _until_whole(pair)
    second.run(f"{FIREWALL} --zone=docker --query-interface=docker0")
    _serves(pair)
    second.run(f"{FIREWALL} --reload")
    second.until("the zone is there again", f"{FIREWALL} --zone=trusted --query-interface=skb+", SETTLE_S)
    _until_whole(pair)
    _serves(pair)


def test_who_leaves_takes_the_zone_away(pair: list[Machine]) -> None:
    second = pair[1]
    second.run(f"{DOCKER} swarm leave")
    second.until("it is gone", f"! {FIREWALL} --zone=trusted --query-interface=skb+", SETTLE_S)
    assert "skep" not in second.run("nft list tables")
