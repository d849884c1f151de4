"""What the fast path's program does with single packets: which it takes, and what it knows after that."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest

from skep.network.fast_path_kernel import CAME, SENT

from .fast_path_packets import FAR_MAC, HERE, HERE_MAC, NEAR_MAC, OTHER, OWN_MAC, PORT, UNANSWERED

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

TAKEN, OTHER_WAY = 7, -1  # TC_ACT_REDIRECT, TC_ACT_UNSPEC

NEAR, FAR, OWN, NOBODY = "10.1.0.11", "10.1.0.12", "10.1.0.3", "10.1.0.99"
VIP = "10.1.0.100"
SYN, ACK, FIN, RST = 2, 16, 1, 4
NO_DEVICE = 7000


def checksum(head: bytes) -> int:
    head += bytes(len(head) % 2)
    total = sum(struct.unpack(f"!{len(head) // 2}H", head))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def packet(source: str, to: str, flags: int, ports: tuple[int, int] = (5555, 80), **other: Any) -> bytes:
    """Returns a frame of Ethernet; `other` says what is unusual of it."""
    options = other.get("options", b"")
    first = 0x45 + len(options) // 4
    own, far = IPv4Address(source).packed, IPv4Address(to).packed
    payload = other.get("payload", b"")
    fields = [first, 0, 40 + len(options) + len(payload), 7, other.get("parts", 0), other.get("ttl", 64)]
    head = struct.pack("!BBHHHBB", *fields, other.get("protocol", 6))
    sum_of = checksum(head + bytes(2) + own + far + options)
    tcp = struct.pack(
        "!HHIIBBHHH", *ports, other.get("seq", 1), other.get("heard", 1), 0x50, flags, 1000, 0, 0
    )
    tcp += payload
    pseudo = own + far + struct.pack("!HH", 6, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
    macs = bytes.fromhex((other.get("mac", OWN_MAC) + NEAR_MAC).replace(":", ""))
    return macs + b"\x08\x00" + head + struct.pack("!H", sum_of) + own + far + options + tcp


class Host:
    def __init__(self) -> None:
        command = ["unshare", "--net", sys.executable, "-m", "tests.integration.fast_path_packets"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _ask(self, **what: object) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def fresh(self, *ports: int) -> int:
        """Knows nothing but these ports. Returns another device's number."""
        other: int = self._ask(do="fresh", ports=ports or (PORT,))
        return other

    def home(self, address: str, port: int, mac: str = HERE_MAC) -> None:
        self._ask(do="home", address=address, port=port, mac=mac.replace(":", ""))

    def serve(self, *tasks: str) -> None:
        """Has a service with the address `VIP` have these tasks."""
        self._ask(do="serve", vip=VIP, tasks=tasks)

    def counted(self) -> list[int]:
        """Returns its connections, and the bytes of its clients and answers."""
        found: list[int] = self._ask(do="counts", vip=VIP)
        return found

    def flow(self, near: str, far: str, ports: tuple[int, int], port: int) -> None:
        """Knows a connection that began long ago."""
        key = struct.pack("!4s4sHH", IPv4Address(near).packed, IPv4Address(far).packed, *ports)
        self._ask(do="flow", key=key.hex(), port=port)

    def led(self, near: str, port: int, ago_s: float) -> None:
        """Knows that this client's port began a connection to a service by the rules so long ago."""
        key = IPv4Address(near).packed + struct.pack("=I", socket.htons(port))
        self._ask(do="led", key=key.hex(), since_ns=time.monotonic_ns() - int(ago_s * 1e9))

    def sent(self, frame: bytes) -> dict[str, Any]:
        said: dict[str, Any] = self._ask(do=SENT, packet=frame.hex())
        return said

    def came(self, frame: bytes) -> dict[str, Any]:
        said: dict[str, Any] = self._ask(do=CAME, packet=frame.hex())
        return said

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(5)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def made() -> Iterator[Host]:
    host = Host()
    yield host
    host.close()


@pytest.fixture
def host(made: Host) -> Host:
    made.fresh()
    return made


def begun(host: Host) -> None:
    assert host.sent(packet(NEAR, FAR, SYN))["verdict"] == TAKEN


