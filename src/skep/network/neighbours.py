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
from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST
from pyroute2.netlink.rtnl import RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH
from pyroute2.netlink.rtnl.ndmsg import NUD_PERMANENT

from skep.network.netlink_wire import attribute, attributes, done, dumped, opened

_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # its family, device, state, flags, type
_DST, _LLADDR = 1, 2
_ARP = 0x0806
_ARP_REPLY = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2)  # Ethernet, IPv4; an answer that nobody asked for


class Entry(Struct, frozen=True, gc=False):
    """A neighbour that stays until it is taken away; `device` is a number. Of a bridge's or a tunnel's table
    (`AF_BRIDGE`, with a flag that says which) the address may be empty."""

    device: int
    address: str
    mac: str
    family: int = socket.AF_INET
    state: int = NUD_PERMANENT
    flags: int = 0


class FoundNeighbour(Struct, frozen=True, gc=False):
    """A neighbour of IPv4 as the kernel has it, or looks for it: then without a MAC address."""

    device: int
    address: str
    mac: str
    state: int


def permanent() -> Iterator[Entry]:
    """Yields those of all devices. Errors: `OSError`."""
    with opened(socket.NETLINK_ROUTE) as line:
        for data in dumped(line, RTM_GETNEIGH, _NEIGHBOUR.pack(socket.AF_INET, 0, 0, 0, 0)):
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


def _done(kind: int, flags: int, entries: Sequence[Entry]) -> list[int]:
    with opened(socket.NETLINK_ROUTE) as line:
        return done(line, kind, flags, [_body(each) for each in entries])


def _body(entry: Entry) -> bytes:
    mac = bytes.fromhex(entry.mac.replace(":", ""))
    head = _NEIGHBOUR.pack(entry.family, entry.device, entry.state, entry.flags, 0)
    address = attribute(_DST, socket.inet_aton(entry.address)) if entry.address else b""
    return head + address + attribute(_LLADDR, mac)


def read(body: bytes) -> FoundNeighbour | None:
    """Returns the neighbour that a message is about; None where it is of something else."""
    family, device, state, _, _ = _NEIGHBOUR.unpack_from(body)
    said = dict(attributes(body[_NEIGHBOUR.size :]))
    if family != socket.AF_INET or _DST not in said:
        return None
    return FoundNeighbour(device, socket.inet_ntoa(said[_DST]), said.get(_LLADDR, b"").hex(":"), state)
