"""Netlink's messages as bytes: many at once, where pyroute2 takes half a millisecond for each."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence

from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR

_MESSAGE = struct.Struct("=IHHII")  # its length, type, flags, number, and whose it is
_ATTRIBUTE, _KIND = struct.Struct("=HH"), 0x3FFF  # two bits say how it is written
AT_ONCE = 100  # messages: their answers, 800 bytes each as the kernel counts, fit into a socket's 200 kB
_READ_BYTES = 64 * 1024  # a dump comes in pieces of 32 kB at most


def opened(protocol: int) -> socket.socket:
    line = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    line.bind((0, 0))
    return line


def done(line: socket.socket, kind: int, flags: int, bodies: Sequence[bytes]) -> list[int]:
    """Has the kernel do all of them; `flags` ask for acknowledgements. Returns an error's number for each, 0
    where there was none. Errors: `OSError`."""
    errors = [0] * len(bodies)
    for begin in range(0, len(bodies), AT_ONCE):
        part = bodies[begin : begin + AT_ONCE]
        line.send(b"".join(_message(kind, flags, begin + n, body) for n, body in enumerate(part)))
        answered = 0
        while answered < len(part):
            for number, error in _acknowledged(line.recv(_READ_BYTES)):
                errors[number] = -error
                answered += 1
    return errors


def dumped(line: socket.socket, kind: int, body: bytes) -> Iterator[bytes]:
    """Yields the bodies of all that the kernel has. Errors: `OSError`."""
    line.send(_message(kind, NLM_F_REQUEST | NLM_F_DUMP, 1, body))
    while True:
        for kind_of_answer, data in messages(line.recv(_READ_BYTES)):
            if kind_of_answer == NLMSG_DONE:
                return
            if kind_of_answer == NLMSG_ERROR:
                raise _refused(data)
            yield data


def asked(line: socket.socket, kind: int, body: bytes) -> bytes:
    """Returns the body of the one answer. Errors: `OSError`."""
    line.send(_message(kind, NLM_F_REQUEST, 1, body))
    for kind_of_answer, data in messages(line.recv(_READ_BYTES)):
        if kind_of_answer == NLMSG_ERROR:
            raise _refused(data)
        return data
    raise OSError("netlink's answer is empty")


def attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind & _KIND, data[_ATTRIBUTE.size : length]
        data = data[-(-length // 4) * 4 :]


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields each message's type and body."""
    while data:
        length, kind, _, _, _ = _MESSAGE.unpack_from(data)
        yield kind, data[_MESSAGE.size : length]
        data = data[-(-length // 4) * 4 :]


def _message(kind: int, flags: int, number: int, body: bytes) -> bytes:
    return _MESSAGE.pack(_MESSAGE.size + len(body), kind, flags, number, 0) + body


def _acknowledged(data: bytes) -> Iterator[tuple[int, int]]:
    """Yields the number of each message that is answered, and its error, below 0, or 0."""
    for kind, body in messages(data):
        if kind == NLMSG_ERROR:
            (error,) = struct.unpack_from("=i", body)
            yield _MESSAGE.unpack_from(body, 4)[3], error


def _refused(body: bytes) -> OSError:
    return OSError(-struct.unpack_from("=i", body)[0], "netlink does not say what there is")
