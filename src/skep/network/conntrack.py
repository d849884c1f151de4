"""Connections that the kernel would go on to lead to a task that is gone: it asks no rule again for one that
it knows. UDP's go on as long as somebody sends; of TCP's the last two minutes are kept, in which a client may
use its port again. The kernel finds those of a few tasks: reading a hundred thousand others here would take a
second. In netlink's own words (`netlink_wire`): a busy task has ten thousand, for each of which pyroute2
takes a millisecond.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from msgspec import Struct
from pyroute2.netlink import NETLINK_NETFILTER, NLM_F_ACK, NLM_F_REQUEST

from skep.network.marks import OURS, OURS_MASK
from skep.network.netlink_wire import AT_ONCE, attribute, attributes, done, dumped, opened
from skep.runtime.errors import Unavailable

FEW = 8  # tasks that the kernel is asked for one by one: it goes through its whole table for each, some 15 ms

_GET, _DELETE = 0x0101, 0x0102  # of nfnetlink's part for conntrack
_HEAD = struct.pack("=BBH", socket.AF_INET, 0, 0)
_NESTED = 0x8000
_ORIG, _REPLY, _MARK, _MARK_MASK, _FILTER = 1, 2, 8, 21, 25
_IP, _PROTO = 1, 2  # of a direction
_SRC, _DST = 1, 2  # of its addresses
_NUMBER, _DST_PORT = 1, 3  # of its protocol
_BY_SRC, _BY_DST, _BY_NUMBER, _BY_DST_PORT = 1 << 0, 1 << 1, 1 << 3, 1 << 5  # what the kernel is to compare


class Flow(Struct, frozen=True):
    """One of IPv4: whom it was to at first, who answers, and how the kernel writes its answers' direction."""

    to: str
    by: str
    reply: bytes


def forget_tasks(addresses: Collection[str]) -> int:
    """Forgets connections to tasks that are gone, as far as they are among these still when it comes to them.
    Returns how many there were. Errors: `Unavailable`."""
    gone = sorted(addresses)
    asked = [_answered_by(each) for each in gone] if len(gone) <= FEW else [_ours()]
    return _forget(asked, lambda flow: flow.by in addresses)


def forget_untranslated(vips: Collection[str]) -> int:
    """Forgets connections to services' own addresses that began when there was no rule for them, as where
    this daemon has begun anew: they would go on without. Returns how many there were. Errors:
    `Unavailable`."""
    asked = [_to(each) for each in sorted(vips)] if len(vips) <= FEW else [b""]
    # Whom it is to answers: nothing of it is translated.
    return _forget(asked, lambda flow: flow.to == flow.by and flow.to in vips)


def forget_udp(port: int, host: Collection[str], tasks: Collection[str]) -> int:
    """Forgets flows to a port of the host's addresses, but those to these tasks. Returns how many there were.
    Errors: `Unavailable`."""
    return _forget([_to_udp(port)], lambda flow: flow.to in host and flow.by not in tasks)


def _forget(asked: Iterable[bytes], is_gone: Callable[[Flow], bool]) -> int:
    try:
        with opened(NETLINK_NETFILTER) as line:
            flows = [flow for each in asked for flow in _flows(line, each)]
            return sum(_deleted(line, part, is_gone) for part in _parts(flows))
    except OSError as error:
        raise Unavailable(f"the kernel does not say which connections there are: {error}") from error


def _parts(flows: Sequence[Flow]) -> Iterator[Sequence[Flow]]:
    yield from (flows[begin : begin + AT_ONCE] for begin in range(0, len(flows), AT_ONCE))


def _flows(line: socket.socket, asked: bytes) -> Iterator[Flow]:
    for data in dumped(line, _GET, _HEAD + asked):
        found = read(data)
        if found is not None:
            yield found


def _deleted(line: socket.socket, flows: Iterable[Flow], is_gone: Callable[[Flow], bool]) -> int:
    """By their answers: their other direction may be known in a zone only."""
    bodies = [_HEAD + attribute(_REPLY | _NESTED, flow.reply) for flow in flows if is_gone(flow)]
    errors = done(line, _DELETE, NLM_F_REQUEST | NLM_F_ACK, bodies)
    for error in errors:
        if error not in (0, errno.ENOENT):  # one has just ended by itself
            raise OSError(error, os.strerror(error))
    return errors.count(0)


def read(data: bytes) -> Flow | None:
    """Returns a flow as the kernel tells it; None for one of another kind than IPv4."""
    parts = dict(attributes(data[len(_HEAD) :]))
    orig, reply = parts.get(_ORIG, b""), parts.get(_REPLY, b"")
    to, by = _address(orig, _DST), _address(reply, _SRC)
    return Flow(to, by, reply) if to and by else None


def _address(direction: bytes, which: int) -> str:
    written = dict(attributes(dict(attributes(direction)).get(_IP, b""))).get(which, b"")
    return socket.inet_ntoa(written) if len(written) == 4 else ""


# What the kernel is asked for


def _ours() -> bytes:
    return attribute(_MARK, struct.pack("!I", OURS)) + attribute(_MARK_MASK, struct.pack("!I", OURS_MASK))


def _answered_by(address: str) -> bytes:
    return _where(_REPLY, attribute(_IP | _NESTED, attribute(_SRC, socket.inet_aton(address))), _BY_SRC)


def _to(address: str) -> bytes:
    return _where(_ORIG, attribute(_IP | _NESTED, attribute(_DST, socket.inet_aton(address))), _BY_DST)


def _to_udp(port: int) -> bytes:
    number = attribute(_NUMBER, bytes([socket.IPPROTO_UDP]))
    proto = number + attribute(_DST_PORT, struct.pack("!H", port))
    return _where(_ORIG, attribute(_PROTO | _NESTED, proto), _BY_NUMBER | _BY_DST_PORT)


def _where(direction: int, of_it: bytes, compared: int) -> bytes:
    """Returns a filter: the kernel compares (since 5.8) these of one direction, whose number the flags have,
    too."""
    flags = attribute(direction, struct.pack("=I", compared))
    return attribute(direction | _NESTED, of_it) + attribute(_FILTER | _NESTED, flags)