def test_a_first_packet_goes_one_hop_to_the_other_nodes_bridge(host: Host) -> None:
    said = host.sent(packet(NEAR, FAR, SYN, ttl=64))
    frame = bytes.fromhex(said["packet"])
    assert (said["verdict"], said["flows"], said["homes"]) == (TAKEN, 1, 1)
    assert frame[:12].hex(":") == f"{FAR_MAC}:{OWN_MAC}"
    assert frame[22] == 63
    assert checksum(frame[14:34]) == 0, "the header's sum is right"


def test_all_that_follows_takes_the_same_way_and_so_do_answers(host: Host) -> None:
    begun(host)
    assert host.sent(packet(NEAR, FAR, ACK))["verdict"] == TAKEN
    said = host.came(packet(FAR, NEAR, SYN | ACK, (80, 5555)))
    frame = bytes.fromhex(said["packet"])
    assert said["verdict"] == TAKEN
    assert frame[:12].hex(":") == f"{NEAR_MAC}:{OWN_MAC}"
    assert host.came(packet(FAR, NEAR, ACK, (81, 5555)))["verdict"] == OTHER_WAY, "another connection"


def test_only_who_was_here_by_the_fast_path_before_is_begun_with(host: Host) -> None:
    asks = packet(FAR, NEAR, SYN, (4444, 80))
    assert host.came(asks)["verdict"] == OTHER_WAY
    assert host.sent(packet(NEAR, FAR, SYN | ACK, (80, 4444)))["verdict"] == TAKEN
    assert host.came(asks)["verdict"] == TAKEN


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(packet(NEAR, FAR, SYN, parts=0x2000), id="more parts follow"),
        pytest.param(packet(NEAR, FAR, SYN, parts=1), id="a later part"),
        pytest.param(packet(NEAR, FAR, SYN, ttl=1), id="its last hop"),
        pytest.param(packet(NEAR, FAR, SYN, options=bytes([1, 1, 1, 0])), id="options"),
        pytest.param(packet(NEAR, FAR, SYN, protocol=17), id="UDP"),
        pytest.param(packet(NEAR, FAR, SYN, mac="02:00:00:00:00:77"), id="to a container here"),
        pytest.param(packet("10.2.0.11", FAR, SYN), id="from elsewhere"),
        pytest.param(packet(NEAR, "10.2.0.12", SYN), id="to elsewhere"),
        pytest.param(packet(OWN, FAR, SYN), id="as the host"),
        pytest.param(packet("10.1.0.255", FAR, SYN), id="as all"),
        pytest.param(packet("10.1.0.0", FAR, SYN), id="as the network"),
        pytest.param(packet(NEAR, OWN, SYN), id="to the host"),
        pytest.param(packet(NEAR, "10.1.0.255", SYN), id="to all"),
        pytest.param(packet(NEAR, FAR, ACK), id="in the middle of a connection"),
        pytest.param(packet(NEAR, FAR, SYN)[:50], id="cut short"),
        pytest.param(packet(NEAR, FAR, SYN)[:12] + b"\x86\xdd" + packet(NEAR, FAR, SYN)[14:], id="IPv6"),
    ],
)
def test_what_it_is_not_for_goes_the_other_way_as_it_came(host: Host, frame: bytes) -> None:
    said = host.sent(frame)
    assert said["verdict"] == OTHER_WAY
    assert bytes.fromhex(said["packet"]) == frame
    assert said["flows"] == 0


def test_the_tunnel_lets_nobody_in_as_the_host_or_from_elsewhere(host: Host) -> None:
    begun(host)
    for whose in (OWN, "10.2.0.12", "10.1.0.255"):
        assert host.came(packet(whose, NEAR, SYN, (4444, 80)))["verdict"] == OTHER_WAY, whose


def test_who_asks_for_a_services_address_has_left_the_fast_path(host: Host) -> None:
    begun(host)
    answers = packet(FAR, NEAR, ACK, (80, 5555))
    assert host.came(answers)["verdict"] == TAKEN
    said = host.sent(packet(NEAR, NOBODY, SYN))
    assert (said["verdict"], said["led"]) == (OTHER_WAY, 1)
    assert host.came(answers)["verdict"] == OTHER_WAY, "it answers for the service, from the same ports"
    assert host.sent(packet(NEAR, FAR, SYN))["verdict"] == OTHER_WAY, "for a minute"
    assert host.sent(packet(NEAR, FAR, SYN, (5556, 80)))["verdict"] == TAKEN


