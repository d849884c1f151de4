"""Which connections begin, as a kernel shows them: to these addresses, TCP's, and the first packets only."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from skep.network import arrivals
from skep.network.arrivals import Arrivals, first_packets

pytestmark = pytest.mark.root
OWN, OTHER = "127.0.83.1", "127.0.83.2"  # loopback's, and nobody else's


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    with socket.create_server((OWN, 0), backlog=128) as made:
        yield made.getsockname()


@pytest.fixture
def watched() -> Iterator[Arrivals]:
    made = Arrivals([OWN])
    yield made
    made.close()


def test_a_connection_is_seen_once(watched: Arrivals, server: tuple[str, int]) -> None:
    assert not watched.came()
    with socket.create_connection(server) as made:
        assert watched.came()
        assert not watched.came()
        made.sendall(b"goes on")
    assert not watched.came(), "what it says, and that it ends, is nothing new"


def test_one_that_is_refused_is_seen_too(watched: Arrivals) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((OWN, 9))
    assert watched.came()


def test_what_is_for_others_is_not(watched: Arrivals) -> None:
    with socket.create_server((OTHER, 0)) as other, socket.create_connection(other.getsockname()):
        assert not watched.came()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as packets:
        packets.sendto(bytes([2]) * 100, (OWN, 9))  # as a SYN, were it TCP
    assert not watched.came()


def test_each_of_several_addresses(server: tuple[str, int]) -> None:
    for addresses in ([OWN, "127.0.83.9"], ["127.0.83.9", OWN], ["127.0.83.8", OWN, "127.0.83.9"]):
        watched = Arrivals(addresses)
        socket.create_connection(server).close()
        assert watched.came()
        watched.close()
        assert not watched.came()


def test_many_are_as_good_as_one(watched: Arrivals, server: tuple[str, int]) -> None:
    for _ in range(300):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((OWN, 9))
    assert watched.came()
    assert not watched.came()


def test_a_filter_has_an_end() -> None:
    many = list(range(arrivals.ADDRESSES_MAX))
    program = first_packets(many)
    for n, (_, if_so, if_not, _) in enumerate(program):
        assert max(if_so, if_not) < 256
        assert n + 1 + max(if_so, if_not) <= len(program)
    Arrivals([f"127.0.84.{n}" for n in range(200)]).close()


def test_nobody_waits_for_the_kernel_to_close_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for all processors, 12 ms and more: several tasks that end at once would hold the loop up."""
    may_close, is_closed = threading.Event(), threading.Event()

    class Slow:
        def close(self) -> None:
            assert may_close.wait(10)
            is_closed.set()

    monkeypatch.setattr(arrivals, "_opened", lambda addresses: Slow())
    Arrivals([OWN]).close()
    assert not is_closed.is_set()
    may_close.set()
    assert is_closed.wait(10)


def test_who_may_not_look_sees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*of: object) -> socket.socket:
        raise PermissionError("not without CAP_NET_RAW")

    monkeypatch.setattr(socket, "socket", refuses)
    watched = Arrivals([OWN])
    assert not watched.came()
    watched.close()
    assert not Arrivals([]).came()
