"""Many neighbours at once, in netlink's own words: a network of a thousand endpoints has two thousand, for
each of which pyroute2 takes a quarter of a millisecond, and this a twentieth of that. Entries of bridges' and
tunnels' tables are neighbours to netlink, too. And the one word of ARP by which containers hear that an
address is somewhere else now.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence

from msgspec import Struct
from pyroute2.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
)
from pyroute2.netlink.rtnl import RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH
from pyroute2.netlink.rtnl.ndmsg import NUD_PERMANENT

_MESSAGE = struct.Struct("=IHHII")  # its length, type, flags, number, and whose it is
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # its family, device, state, flags, type
_ATTRIBUTE = struct.Struct("=HH")
_DST, _LLADDR = 1, 2
AT_ONCE = 100  # messages: their answers, 800 bytes each as the kernel counts, fit into a socket's 200 kB
_READ_BYTES = 64 * 1024  # a dump comes in pieces of 32 kB at most
_ARP = 0x0806
_ARP_REPLY = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2)  # Ethernet, IPv4; an answer that nobody asked for


class Entry(Struct, frozen=True):
    """A neighbour that stays until it is taken away; `device` is a number. Of a bridge's or a tunnel's table
    (`AF_BRIDGE`, with a flag that says which) the address may be empty."""

    device: int
    address: str
    mac: str
    family: int = socket.AF_INET
    state: int = NUD_PERMANENT
    flags: int = 0


class Found(Struct, frozen=True):
    """A neighbour of IPv4 as the kernel has it, or looks for it: then without a MAC address."""

    device: int
    address: str
    mac: str
    state: int


def permanent() -> Iterator[Entry]:
    """Yields those of all devices. Errors: `OSError`."""
    with _opened() as line:
        body = _NEIGHBOUR.pack(socket.AF_INET, 0, 0, 0, 0)
        line.send(_message(RTM_GETNEIGH, NLM_F_REQUEST | NLM_F_DUMP, 1, body))
        while True:
            for kind, data in messages(line.recv(_READ_BYTES)):
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    raise _refused(struct.unpack_from("=i", data)[0])
                found = read(data)
                if found is not None and found.state == NUD_PERMANENT and found.mac:
                    yield Entry(found.device, found.address, found.mac)


def put(entries: Sequence[Entry]) -> list[int]:
    """Makes them, or has them as they are to be. Returns an error's number for each, 0 where there was none.
    Errors: `OSError`."""
    flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE
    return _done(RTM_NEWNEIGH, flags, entries)


def drop(entries: Sequence[Entry]) -> list[int]:
    """Takes them away; returns and errors as `put`."""
    return _done(RTM_DELNEIGH, NLM_F_REQUEST | NLM_F_ACK, entries)


def announce(bridge: str, mac: str, addresses: Sequence[str]) -> None:
    """Tells a bridge's containers who has these addresses from now on: who knows another one for them takes
    that. Where this is not possible they find out by themselves, in half a minute. Errors: `OSError`."""
    own = bytes.fromhex(mac.replace(":", ""))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as line:
        line.bind((bridge, _ARP))
        for address in addresses:
            its = socket.inet_aton(address)
            head = b"\xff" * 6 + own + struct.pack("!H", _ARP)
            line.send(head + _ARP_REPLY + own + its + own + its)  # both ends are the same: Linux wants it so


def _opened() -> socket.socket:
    line = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    line.bind((0, 0))
    return line


def _done(kind: int, flags: int, entries: Sequence[Entry]) -> list[int]:
    errors = [0] * len(entries)
    with _opened() as line:
        for begin in range(0, len(entries), AT_ONCE):
            part = entries[begin : begin + AT_ONCE]
            line.send(b"".join(_message(kind, flags, begin + n, _body(each)) for n, each in enumerate(part)))
            answered = 0
            while answered < len(part):
                data = line.recv(_READ_BYTES)
                for number, error in _acknowledged(data):
                    errors[number] = -error
                    answered += 1
    return errors


def _body(entry: Entry) -> bytes:
    mac = bytes.fromhex(entry.mac.replace(":", ""))
    head = _NEIGHBOUR.pack(entry.family, entry.device, entry.state, entry.flags, 0)
    address = _attribute(_DST, socket.inet_aton(entry.address)) if entry.address else b""
    return head + address + _attribute(_LLADDR, mac)


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _message(kind: int, flags: int, number: int, body: bytes) -> bytes:
    return _MESSAGE.pack(_MESSAGE.size + len(body), kind, flags, number, 0) + body


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields each message's type and body."""
    while data:
        length, kind, _, _, _ = _MESSAGE.unpack_from(data)
        yield kind, data[_MESSAGE.size : length]
        data = data[-(-length // 4) * 4 :]


def read(body: bytes) -> Found | None:
    """Returns the neighbour that a message is about; None where it is of something else."""
    family, device, state, _, _ = _NEIGHBOUR.unpack_from(body)
    attributes = dict(_attributes(body[_NEIGHBOUR.size :]))
    if family != socket.AF_INET or _DST not in attributes:
        return None
    return Found(device, socket.inet_ntoa(attributes[_DST]), attributes.get(_LLADDR, b"").hex(":"), state)


def _acknowledged(data: bytes) -> Iterator[tuple[int, int]]:
    """Yields the number of each message that is answered, and its error, below 0, or 0."""
    for kind, body in messages(data):
        if kind == NLMSG_ERROR:
            (error,) = struct.unpack_from("=i", body)
            yield _MESSAGE.unpack_from(body, 4)[3], error


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[-(-length // 4) * 4 :]


def _refused(error: int) -> OSError:
    return OSError(-error, "netlink does not say who the neighbours are")