@pytest.mark.parametrize(("asks", "verdict"), [(NOBODY, OTHER_WAY), (FAR, TAKEN)])
def test_a_service_that_is_still_asked_keeps_its_clients_port_off_the_fast_path(
    host: Host, asks: str, verdict: int
) -> None:
    """The minute is over, and not the connection: another one by the same ports would be taken for it."""
    host.led(NEAR, 5555, 59)
    assert host.sent(packet(NEAR, asks, ACK))["verdict"] == OTHER_WAY
    time.sleep(1.1)
    assert host.sent(packet(NEAR, FAR, SYN))["verdict"] == verdict


@pytest.mark.parametrize("ends", ["near", "far"])
def test_a_connection_that_both_ended_is_forgotten(host: Host, ends: str) -> None:
    begun(host)
    sides = [(host.sent, NEAR, FAR, (5555, 80)), (host.came, FAR, NEAR, (80, 5555))]
    (one, *of_one), (other, *of_other) = sides if ends == "near" else sides[::-1]
    steps = [
        one(packet(of_one[0], of_one[1], FIN | ACK, of_one[2], seq=100, heard=200, payload=b"12345")),
        other(packet(of_other[0], of_other[1], FIN | ACK, of_other[2], seq=200, heard=106)),
    ]
    assert [(said["verdict"], said["flows"]) for said in steps] == [(TAKEN, 1)] * 2
    said = one(packet(of_one[0], of_one[1], ACK, of_one[2], seq=106, heard=201))
    assert (said["verdict"], said["flows"]) == (TAKEN, 0)


@pytest.mark.parametrize("resets", ["near", "far"])
def test_a_connection_that_one_resets_is_forgotten(host: Host, resets: str) -> None:
    begun(host)
    said = (
        host.sent(packet(NEAR, FAR, RST))
        if resets == "near"
        else host.came(packet(FAR, NEAR, RST, (80, 5555)))
    )
    assert (said["verdict"], said["flows"]) == (TAKEN, 0)


def test_nobody_takes_another_ones_address_as_long_as_that_ones_port_is_there(host: Host) -> None:
    host.fresh(PORT, 7)
    host.home(NEAR, 7)
    said = host.sent(packet(NEAR, FAR, SYN))
    assert (said["verdict"], said["flows"]) == (OTHER_WAY, 0)
    host.fresh(PORT)
    host.home(NEAR, 7)  # that one has gone
    begun(host)


def test_a_container_that_went_is_not_sent_to(host: Host) -> None:
    begun(host)
    host.home(NEAR, 7)  # by a port that is not known
    assert host.came(packet(FAR, NEAR, SYN, (4444, 80)))["verdict"] == OTHER_WAY


def addresses(said: dict[str, Any]) -> tuple[str, str]:
    """Returns whom a packet is from and to, as it left; its sums are right."""
    frame = bytes.fromhex(said["packet"])
    assert checksum(frame[14:34]) == 0
    assert checksum(frame[26:34] + struct.pack("!HH", 6, len(frame) - 34) + frame[34:]) == 0
    return str(IPv4Address(frame[26:30])), str(IPv4Address(frame[30:34]))


def macs(said: dict[str, Any]) -> str:
    return bytes.fromhex(said["packet"])[:12].hex(":")


def test_who_asks_for_a_service_gets_a_task_and_the_services_answers(host: Host) -> None:
    host.serve(FAR)
    said = host.sent(packet(NEAR, VIP, SYN))
    assert (said["verdict"], said["flows"], said["led"]) == (TAKEN, 2, 0)
    assert addresses(said) == (NEAR, FAR)
    assert macs(said) == f"{FAR_MAC}:{OWN_MAC}"
    said = host.came(packet(FAR, NEAR, SYN | ACK, (80, 5555)))
    assert said["verdict"] == TAKEN
    assert addresses(said) == (VIP, NEAR)
    assert addresses(host.sent(packet(NEAR, VIP, ACK))) == (NEAR, FAR)
    assert host.counted() == [1, 80, 40]


