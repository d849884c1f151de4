"""Published ports are held: whose they stay, and what of connections is in nobody's way. This machine's own."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from skep.network.ports import HeldPorts


def server(port: int = 0) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    return made


def connected() -> tuple[socket.socket, socket.socket, socket.socket]:
    """Returns a server, a client of it, and the server's end of their connection."""
    listening = server()
    listening.listen()
    client = socket.create_connection(listening.getsockname())
    return listening, client, listening.accept()[0]


@pytest.fixture
def held() -> Iterator[HeldPorts]:
    made = HeldPorts()
    yield made
    made.close()


def can_be_had(port: int) -> bool:
    """True where a server could have it, whatever it tries."""
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        with contextlib.suppress(OSError), socket.socket() as made:
            made.setsockopt(socket.SOL_SOCKET, option, 1)
            made.bind(("0.0.0.0", port))
            made.listen()
            return True
    return False


def test_a_port_of_a_server_stays_its_own(held: HeldPorts) -> None:
    listening, client, accepted = connected()
    port = listening.getsockname()[1]
    with listening, client, accepted:
        refused = held.hold([("tcp", port)])
        assert refused["tcp", port].endswith(f"(process {os.getpid()}), at 127.0.0.1:{port}")
    with server() as bound:
        port = bound.getsockname()[1]
        assert held.hold([("tcp", port)])["tcp", port].startswith("somebody who cannot be seen")


@pytest.mark.parametrize("is_open", [False, True])
def test_what_connections_a_server_has_left_is_no_reason_to_wait(held: HeldPorts, is_open: bool) -> None:
    """One that has ended keeps its port for a minute."""
    listening, client, accepted = connected()
    port = listening.getsockname()[1]
    listening.close()
    if not is_open:
        accepted.close()  # first, so that this end waits
        assert client.recv(1) == b""
        client.close()
    assert held.hold([("tcp", port)]) == {}
    assert not can_be_had(port)
    assert held.hold([("tcp", port)]) == {}
    client.close()
    accepted.close()


def test_a_clients_own_port_is_published_and_held_when_the_client_has_ended(held: HeldPorts) -> None:
    listening, client, accepted = connected()
    port = client.getsockname()[1]
    assert held.hold([("tcp", port)]) == {}
    accepted.close()  # first: the other end waits, and not the client's
    assert client.recv(1) == b""
    client.close()
    listening.close()
    assert held.hold([("tcp", port)]) == {}
    assert not can_be_had(port)


def test_a_datagram_clients_port_too(held: HeldPorts) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as other, socket.socket(type=socket.SOCK_DGRAM) as client:
        other.bind(("127.0.0.1", 0))
        client.connect(other.getsockname())
        port, taken = client.getsockname()[1], other.getsockname()[1]
        assert held.hold([("udp", port)]) == {}
        assert f"(process {os.getpid()})" in held.hold([("udp", taken)])["udp", taken]


def test_what_another_holds_is_refused(held: HeldPorts) -> None:
    with server() as free:
        port = free.getsockname()[1]
    other = HeldPorts()
    assert other.hold([("tcp", port)]) == {}
    assert ("tcp", port) in held.hold([("tcp", port)])
    other.close()
    assert held.hold([("tcp", port)]) == {}
