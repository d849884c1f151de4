"""DNS messages, read and written: the only module that knows of their library. Pure.

What comes is a container's, or some server's somewhere: whatever it holds, nothing is raised for it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import struct

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rdatatype import RdataType
from msgspec import Struct

from skep.network.names import Answer

MESSAGE_MAX_BYTES = 65_535  # as its length is written in 16 bits over TCP
# Of a question: names have 255 bytes; the rest is for options that nobody needs.
QUESTION_MAX_BYTES = 4_096
UDP_MIN_BYTES = 512  # what everybody takes
UDP_MAX_BYTES = 1_232  # what is sent in one piece on every network, as all servers' makers agreed in 2020
# How long who asked may keep an answer. A task leaves the names a second before it is told to end
# (`agent.networking`): who keeps its address longer would be refused there. None at all would have some
# resolvers ask for each connection.
TTL_S = 1
_HEADER_BYTES = 12
# An address in an answer: of the name that the message has after its header, type A, class IN, four bytes.
_RECORD = b"\xc0\x0c\0\1\0\1" + struct.pack("!I", TTL_S) + b"\0\4%b"
_IS_ANSWER, _KIND = 0x80, 0x78  # in the third byte; of the kinds of requests the first is a question
_TYPES_TO_REFUSE = (RdataType.AXFR, RdataType.IXFR)  # whole zones: there are none

OK, FORMERR, SERVFAIL, REFUSED = (
    dns.rcode.NOERROR,
    dns.rcode.FORMERR,
    dns.rcode.SERVFAIL,
    dns.rcode.REFUSED,
)


class Question(Struct, frozen=True):
    """`name` is without its last dot, `kind` a type as people write it. An `error` is what is to be answered
    with at once. `wire` are the message's bytes, `udp_max_bytes` what who asks takes over UDP."""

    message: dns.message.Message
    name: str
    kind: str
    wire: bytes
    error: int = OK
    udp_max_bytes: int = UDP_MIN_BYTES


def read(wire: bytes) -> Question | bytes | None:
    """Returns the question of a message; where it has none, what is to be said of that, or None: nothing."""
    if len(wire) < _HEADER_BYTES or wire[2] & _IS_ANSWER:
        return None
    if wire[2] & _KIND:
        return _header(wire, dns.rcode.NOTIMP)
    try:
        message = dns.message.from_wire(wire)
        (asked,) = message.question
        name = asked.name.to_text(omit_final_dot=True)
    except Exception:  # whatever the library makes of it
        return _header(wire, FORMERR)
    error = _error(message, asked)
    takes = max(UDP_MIN_BYTES, min(message.payload, UDP_MAX_BYTES)) if message.edns >= 0 else UDP_MIN_BYTES
    kind = dns.rdatatype.to_text(asked.rdtype)
    return Question(message, name, kind, wire, error, takes)


def answered(question: Question, answer: Answer, max_bytes: int) -> bytes:
    """Returns the message for what is known here: all addresses, or as many as there is room for, and a word
    that there are more."""
    made = _answer_to(question)
    asked = made.question[0].name
    if answer.name:
        with contextlib.suppress(dns.exception.DNSException):  # a network's name need not be one of DNS
            made.answer.append(dns.rrset.from_text(asked, TTL_S, "IN", "PTR", answer.name + "."))
        return _written(made)
    room = (max_bytes - len(_written(made))) // len(_RECORD % b"....")
    if len(answer.addresses) > room:
        made.flags |= dns.flags.TC
    return _with_addresses(_written(made), len(asked.to_digestable()), answer.addresses[:room])


def _with_addresses(wire: bytes, name_bytes: int, addresses: tuple[str, ...]) -> bytes:
    """Returns a message that has no answer yet with these addresses as its answer. The library would take a
    tenth of a second for three thousand."""
    behind = _HEADER_BYTES + name_bytes + 4  # the question's name, type and class
    records = b"".join(_RECORD % ipaddress.IPv4Address(each).packed for each in addresses)
    head = wire[:6] + struct.pack("!H", len(addresses)) + wire[8:behind]
    return head + records + wire[behind:]


def refused(question: Question, code: int) -> bytes:
    """Returns the message that says why there is no answer."""
    made = _answer_to(question)
    made.set_rcode(dns.rcode.Rcode(code))
    return _written(made)


def is_answer(wire: bytes, question: Question, number: int) -> bool:
    """True for what is an answer to just this question, asked under this number."""
    if len(wire) < _HEADER_BYTES or number_of(wire) != number or not wire[2] & _IS_ANSWER:
        return False
    try:
        return dns.message.from_wire(wire, question_only=True).question == question.message.question
    except Exception:
        return False


def number_of(wire: bytes) -> int:
    return int(struct.unpack_from("!H", wire)[0])


def numbered(wire: bytes, number: int) -> bytes:
    """Returns the message with another number, which says to what question an answer belongs."""
    return struct.pack("!H", number) + wire[2:]


def is_cut(wire: bytes) -> bool:
    """True where the rest is to be asked for over TCP."""
    return bool(wire[2] & (dns.flags.TC >> 8))


def failed(wire: bytes) -> bool:
    """True for an answer that another server may have a better one than."""
    return (wire[3] & 0x0F) not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)


def fitting(wire: bytes, question: Question, max_bytes: int) -> bytes:
    """Returns another server's answer; where it is longer than who asked takes, that there is one."""
    if len(wire) <= max_bytes:
        return wire
    made = _answer_to(question)
    made.flags |= dns.flags.TC
    return _written(made)


def _answer_to(question: Question) -> dns.message.Message:
    return dns.message.make_response(question.message, True, UDP_MAX_BYTES)


def _written(message: dns.message.Message) -> bytes:
    return message.to_wire(max_size=MESSAGE_MAX_BYTES)  # what there is room for, its maker has seen to


def _error(message: dns.message.Message, asked: dns.rrset.RRset) -> int:
    if message.edns > 0:
        return dns.rcode.BADVERS
    if asked.rdclass != dns.rdataclass.IN or asked.rdtype in _TYPES_TO_REFUSE:
        return dns.rcode.REFUSED
    return OK


def _header(wire: bytes, code: int) -> bytes:
    """Returns an answer to a message that cannot be read, or need not be."""
    flags = (wire[2] & (_KIND | 0x01)) << 8 | dns.flags.QR | code  # its kind, and whether others may be asked
    return struct.pack("!HHHHHH", number_of(wire), flags, 0, 0, 0, 0)