def test_tasks_take_turns_and_a_connection_keeps_its_own(host: Host) -> None:
    host.serve(FAR, OTHER)
    led = [addresses(host.sent(packet(NEAR, VIP, SYN, (5000 + n, 80))))[1] for n in range(6)]
    assert led == [FAR, OTHER] * 3
    host.serve(OTHER)
    assert [addresses(host.sent(packet(NEAR, VIP, ACK, (5000 + n, 80))))[1] for n in range(6)] == led


@pytest.mark.parametrize(
    "tasks", [(), (NOBODY,), (NEAR,), (HERE,)], ids=["none", "nobody", "itself", "not seen"]
)
def test_where_the_program_cannot_lead_the_rules_do(host: Host, tasks: tuple[str, ...]) -> None:
    host.serve(*tasks)
    frame = packet(NEAR, VIP, SYN)
    said = host.sent(frame)
    assert (said["verdict"], said["flows"], said["led"]) == (OTHER_WAY, 0, 1)
    assert bytes.fromhex(said["packet"]) == frame
    assert host.counted() == [0, 0, 0]


def test_a_connection_before_from_the_same_port_is_in_nobodys_way(host: Host) -> None:
    """Its packets would go to the task of then."""
    host.serve(FAR)
    host.sent(packet(NEAR, VIP, SYN))
    host.serve(OTHER)
    said = host.sent(packet(NEAR, VIP, SYN))
    assert addresses(said) == (NEAR, OTHER)
    assert said["flows"] == 2
    assert host.came(packet(FAR, NEAR, SYN | ACK, (80, 5555)))["verdict"] == OTHER_WAY
    host.serve()
    assert host.sent(packet(NEAR, VIP, SYN))["flows"] == 0
    assert host.sent(packet(NEAR, VIP, ACK))["verdict"] == OTHER_WAY


def test_a_task_and_its_service_from_one_port_are_two(host: Host) -> None:
    host.serve(FAR)
    begun(host)
    assert host.sent(packet(NEAR, VIP, SYN))["verdict"] == OTHER_WAY, "answers could not be told"
    host.fresh()
    host.serve(FAR)
    assert host.sent(packet(NEAR, VIP, SYN))["verdict"] == TAKEN
    for flags in (SYN, ACK):
        assert host.sent(packet(NEAR, FAR, flags))["verdict"] == OTHER_WAY
    assert addresses(host.came(packet(FAR, NEAR, ACK, (80, 5555)))) == (VIP, NEAR)


def test_a_connection_to_a_service_that_nobody_ended_is_in_nobodys_way(host: Host) -> None:
    """Its task's node was lost, say, and the client's port is another connection's: a minute later."""
    host.serve(FAR)
    host.sent(packet(NEAR, VIP, SYN))
    assert host.sent(packet(NEAR, FAR, SYN))["verdict"] == OTHER_WAY
    host.flow(NEAR, VIP, (5555, 80), PORT)  # as if it had begun, and been used, long ago
    said = host.sent(packet(NEAR, FAR, SYN))
    assert said["verdict"] == TAKEN
    answer = host.came(packet(FAR, NEAR, SYN | ACK, (80, 5555)))
    assert (answer["verdict"], addresses(answer)) == (TAKEN, (FAR, NEAR))


@pytest.mark.parametrize("first", ["client", "task"])
def test_a_connection_to_a_service_that_both_ended_is_forgotten(host: Host, first: str) -> None:
    host.serve(FAR)
    host.sent(packet(NEAR, VIP, SYN))
    sides = [(host.sent, NEAR, VIP, (5555, 80)), (host.came, FAR, NEAR, (80, 5555))]
    (one, *of_one), (other, *of_other) = sides if first == "client" else sides[::-1]
    steps = [
        one(packet(of_one[0], of_one[1], FIN | ACK, of_one[2], seq=2**32 - 3, heard=200, payload=b"12345")),
        other(packet(of_other[0], of_other[1], FIN | ACK, of_other[2], seq=200, heard=3)),
    ]
    assert [(said["verdict"], said["flows"]) for said in steps] == [(TAKEN, 2)] * 2
    said = one(packet(of_one[0], of_one[1], ACK, of_one[2], seq=3, heard=201))
    assert (said["verdict"], said["flows"]) == (TAKEN, 0)


