"""DNS messages, read and written: the only module that knows of their library. Pure.

What comes is a container's, or some server's somewhere: whatever it holds, nothing is raised for it. Of a
question only what is needed is read, and by hand: the library takes milliseconds for a message that somebody
made for that.
"""

from __future__ import annotations

import functools
import ipaddress
import struct
from collections.abc import Sequence

import dns.exception
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
from dns.rdatatype import RdataType
from msgspec import Struct

from skep.network.names import NameAnswer

MESSAGE_MAX_BYTES = 65_535  # as its length is written in 16 bits over TCP
QUESTION_MAX_BYTES = 1_024  # a name has 255; the rest is for options, which others may know
UDP_MIN_BYTES = 512  # what everybody takes
UDP_MAX_BYTES = 1_232  # what is sent in one piece on every network, as all servers' makers agreed in 2020
# How long who asked may keep an answer. A task leaves the names a second before it is told to end
# (`agent.networking`): who keeps its address longer would be refused there. None at all would have some
# resolvers ask for each connection.
TTL_S = 1
NOERROR, FORMERR, SERVFAIL, NOTIMP, REFUSED = 0, 1, 2, 4, 5

_HEADER = struct.Struct("!HBBHHHH")  # number, two bytes of flags, and how many of questions and three others
_IS_ANSWER, _KIND, _CUT, _MAY_ASK = 0x80, 0x78, 0x02, 0x01  # in the first byte of flags; the kind 0 asks
_CODE, _MAY_BE_ASKED = 0x0F, 0x80  # in the second one
_LABEL_MAX_BYTES, _NAME_MAX_BYTES = 63, 255  # RFC 1035, 2.3.4
_KIND_AND_CLASS = struct.Struct("!HH")  # behind a question's name
_OPTIONS = struct.Struct("!BHHBBHH")  # no name, OPT, bytes taken, two of a code and a version, flags, length
_NO_NAME, _VERSION = 0, 0
_BADVERS = 1  # the code's upper bits
_TYPES_TO_REFUSE = (RdataType.AXFR, RdataType.IXFR)  # whole zones: there are none
# A record is of the name that comes after the header, and of class IN.
_RECORD = b"\xc0\x0c%b\x00\x01" + struct.pack("!I", TTL_S) + b"%b"
_ADDRESS_BYTES = 16  # of such a record


class DnsQuestion(Struct, frozen=True):
    """`name` is without its last dot, `kind` a type as people write it. `wire` are the message's bytes, and
    `empty` those of an answer that has nothing in it: it is to be sent at once where `is_wrong`. Records go
    `behind` so many of its bytes. `udp_max_bytes` is what who asks takes over UDP."""

    name: str
    kind: str
    wire: bytes
    empty: bytes
    behind: int
    is_wrong: bool = False
    udp_max_bytes: int = UDP_MIN_BYTES


def read(wire: bytes) -> DnsQuestion | bytes | None:
    """Returns the question of a message; where it has none, what is to be said of that, or None: nothing."""
    if len(wire) < _HEADER.size or wire[2] & _IS_ANSWER:
        return None
    _, flags, _, *counts = _HEADER.unpack_from(wire)
    if flags & _KIND:
        return _only_header(wire, NOTIMP)
    # Behind a question there may be what its asker takes, and nothing else.
    if counts not in ([1, 0, 0, 0], [1, 0, 0, 1]):
        return _only_header(wire, FORMERR)
    try:
        return _read(wire, counts[3] == 1)
    except (ValueError, IndexError, struct.error):
        return _only_header(wire, FORMERR)


def refused_unread(wire: bytes) -> bytes | None:
    """Returns what a stranger is told, whatever he asks; None where that is nothing."""
    if len(wire) < _HEADER.size or wire[2] & _IS_ANSWER:
        return None
    return _only_header(wire, REFUSED)


def answered(question: DnsQuestion, answer: NameAnswer, max_bytes: int) -> bytes:
    """Returns the message for what is known here: all addresses, or as many as there is room for, and a word
    that there are more."""
    if answer.name:
        return _with_records(question, _pointer(answer.name))
    room = (max_bytes - len(question.empty)) // _ADDRESS_BYTES
    some = answer.addresses[:room]
    made = _with_records(question, [_address(each) for each in some])
    return _cut(made) if len(answer.addresses) > room else made


def refused(question: DnsQuestion, code: int) -> bytes:
    """Returns the message that says why there is no answer."""
    return question.empty[:3] + bytes([question.empty[3] & ~_CODE | code]) + question.empty[4:]


def is_answer(wire: bytes, question: DnsQuestion, number: int) -> bool:
    """True for what is an answer to just this question, asked under this number."""
    if len(wire) < _HEADER.size or number_of(wire) != number or not wire[2] & _IS_ANSWER:
        return False
    if wire[4:6] != b"\0\1":  # one question, as was asked
        return False
    name, kind = slice(_HEADER.size, question.behind - 4), slice(question.behind - 4, question.behind)
    return (wire[name].lower(), wire[kind]) == (question.wire[name].lower(), question.wire[kind])


