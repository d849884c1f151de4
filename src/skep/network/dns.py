"""DNS messages, read and written: the only module that knows of their library. Pure.

What comes is a container's, or some server's somewhere: whatever it holds, nothing is raised for it.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
from dns.rdatatype import RdataType
from msgspec import Struct

from skep.network.names import Answer

MESSAGE_MAX_BYTES = 65_535  # as its length is written in 16 bits over TCP
QUESTION_MAX_BYTES = 1_024  # a name has 255; the rest is for options, each of which takes time to be read
UDP_MIN_BYTES = 512  # what everybody takes
UDP_MAX_BYTES = 1_232  # what is sent in one piece on every network, as all servers' makers agreed in 2020
# How long who asked may keep an answer. A task leaves the names a second before it is told to end
# (`agent.networking`): who keeps its address longer would be refused there. None at all would have some
# resolvers ask for each connection.
TTL_S = 1
FORMERR, SERVFAIL, NOTIMP, REFUSED = 1, 2, 4, 5

_HEADER = struct.Struct("!HBBHHHH")  # number, two bytes of flags, and how many of questions and three others
_IS_ANSWER, _KIND, _CUT, _MAY_ASK = 0x80, 0x78, 0x02, 0x01  # in the first byte of flags; the kind 0 asks
_CODE = 0x0F  # in the second one
_OTHERS_MAX = 2  # records behind a question: what it takes, and a signature
_TYPES_TO_REFUSE = (RdataType.AXFR, RdataType.IXFR)  # whole zones: there are none
# A record is of the name that comes after the header, and of class IN.
_RECORD = b"\xc0\x0c%b\x00\x01" + struct.pack("!I", TTL_S) + b"%b"
_ADDRESS_BYTES = 16  # of such a record


class Question(Struct, frozen=True):
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


def read(wire: bytes) -> Question | bytes | None:
    """Returns the question of a message; where it has none, what is to be said of that, or None: nothing."""
    if len(wire) < _HEADER.size or wire[2] & _IS_ANSWER:
        return None
    _, flags, _, *counts = _HEADER.unpack_from(wire)
    if flags & _KIND:
        return _only_header(wire, NOTIMP)
    if counts[:3] != [1, 0, 0] or counts[3] > _OTHERS_MAX:
        return _only_header(wire, FORMERR)
    try:
        return _read(wire)
    except Exception:  # whatever the library makes of it
        return _only_header(wire, FORMERR)


def answered(question: Question, answer: Answer, max_bytes: int) -> bytes:
    """Returns the message for what is known here: all addresses, or as many as there is room for, and a word
    that there are more."""
    if answer.name:
        return _with_records(question, _pointer(answer.name))
    room = (max_bytes - len(question.empty)) // _ADDRESS_BYTES
    some = answer.addresses[:room]
    records = [_RECORD % (b"\0\1", b"\0\4" + ipaddress.IPv4Address(each).packed) for each in some]
    made = _with_records(question, records)
    return _cut(made) if len(answer.addresses) > room else made


def refused(question: Question, code: int) -> bytes:
    """Returns the message that says why there is no answer."""
    return question.empty[:3] + bytes([question.empty[3] & ~_CODE | code]) + question.empty[4:]


def is_answer(wire: bytes, question: Question, number: int) -> bool:
    """True for what is an answer to just this question, asked under this number."""
    if len(wire) < _HEADER.size or number_of(wire) != number or not wire[2] & _IS_ANSWER:
        return False
    try:
        asked, said = (dns.message.from_wire(each, question_only=True) for each in (question.wire, wire))
    except Exception:
        return False
    return bool(asked.question == said.question)


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


def fitting(wire: bytes, question: Question, max_bytes: int) -> bytes:
    """Returns another server's answer; where it is longer than who asked takes, that there is one."""
    return wire if len(wire) <= max_bytes else _cut(question.empty)


def _read(wire: bytes) -> Question:
    """Errors: the library's, for what cannot be read, and for what cannot be answered."""
    message = dns.message.from_wire(wire)
    (asked,) = message.question
    answer = dns.message.make_response(message, True, UDP_MAX_BYTES)
    if message.edns > 0:
        answer.set_rcode(dns.rcode.BADVERS)
    elif asked.rdclass != dns.rdataclass.IN or asked.rdtype in _TYPES_TO_REFUSE:
        answer.set_rcode(dns.rcode.REFUSED)
    takes = message.payload if message.edns >= 0 else 0
    return Question(
        asked.name.to_text(omit_final_dot=True),
        dns.rdatatype.to_text(asked.rdtype),
        wire,
        answer.to_wire(max_size=MESSAGE_MAX_BYTES),
        _HEADER.size + len(asked.name.to_digestable()) + 4,
        answer.rcode() != dns.rcode.NOERROR,
        max(UDP_MIN_BYTES, min(takes, UDP_MAX_BYTES)),
    )


def _pointer(name: str) -> list[bytes]:
    """Returns the record of an address's name; none where a network's name makes one that DNS cannot have."""
    try:
        wire = dns.name.from_text(name).to_wire() or b""
    except dns.exception.DNSException:
        return []
    return [_RECORD % (b"\0\x0c", len(wire).to_bytes(2) + wire)]


def _with_records(question: Question, records: Sequence[bytes]) -> bytes:
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
    return _HEADER.pack(number_of(wire), flags, code, 0, 0, 0, 0)