def test_what_was_lost_before_an_end_is_sent_again(host: Host) -> None:
    """The client has ended first and reads on; of the answer a part is lost, and its end is not."""
    host.serve(FAR)
    host.sent(packet(NEAR, VIP, SYN))
    back = (80, 5555)
    host.sent(packet(NEAR, VIP, FIN | ACK, seq=100, heard=200))
    host.came(packet(FAR, NEAR, FIN | ACK, back, seq=300, heard=101, payload=b"the end"))
    for _ in range(2):  # what it has not heard yet
        said = host.sent(packet(NEAR, VIP, ACK, seq=101, heard=200))
        assert (said["verdict"], said["flows"]) == (TAKEN, 2)
    said = host.came(packet(FAR, NEAR, ACK, back, seq=200, heard=101, payload=b"x" * 100))
    assert said["verdict"] == TAKEN
    assert addresses(said) == (VIP, NEAR)
    said = host.sent(packet(NEAR, VIP, ACK, seq=101, heard=308))
    assert (said["verdict"], said["flows"]) == (TAKEN, 0)


def test_a_connection_to_a_service_that_is_reset_is_forgotten(host: Host) -> None:
    host.serve(FAR)
    for resets in (
        lambda: host.sent(packet(NEAR, VIP, RST)),
        lambda: host.came(packet(FAR, NEAR, RST | ACK, (80, 5555))),
    ):
        assert host.sent(packet(NEAR, VIP, SYN))["flows"] == 2
        said = resets()
        assert (said["verdict"], said["flows"]) == (TAKEN, 0)


def test_a_task_of_this_host_is_led_to_where_it_was_seen(host: Host) -> None:
    """Here all is on one port; the client's and the task's are two."""
    there = host.fresh()
    host.fresh(PORT, there)
    host.serve(HERE)
    host.home(HERE, there)
    said = host.sent(packet(NEAR, VIP, SYN))
    assert (said["verdict"], said["flows"]) == (TAKEN, 2)
    assert addresses(said) == (NEAR, HERE)
    assert macs(said) == f"{HERE_MAC}:{OWN_MAC}"
    assert host.came(packet(HERE, NEAR, ACK, (80, 5555)))["verdict"] == OTHER_WAY, "it comes by no tunnel"
    for ports, home in (((PORT,), there), ((PORT, NO_DEVICE), NO_DEVICE)):  # its port has gone
        host.fresh(*ports)
        host.home(HERE, home)
        host.serve(HERE)
        assert host.sent(packet(NEAR, VIP, SYN))["verdict"] == OTHER_WAY


def test_where_a_port_has_gone_without_a_word_its_packets_go_the_other_way(host: Host) -> None:
    """Its container may be back by another one: nobody says so where no skepd runs."""
    host.fresh(PORT, NO_DEVICE)
    host.home(NEAR, NO_DEVICE)
    assert host.came(packet(FAR, NEAR, SYN, (4444, 80)))["verdict"] == OTHER_WAY
    host.flow(NEAR, FAR, (5555, 80), NO_DEVICE)
    assert host.came(packet(FAR, NEAR, ACK, (80, 5555)))["verdict"] == OTHER_WAY
    host.flow(NEAR, FAR, (5555, 80), PORT)
    assert host.came(packet(FAR, NEAR, ACK, (80, 5555)))["verdict"] == TAKEN


@pytest.mark.parametrize("to", [HERE, UNANSWERED])
def test_what_is_not_at_another_nodes_bridge_is_not_sent_there(host: Host, to: str) -> None:
    """A container that came here from another node, whose address others here know by the bridge's MAC still:
    the host has asked for it by ARP. Kernels before 6.3 also find who has not answered: without a MAC."""
    assert host.sent(packet(NEAR, to, SYN))["verdict"] == OTHER_WAY
    host.flow(NEAR, to, (5555, 80), PORT)
    assert host.sent(packet(NEAR, to, ACK))["verdict"] == OTHER_WAY, "it was at another node's when it began"
