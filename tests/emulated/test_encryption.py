"""Encrypted overlay networks, between two kernels that have IPsec: what is on the wire is looked at."""

from __future__ import annotations

import re
import struct
import time
from collections import Counter
from pathlib import Path

import pytest

from . import swarm
from .machine import Machine
from .swarm import DOCKER, container, within

pytestmark = [pytest.mark.timeout(1800)]

KEY_S = 40  # here: each test sees keys change
ESP, UDP, TCP = 50, 17, 6
SERVER = "sh -c 'while true; do echo MARK-$NAME-MARK | nc -l -p 7000; done'"


@pytest.fixture(scope="module")
def pair(machines: list[Machine]) -> list[Machine]:
    """Two nodes with a task of `secret` and one of `plain` on each, whose networks are called the same."""
    swarm.start(machines, f"import skep.manager.dispatcher.overlay_keys as keys; keys.KEY_S = {KEY_S}")
    first = machines[0]
    first.run(f"{DOCKER} network create -d overlay --opt encrypted secret")
    first.run(f"{DOCKER} network create -d overlay plain")
    for name in ("secret", "plain"):
        server = SERVER.replace("$NAME", name)
        image = swarm.IMAGE
        first.run(f"{DOCKER} service create -d --name {name} --mode global --network {name} {image} {server}")
    for machine in machines:
        for name in ("secret", "plain"):
            container(machine, name)
    return machines


def _ask(machine: Machine, name: str, other: Machine) -> str:
    """Returns what the other machine's task of the service says to this one's."""
    here = container(machine, name)
    return within(machine, here, f"sh -c 'nc -w 20 {_address(other, name)} 7000 </dev/null'")


def _address(machine: Machine, name: str) -> str:
    """Returns the address of the machine's task of the service."""
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    engine = "docker -H unix:///run/docker.sock"
    return machine.run(f"{engine} inspect -f '{form}' {container(machine, name)}").split()[-1]


def _on_the_wire(packets: Path, since: int = 0) -> tuple[bytes, Counter[tuple[int, int]]]:
    """Returns all that went over the wire since that byte of the file, and how many packets of IPv4 there
    were, by protocol and UDP port."""
    data = packets.read_bytes()
    counts: Counter[tuple[int, int]] = Counter()
    at, all_of_it = max(since, 24), b""  # libpcap's own header
    while at + 16 <= len(data):
        size = struct.unpack_from("<I", data, at + 8)[0]
        frame = data[at + 16 : at + 16 + size]
        at += 16 + size
        all_of_it += frame
        if frame[12:14] == b"\x08\x00":
            protocol = frame[23]
            counts[protocol, int.from_bytes(frame[36:38], "big") if protocol == UDP else 0] += 1
    return all_of_it, counts


def test_what_is_sent_is_read_by_tasks_and_by_nobody_between(pair: list[Machine]) -> None:
    first, second = pair
    for name in ("plain", "secret"):
        for here, there in ((first, second), (second, first)):
            assert f"MARK-{name}-MARK" in _ask(here, name, there)
    wire, counts = _on_the_wire(first.packets)
    assert b"MARK-plain-MARK" in wire, "else this test could not fail"
    assert b"MARK-secret-MARK" not in wire
    assert counts[ESP, 0] > 10
    assert not counts[UDP, 4790]
    assert counts[UDP, 4789]


def test_a_service_is_reached_by_its_name_and_address(pair: list[Machine]) -> None:
    here = container(pair[0], "secret")
    said = [within(pair[0], here, "sh -c 'nc -w 20 secret 7000 </dev/null'") for _ in range(4)]
    assert all("MARK-secret-MARK" in each for each in said)


def test_a_packet_of_the_networks_mtu_passes(pair: list[Machine]) -> None:
    here = container(pair[0], "secret")
    link = within(pair[0], here, "ls /sys/class/net")
    mtus = [within(pair[0], here, f"cat /sys/class/net/{each}/mtu").strip() for each in link.split()]
    assert "1416" in mtus
    # 28 bytes of the packet are headers.
    said = within(pair[0], here, f"busybox ping -c 3 -W 10 -s {1416 - 28} {_address(pair[1], 'secret')}")
    assert "3 packets received" in said


