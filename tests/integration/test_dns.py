"""Names as containers ask for them: real sockets, in namespaces, and servers that are asked in turn."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import dns.exception
import dns.message
import dns.query
import pytest
from msgspec.structs import replace

from skep.model.overlay import Overlay, OverlayEndpoint, OverlayNetwork
from skep.network.dns_forward import LISTENER_UNDER_WAY_MAX
from skep.network.dns_server import (
    ASKER_CONNECTIONS_MAX,
    ASKER_SLICE_MAX,
    IDLE_S,
    LISTENER_SLICE_MAX,
    SLICE_S,
)

from .dns_hosts import (
    BACK,
    BRIDGE,
    FAILING,
    GATEWAY,
    NOBODY,
    OTHER_GATEWAY,
    OWN,
    RESOLVER,
    SILENT,
    STRANGER,
    WEB,
    DnsHost,
    inside,
    service,
    wait_until,
)

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

TASKS = service("web", WEB, BACK, aliases=("www",))
MANY = service("many", *(f"10.0.9.{n}" for n in range(50, 150)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DnsHost]:
    host = DnsHost(tmp_path_factory.mktemp("dns"))
    try:
        yield host.start()
    finally:
        host.stop()


@pytest.fixture
def host(made: DnsHost) -> Iterator[DnsHost]:
    """A host whose server knows two services. It says nothing in its log, whatever it was asked."""
    made.server.told(TASKS, MANY)
    made.server.serve()
    made.name_servers(RESOLVER)
    yield made
    made.server.say("ask_for", WEB, [])
    assert made.server.failures() == []
    assert made.server.log() == ""
    for each in made.resolvers:
        each.stop()
    made.resolvers.clear()


def test_a_container_finds_others_of_its_network(host: DnsHost) -> None:
    for tcp in (False, True):
        for name in ("web", "WEB.", "tasks.web", "www", "web.app"):
            found = host.ask(name, tcp=tcp)
            assert (found.code, sorted(found.records), found.ttls) == ("NOERROR", [WEB, BACK], {1}), name
        assert host.ask("web.2.t", tcp=tcp).records == [BACK]
        assert host.ask("12.9.0.10.in-addr.arpa", "PTR", tcp=tcp).records == ["web.2.t.app."]
        for kind in ("AAAA", "TXT", "SRV", "HTTPS"):
            assert repr(host.ask("web", kind, tcp=tcp)) == "NOERROR []", kind
    assert {host.ask("web").records[0] for _ in range(4)} == {WEB, BACK}, "each comes first in its turn"


def test_a_stranger_and_the_host_itself_hear_nothing_of_a_network(host: DnsHost) -> None:
    resolver = host.resolver()
    for space in (host.stranger, host.space):
        at = GATEWAY
        found = host.ask("far.example", space=space, at=at)
        assert (found.code, resolver.asked) == ("REFUSED", []), space.name
    found = host.ask("web", space=host.stranger)
    assert (found.code, found.bytes) == ("REFUSED", 12), "his question was not even read"


def test_what_does_not_fit_is_cut_and_comes_over_tcp(host: DnsHost) -> None:
    short, longer = host.ask("many"), host.ask("many", payload=1232)
    assert (short.is_cut, longer.is_cut) == (True, True)
    assert short.bytes <= 512 < longer.bytes <= 1232
    assert len(short.records) > 25, "who does not come again has these"
    whole = host.ask("many", tcp=True)
    assert (len(set(whole.records)), whole.is_cut) == (100, False)


def test_who_asks_before_the_names_are_known_is_sent_on_at_once(host: DnsHost) -> None:
    late = host.begin()
    address = "10.0.9.77"  # which the bridge gets when it is there already
    late.serve(gateway=address)
    host.space.run("ip", "addr", "add", f"{address}/24", "dev", BRIDGE)
    for _ in range(2):
        began = time.monotonic()
        assert inside(host.web, lambda: _is_refused(address))
        with pytest.raises(OSError, match="refused"):
            host.ask("web", at=address, tcp=True)
        assert time.monotonic() - began < 1
        time.sleep(0.5)  # it has been looked at again
    late.told(TASKS)
    assert [sorted(host.ask("web", at=address, tcp=tcp).records) for tcp in (False, True)] == [
        [WEB, BACK]
    ] * 2
    late.say("stop", "net")
    with pytest.raises(OSError, match="refused"):
        host.ask("web", at=address, tcp=True)


def test_what_is_not_known_here_others_are_asked(host: DnsHost) -> None:
    resolver = host.resolver()
    for tcp in (False, True):
        assert repr(host.ask("far.example", tcp=tcp)) == "NOERROR ['192.0.2.7']"
        assert host.ask("far.example", tcp=tcp).ttls == {77}
        assert host.ask("none.example", tcp=tcp).code == "NXDOMAIN"
    assert [how for *_, how in resolver.asked] == ["udp"] * 6
    resolver.asked.clear()
    for _ in range(20):
        host.ask("far.example")
    for seen in ({number for _, number, _, _ in resolver.asked}, {port for *_, port, _ in resolver.asked}):
        assert len(seen) >= 18, "numbers and ports are each question's own"


def test_a_long_answer_of_others_comes_by_the_way_that_it_was_asked_for(host: DnsHost) -> None:
    resolver = host.resolver()
    assert host.ask("big.example").is_cut
    assert [how for *_, how in resolver.asked] == ["udp"]
    assert len(host.ask("big.example", tcp=True).records) == 200
    assert [how for *_, how in resolver.asked] == ["udp", "udp", "tcp"]
    too_long = host.ask("long.example")  # of a server that does not look at what is taken
    assert (too_long.is_cut, too_long.bytes <= 512) == (True, True)
    assert len(host.ask("long.example", tcp=True).records) == 200


def test_only_the_server_that_was_asked_can_answer(host: DnsHost) -> None:
    resolver = host.resolver()
    assert host.ask("forged.example").records == ["192.0.2.7"]
    assert len(resolver.asked) == 1


@pytest.mark.parametrize("first", [SILENT, FAILING, NOBODY])
def test_the_next_server_is_asked_where_one_has_no_answer(host: DnsHost, first: str) -> None:
    for address in {first, RESOLVER} - {NOBODY}:
        host.resolver(address)
    host.name_servers(first, RESOLVER)
    began = time.monotonic()
    assert host.ask("far.example").records == ["192.0.2.7"]
    assert time.monotonic() - began < (2.5 if first == SILENT else 1)


def test_who_asks_hears_that_nobody_answered(host: DnsHost) -> None:
    silent = host.resolver(SILENT)
    host.name_servers(SILENT)
    began = time.monotonic()
    assert host.ask("far.example").code == "SERVFAIL"
    assert time.monotonic() - began < 4, "before who asks gives it up"
    assert len(silent.asked) == 2, "a packet may be lost"
    host.resolver(FAILING)
    host.name_servers(FAILING)
    assert host.ask("far.example").code == "SERVFAIL"
    host.name_servers(GATEWAY)  # which would ask itself, for ever
    assert host.ask("far.example").code == "SERVFAIL"


def test_a_users_own_servers_are_asked_for_his_container(host: DnsHost) -> None:
    # Loopback addresses are the container's own: the host is not asked for them.
    host.space.run("ip", "addr", "replace", "10.0.9.200/24", "dev", BRIDGE)
    own, common = host.resolver("10.0.9.200"), host.resolver()
    host.server.say("ask_for", WEB, [OWN, "ns.example", "10.0.9.200"])
    assert host.ask("far.example").records == ["192.0.2.7"]
    assert (len(own.asked), len(common.asked)) == (1, 0)
    assert host.ask("web").code == "NOERROR"
    host.ask("far.example", space=host.back)
    assert (len(own.asked), len(common.asked)) == (1, 1)


def test_who_is_on_internal_networks_only_asks_nobody_outside(host: DnsHost) -> None:
    resolver = host.resolver()
    host.server.serve(is_internal=True)
    assert host.ask("some-secret.far.example").code == "REFUSED"
    assert (host.ask("web").code, resolver.asked) == ("NOERROR", [])
    # He is on another one, too: nothing is served there, as the engine asks at his first network only.
    second = OverlayNetwork("other", "172.30.7.0/24", 4099, 4789, "other")
    endpoint = OverlayEndpoint(STRANGER, "n1", TASKS.endpoints[0].name)
    also = Overlay(second, {}, {TASKS.id: replace(TASKS, endpoints=(endpoint,))})
    host.server.told(TASKS, MANY, others=[also])
    assert host.ask("web.other").records == [STRANGER], "he is on both"
    assert host.ask("some-secret.far.example").code == "REFUSED"
    host.server.say("serve", "other", OTHER_GATEWAY, True)
    assert host.ask("some-secret.far.example").code == "REFUSED"
    assert resolver.asked == []
    host.server.say("serve", "other", OTHER_GATEWAY, False)
    assert host.ask("far.example").code == "NOERROR", "the other one leads outside"
    host.server.say("stop", "other")
    host.server.serve()


def test_what_is_no_question_is_refused_or_passed_over(host: DnsHost) -> None:
    rng = random.Random(14)
    asked = dns.message.make_query("web", "A").to_wire()
    update, notify = (bytes([*asked[:2], asked[2] | kind << 3, *asked[3:]]) for kind in (5, 4))
    zone = dns.message.make_query("app", "AXFR").to_wire()
    two = asked[:4] + b"\0\2" + asked[6:] + asked[12:]
    chaos = dns.message.make_query("version.bind", "TXT", "CH").to_wire()
    codes = {"NOTIMP": [update, notify], "REFUSED": [zone, chaos], "FORMERR": [asked[:-1], asked + b"x", two]}
    for code, wires in codes.items():
        for wire in wires:
            heard = inside(host.web, lambda wire=wire: _exchange(wire))  # type: ignore[misc]
            assert dns.message.from_wire(heard, question_only=True).rcode().name == code
    assert inside(host.web, lambda: _exchange(asked[:11])) == b"", "shorter than a header"
    assert inside(host.web, lambda: _exchange(asked[:2] + b"\x80" + asked[3:])) == b"", "an answer"
    assert inside(host.web, lambda: _exchange(asked + bytes(5000))) == b"", "longer than any question"

    def noise() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
            for number in range(400):
                wire = bytearray(asked + rng.randbytes(number % 40))
                for _ in range(number % 9):
                    wire[rng.randrange(len(wire))] = rng.randrange(256)
                made.sendto(wire, (GATEWAY, 53))
                time.sleep(0.002)

    inside(host.back, noise)
    assert sorted(host.ask("web").records) == [WEB, BACK]


@pytest.mark.parametrize("addresses", [1, 8])
def test_one_that_asks_all_the_time_does_not_keep_others_from_an_answer(
    host: DnsHost, addresses: int
) -> None:
    made_up = [BACK, *_made_up(host, addresses - 1)]
    asked = dns.message.make_query("web", "A").to_wire()

    def flood() -> tuple[int, float]:
        """Returns how many of 8,000 questions were answered, and how long they took."""
        began, answers = time.monotonic(), 0
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(_from(each)) for each in made_up]
            for number in range(8000):
                made = sockets[number % addresses]
                made.sendto(asked, (GATEWAY, 53))
                if number % 20 == 19:
                    time.sleep(0.004)
                with contextlib.suppress(BlockingIOError):
                    while made.recv(512):
                        answers += 1
            return answers, time.monotonic() - began

    with ThreadPoolExecutor() as pool:
        flooding = pool.submit(inside, host.back, flood)
        # As clients do: again, when nothing came.
        assert all(sorted(_asked_again(host)) == [WEB, BACK] for _ in range(5))
        answers, took_s = flooding.result()
    slice_max = ASKER_SLICE_MAX if addresses == 1 else LISTENER_SLICE_MAX
    assert 0 < answers <= slice_max * (took_s / SLICE_S + 2)


@pytest.mark.parametrize("at", [GATEWAY, OTHER_GATEWAY])
def test_one_network_does_not_have_all_that_may_be_asked_of_others(host: DnsHost, at: str) -> None:
    network = OverlayNetwork("other", "172.30.7.0/24", 4099, 4789, "other")
    host.server.told(TASKS, others=[Overlay(network, {}, {})])
    host.server.say("serve", "other", OTHER_GATEWAY, False)
    silent = host.resolver(SILENT)
    host.resolver()
    host.name_servers(SILENT)
    made_up = _made_up(host, 30)

    def ask_much() -> None:
        for address in made_up:
            with _from(address) as made:
                for number in range(16):
                    made.sendto(dns.message.make_query(f"n{number}.example", "A").to_wire(), (at, 53))
            time.sleep(0.02)

    host.back.run("ip", "route", "replace", f"{OTHER_GATEWAY}/32", "via", GATEWAY)
    inside(host.back, ask_much)
    host.name_servers(RESOLVER)
    has_all = at == GATEWAY
    assert host.ask("far.example").code == ("SERVFAIL" if has_all else "NOERROR")
    assert host.ask("far.example", space=host.stranger, at=OTHER_GATEWAY).code == "NOERROR"
    assert 0 < len({(name, number) for name, number, *_ in silent.asked}) <= 2 * LISTENER_UNDER_WAY_MAX
    host.server.say("stop", "other")
    wait_until("it is over", lambda: host.ask("far.example").code == "NOERROR")


def _made_up(host: DnsHost, count: int) -> list[str]:
    """Returns addresses that a container gave itself."""
    found = [f"10.0.9.{n}" for n in range(160, 160 + count)]
    for each in found:
        host.back.run("ip", "addr", "replace", f"{each}/24", "dev", "eth0")
    return found


def _from(address: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.bind((address, 0))
    return made


def _asked_again(host: DnsHost) -> list[str]:
    for _ in range(10):
        try:
            return host.ask("web", wait_s=1.0).records
        except dns.exception.Timeout:
            continue
    return []


def test_connections_are_few_and_do_not_last(host: DnsHost) -> None:
    def connect() -> list[socket.socket]:
        return [socket.create_connection((GATEWAY, 53), 3) for _ in range(20)]

    made = inside(host.back, connect)
    began = time.monotonic()
    time.sleep(0.3)
    assert sum(_is_closed(each) for each in made) == 20 - ASKER_CONNECTIONS_MAX
    assert sorted(host.ask("web", tcp=True).records) == [WEB, BACK], "another container"
    wait_until("they are closed", lambda: all(_is_closed(each) for each in made), IDLE_S + 3)
    assert time.monotonic() - began > IDLE_S - 1
    for each in made:
        each.close()
    assert sorted(host.ask("web", tcp=True, space=host.back).records) == [WEB, BACK]

    def unread() -> socket.socket:
        """Asks for long answers, and reads none."""
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.connect((GATEWAY, 53))
        asked = dns.message.make_query("many", "A").to_wire()
        made.sendall((len(asked).to_bytes(2) + asked) * 90)
        return made

    silent = inside(host.back, unread)
    established = ("ss", "-Htn", "state", "established", "sport = :53")
    wait_until("it is given up", lambda: not host.space.run(*established).strip(), IDLE_S + 5)
    silent.close()

    def two_on_one() -> list[str]:
        with socket.create_connection((GATEWAY, 53), 3) as made:
            asked = dns.message.make_query("web", "A")
            return [
                dns.query.tcp(asked, GATEWAY, timeout=3, sock=made).answer[0].to_text().split()[0]
                for _ in range(2)
            ]

    assert inside(host.back, two_on_one) == ["web.", "web."]


def test_who_else_has_the_port_is_said_until_he_lets_it_go(host: DnsHost) -> None:
    late = host.begin()
    late.told(TASKS)
    hold = (
        "import socket, sys; made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        "made.bind(('10.0.9.78', 53)); print('held', flush=True); sys.stdin.read()"
    )
    host.space.run("ip", "addr", "replace", "10.0.9.78/24", "dev", BRIDGE)
    pipe = subprocess.PIPE
    command = [*host.space.prefix, sys.executable, "-c", hold]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        late.serve(gateway="10.0.9.78")
        wait_until("it is said", lambda: bool(late.failures()))
        (said,) = late.failures()
        assert f"(process {holder.pid}), at 10.0.9.78:53. Have it answer" in said
        assert "dnsmasq: bind-dynamic" in said
        assert "Traceback" not in late.log()
        holder.kill()
    wait_until("it is had", lambda: late.failures() == [])
    assert sorted(host.ask("web", at="10.0.9.78").records) == [WEB, BACK]


def test_a_host_that_drops_what_it_does_not_know_lets_questions_in(host: DnsHost) -> None:
    def rules() -> set[str]:
        found = host.space.run("iptables", "-w", "-S", "INPUT").splitlines()
        return {each for each in found if "--dport 53" in each}

    def iptables(*arguments: str) -> None:
        host.space.run("iptables", "-w", *arguments)

    def forwarded() -> list[str]:
        return host.space.run("iptables", "-w", "-S", "FORWARD").splitlines()

    for each in host.servers:
        if each is not host.server:
            each.stop()
    assert rules() == set(), "nothing is dropped"
    host.web.run("ip", "route", "replace", f"{OTHER_GATEWAY}/32", "via", GATEWAY)
    host.resolver(OTHER_GATEWAY)
    assert host.ask("far.example", at=OTHER_GATEWAY).code == "NOERROR"
    host.space.run("iptables", "-w", "-P", "INPUT", "DROP")
    try:
        for _ in range(2):
            wait_until("they are let in", lambda: len(rules()) == 2)
            for tcp in (False, True):
                assert sorted(host.ask("web", tcp=tcp).records) == [WEB, BACK]
                with pytest.raises((dns.exception.Timeout, TimeoutError)):  # what else the host has there
                    host.ask("far.example", at=OTHER_GATEWAY, tcp=tcp, wait_s=0.5)
            host.space.run("iptables", "-w", "-F", "INPUT")  # as a firewall that is loaded anew
        wait_until("they are let in", lambda: len(rules()) == 2)
        # Another daemon may have had the same thought in the same moment.
        host.space.run("iptables", "-w", "-I", *min(rules()).split()[1:])
        # An engine's rules that somebody flushed, and not what they stood against.
        between = "-A FORWARD -i skb+ -o skb+ -j ACCEPT"
        iptables("-P", "FORWARD", "DROP")
        wait_until("what goes between containers is let through", lambda: between in forwarded())
        iptables("-N", "DOCKER-USER")
        wait_until("the engine has its own again", lambda: between not in forwarded())
        iptables("-X", "DOCKER-USER")
        wait_until("what goes between containers is let through", lambda: between in forwarded())
        host.server.say("clear")
        assert rules() == set()
        assert between not in forwarded()
    finally:
        iptables("-P", "FORWARD", "ACCEPT")
        host.space.run("iptables", "-w", "-P", "INPUT", "ACCEPT")
        host.server.stop()
        host.server = host.begin()


def test_daemons_that_share_a_bridge_all_answer_there(host: DnsHost) -> None:
    second = host.begin()
    second.told(TASKS)
    second.serve()
    assert second.failures() == []
    for number in range(20):
        assert sorted(host.ask("web", tcp=number % 2 == 1).records) == [WEB, BACK]
    second.say("stop", "net")
    for number in range(20):
        assert sorted(host.ask("web", tcp=number % 2 == 1).records) == [WEB, BACK]


def _exchange(wire: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.settimeout(0.5)
        made.sendto(wire, (GATEWAY, 53))
        try:
            return made.recv(65535)
        except TimeoutError:
            return b""


def _is_refused(address: str) -> bool:
    """True where the kernel says that nobody is there: an engine asks as this does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.settimeout(3)
        made.connect((address, 53))
        made.send(dns.message.make_query("web", "A").to_wire())
        try:
            return not made.recv(512)
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            return False


def _is_closed(made: socket.socket) -> bool:
    made.setblocking(False)
    try:
        return made.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
