"""DNS messages: what is read of them, and what answers look like to others' libraries."""

from __future__ import annotations

import struct
import time

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.network import dns as messages
from skep.network.dns import DnsQuestion
from skep.network.names import NameAnswer

ASKED = dns.message.make_query("Web.App", "A", id=7).to_wire()
BY_EDNS = dns.message.make_query("Web.App", "A", use_edns=0, payload=4096, id=7).to_wire()
MANY = tuple(f"10.0.{n // 200}.{n % 200 + 1}" for n in range(3000))


def question(wire: bytes) -> DnsQuestion:
    found = messages.read(wire)
    assert isinstance(found, DnsQuestion)
    return found


@pytest.mark.parametrize(("wire", "takes"), [(ASKED, 512), (BY_EDNS, 1232)], ids=["plain", "edns"])
def test_a_question_is_read_and_answered(wire: bytes, takes: int) -> None:
    found = question(wire)
    assert (found.name, found.kind, found.is_wrong, found.udp_max_bytes) == ("Web.App", "A", False, takes)
    made = dns.message.from_wire(messages.answered(found, NameAnswer(("10.0.0.5", "10.0.0.6")), takes))
    assert dns.message.from_wire(wire).is_response(made)
    assert made.edns == (0 if takes > 512 else -1)
    assert [each.to_text() for each in made.answer] == ["Web.App. 1 IN A 10.0.0.5\nWeb.App. 1 IN A 10.0.0.6"]
    empty = dns.message.from_wire(messages.answered(found, NameAnswer(), takes))
    assert (empty.rcode(), empty.answer, empty.flags & dns.flags.TC) == (dns.rcode.NOERROR, [], 0)


@pytest.mark.parametrize("wire", [ASKED, BY_EDNS], ids=["plain", "edns"])
@pytest.mark.parametrize("room", [512, 600, 1232, 65535])
def test_as_many_addresses_are_sent_as_fit(wire: bytes, room: int) -> None:
    sent = messages.answered(question(wire), NameAnswer(MANY), room)
    assert room - 16 < len(sent) <= room or room == 65535
    made = dns.message.from_wire(sent)
    assert bool(made.flags & dns.flags.TC) == (room < 65535)
    (records,) = made.answer
    assert {each.to_text() for each in records} == set(MANY[: len(records)])
    assert len(records) == (3000 if room == 65535 else (room - len(question(wire).empty)) // 16)


def test_an_address_has_a_name_and_not_one_that_dns_cannot_have() -> None:
    found = question(dns.message.make_query("5.1.0.10.in-addr.arpa", "PTR").to_wire())
    made = dns.message.from_wire(messages.answered(found, NameAnswer(name="Web.1.x.App"), 512))
    assert [each.to_text() for each in made.answer] == ["5.1.0.10.in-addr.arpa. 1 IN PTR Web.1.x.App."]
    for name in ("web.1.a..b", f"web.1.{'n' * 64}"):
        assert dns.message.from_wire(messages.answered(found, NameAnswer(name=name), 512)).answer == []


def test_only_what_can_be_a_question_is_read_at_all() -> None:
    heads = {"\0\1\0\0\0\0\0\3": "FORMERR", "\0\1\0\1\0\0\0\0": "FORMERR", "\0\0\0\0\0\0\0\0": "FORMERR"}
    for head, code in heads.items():
        said = messages.read(ASKED[:4] + head.encode() + ASKED[12:])
        assert isinstance(said, bytes)
        assert (dns.rcode.to_text(dns.message.from_wire(said).rcode()), len(said)) == (code, 12)
    later = dns.message.make_query("a", "A", use_edns=1).to_wire()
    assert dns.message.from_wire(question(later).empty).rcode() == dns.rcode.BADVERS


def test_behind_a_question_is_what_its_asker_takes_and_nothing_else() -> None:
    address = b"\0" + struct.pack("!HHIH", dns.rdatatype.A, dns.rdataclass.IN, 1, 4) + bytes(4)
    options = BY_EDNS[len(ASKED) :]
    wrong = {
        "another record": (1, address),
        "two of them": (2, options * 2),
        "options with a name": (1, b"\1a" + options),
        "cut off": (1, options[:-1]),
        "something behind": (1, options + b"x"),
        "longer than they say": (1, options[:-2] + b"\0\x09"),
        "none": (1, b""),
        "not counted": (0, options),
    }
    for what, (count, others) in wrong.items():
        said = messages.read(ASKED[:11] + bytes([count]) + ASKED[12:] + others)
        assert isinstance(said, bytes), what
        assert dns.message.from_wire(said).rcode() == dns.rcode.FORMERR, what
    assert question(ASKED[:11] + b"\1" + ASKED[12:] + options).udp_max_bytes == 1232
    pointing = ASKED[:12] + b"\xc0\x05" + ASKED[-4:]  # where the header is all zeroes: no name
    assert isinstance(messages.read(pointing), bytes)


def test_a_question_does_not_take_long_however_its_name_is_made() -> None:
    wire = dns.message.make_query("a." * 126, "A", use_edns=0).to_wire()
    began = time.process_time()
    for _ in range(100):
        assert question(wire).name == ("a." * 126)[:-1]
    assert time.process_time() - began < 0.3, "a tenth of that is what it should be"


def test_a_stranger_hears_no_word_of_what_he_asks() -> None:
    said = messages.refused_unread(ASKED)
    assert said is not None
    assert (dns.message.from_wire(said).rcode(), len(said)) == (dns.rcode.REFUSED, 12)
    assert messages.refused_unread(said) is None
    assert messages.refused_unread(ASKED[:11]) is None


def test_an_answer_is_to_the_question_and_its_number() -> None:
    found = question(ASKED)
    answer = messages.answered(found, NameAnswer(("10.0.0.5",)), 512)
    number = messages.number_of(ASKED)
    assert messages.is_answer(answer, found, number)
    assert not messages.is_answer(answer, found, number ^ 1)
    assert not messages.is_answer(ASKED, found, number)
    for name, kind in (("web.apq", "A"), ("web.app", "AAAA")):
        other = question(messages.numbered(dns.message.make_query(name, kind).to_wire(), number))
        assert not messages.is_answer(answer, other, number)
    for cut in range(len(ASKED)):
        assert not messages.is_answer(answer[:cut], found, number)


@given(st.sampled_from([ASKED, BY_EDNS]), st.data())
def test_whatever_comes_nothing_is_raised(wire: bytes, data: st.DataObject) -> None:
    changed = bytearray(wire + data.draw(st.binary(max_size=20)))
    for _ in range(data.draw(st.integers(0, 6))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    said = messages.read(bytes(changed))
    if isinstance(said, DnsQuestion):
        for made in (
            messages.answered(said, NameAnswer(MANY[:50]), 512),
            messages.answered(said, NameAnswer(name="a.b"), 512),
            messages.refused(said, messages.SERVFAIL),
            messages.fitting(bytes(600), said, 512),
        ):
            assert dns.message.from_wire(made).id == messages.number_of(changed)
            assert len(made) <= 512
        assert not messages.is_answer(bytes(changed), said, messages.number_of(changed))