def test_nothing_goes_plain_where_somebody_flushes_policies_and_all_is_mended(pair: list[Machine]) -> None:
    first, second = pair
    since = first.packets.stat().st_size
    first.run("ip xfrm policy flush; ip xfrm state flush")
    here = container(first, "secret")
    first.run(
        f"docker -H unix:///run/docker.sock exec {here} sh -c 'nc -w 3 tasks.secret 7000 </dev/null'",
        check=False,
    )
    first.until("what encrypts is there again", "ip xfrm policy | grep -q 'dport 4790'", 120)
    assert "MARK-secret-MARK" in _ask(first, "secret", second)
    wire, counts = _on_the_wire(first.packets, since)
    assert b"MARK-secret-MARK" not in wire
    assert not counts[UDP, 4790]


def test_what_comes_plain_is_not_taken(pair: list[Machine]) -> None:
    first, second = pair
    before, since = _blocked(second), first.packets.stat().st_size
    second.run("nft delete chain ip skep sealed-in")  # of the two that drop it, the policy is left
    first.run("nft delete chain ip skep sealed-out; ip xfrm policy flush")
    first.run(f"for n in 1 2 3; do echo plain | nc -u -w 1 -p 5000 {second.address} 4790; done", check=False)
    assert _on_the_wire(first.packets, since)[1][UDP, 4790], "else this test could not fail"
    assert _blocked(second) > before
    second.until("its rule is there again", "nft list chain ip skep sealed-in", 120)
    first.until("what encrypts is there again", "ip xfrm policy | grep -q 'dport 4790'", 120)
    assert "MARK-secret-MARK" in _ask(first, "secret", second)


def test_keys_change_and_no_packet_is_lost(pair: list[Machine]) -> None:
    first, second = pair
    before, count = _outbound(first, second), 5 * 3 * KEY_S
    ping = f"docker -H unix:///run/docker.sock exec {container(first, 'secret')} busybox ping"
    said = first.run(f"{ping} -i 0.2 -c {count} -W 10 {_address(second, 'secret')}", timeout_s=count)
    assert re.search(rf"{count} packets transmitted, {count} packets received", said), said[-300:]
    assert _outbound(first, second) != before
    assert int(first.run("ip xfrm state list nokeys | grep -c 'proto esp'")) <= 4, "one out, three in"


def test_skepd_may_be_away_while_keys_change(pair: list[Machine]) -> None:
    """Its kernel goes on; the others send by the key that it has."""
    first, second = pair
    second.run("kill -STOP $(cat /run/skepd.pid)")
    time.sleep(2 * KEY_S)
    try:
        assert "MARK-secret-MARK" in _ask(first, "secret", second)
    finally:
        second.run("kill -CONT $(cat /run/skepd.pid)")
    assert "MARK-secret-MARK" in _ask(second, "secret", first)


def test_no_key_is_on_a_disk_or_in_a_log(pair: list[Machine]) -> None:
    for machine in pair:
        keys = machine.run("ip xfrm state | grep -o 'aead [^ ]* 0x[0-9a-f]*' | grep -o '0x[0-9a-f]*'").split()
        assert keys
        for key in keys:
            text = key.removeprefix("0x")
            machine.run(f"! grep -rqs -e {text} /var/lib/skep /run/skepd.log")


def test_who_leaves_has_nothing_of_it_any_more(pair: list[Machine]) -> None:
    second = pair[1]
    second.run(f"{DOCKER} swarm leave")
    second.until("nothing is left", "test -z \"$(ip xfrm state; ip xfrm policy | grep 'dport 4790')\"", 120)


def _blocked(machine: Machine) -> int:
    """Returns how many packets the kernel refused as they were not encrypted."""
    names = ("XfrmInTmplMismatch", "XfrmInNoPols", "XfrmInPolBlock")
    counts = dict(line.split() for line in machine.run("cat /proc/net/xfrm_stat").splitlines())
    return sum(int(counts[name]) for name in names)


def _outbound(machine: Machine, other: Machine) -> str:
    return machine.run(
        f"ip xfrm state list nokeys src {machine.address} dst {other.address} | grep -o 'spi 0x[0-9a-f]*'"
    )