def number_of(wire: bytes) -> int:
    return int.from_bytes(wire[:2])


def numbered(wire: bytes, number: int) -> bytes:
    """Returns the message with another number, which says to what question an answer belongs."""
    return number.to_bytes(2) + wire[2:]


def is_cut(wire: bytes) -> bool:
    """True where the rest is to be asked for over TCP."""
    return bool(wire[2] & _CUT)


def failed(wire: bytes) -> bool:
    """True for an answer that another server may have a better one than."""
    return (wire[3] & _CODE) not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)


def fitting(wire: bytes, question: DnsQuestion, max_bytes: int) -> bytes:
    """Returns another server's answer; where it is longer than who asked takes, that there is one."""
    return wire if len(wire) <= max_bytes else _cut(question.empty)


def _read(wire: bytes, has_options: bool) -> DnsQuestion | bytes:
    """Errors: `ValueError`, `IndexError` and `struct.error`, for what cannot be read."""
    name, behind_name = _name(wire, _HEADER.size)
    kind, class_ = _KIND_AND_CLASS.unpack_from(wire, behind_name)
    behind = behind_name + _KIND_AND_CLASS.size
    takes, version, end = _options(wire, behind) if has_options else (0, _VERSION, behind)
    if end != len(wire):
        raise ValueError("more than a question")
    is_other = class_ != dns.rdataclass.IN or kind in _TYPES_TO_REFUSE
    code, upper = (NOERROR, _BADVERS) if version != _VERSION else (REFUSED if is_other else NOERROR, 0)
    empty = _only_header(wire, code)[:4] + wire[4:6] + bytes(5) + bytes([has_options])
    empty += wire[_HEADER.size : behind]
    if has_options:
        empty += _OPTIONS.pack(_NO_NAME, RdataType.OPT, UDP_MAX_BYTES, upper, _VERSION, 0, 0)
    return DnsQuestion(
        name,
        dns.rdatatype.to_text(RdataType.make(kind)),
        wire,
        empty,
        behind,
        bool(code or upper),
        max(UDP_MIN_BYTES, min(takes, UDP_MAX_BYTES)),
    )


def _name(wire: bytes, at: int) -> tuple[str, int]:
    """Returns the name there, and where it ends. It is the first: there is none that it could point at.
    Errors: `ValueError`, `IndexError` where it is cut off."""
    labels, began = [], at
    while length := wire[at]:
        if length > _LABEL_MAX_BYTES:
            raise ValueError("no label")
        labels.append(wire[at + 1 : at + 1 + length].replace(b".", b"\\."))
        at += 1 + length
    at += 1
    if at - began > _NAME_MAX_BYTES:
        raise ValueError("no name")
    return b".".join(labels).decode("latin-1") or ".", at


def _options(wire: bytes, at: int) -> tuple[int, int, int]:
    """Returns how many bytes are taken over UDP, the options' version and where they end. Errors:
    `ValueError` for another record, `struct.error` for none."""
    name, kind, takes, _, version, _, length = _OPTIONS.unpack_from(wire, at)
    if (name, kind) != (_NO_NAME, RdataType.OPT):
        raise ValueError("another record")
    return takes, version, at + _OPTIONS.size + length


@functools.lru_cache(maxsize=1 << 14)  # a few services of thousands of tasks each: 2 MB
def _address(text: str) -> bytes:
    """Returns the record of an address. Kept, as a container may ask for those of 3,000 tasks all the time:
    they take ten milliseconds else."""
    return _RECORD % (b"\0\1", b"\0\4" + ipaddress.IPv4Address(text).packed)


def _pointer(name: str) -> list[bytes]:
    """Returns the record of an address's name; none where a network's name makes one that DNS cannot have."""
    try:
        wire = dns.name.from_text(name).to_wire() or b""
    except dns.exception.DNSException:
        return []
    return [_RECORD % (b"\0\x0c", len(wire).to_bytes(2) + wire)]


def _with_records(question: DnsQuestion, records: Sequence[bytes]) -> bytes:
    """Returns an answer with these records in it. The library would take a tenth of a second for three
    thousand."""
    empty, behind = question.empty, question.behind
    head = empty[:6] + len(records).to_bytes(2) + empty[8:behind]
    return b"".join((head, *records, empty[behind:]))


def _cut(wire: bytes) -> bytes:
    return wire[:2] + bytes([wire[2] | _CUT]) + wire[3:]


def _only_header(wire: bytes, code: int) -> bytes:
    """Returns an answer to a message that cannot be read, or need not be."""
    flags = wire[2] & (_KIND | _MAY_ASK) | _IS_ANSWER
    return _HEADER.pack(number_of(wire), flags, _MAY_BE_ASKED | code, 0, 0, 0, 0)
