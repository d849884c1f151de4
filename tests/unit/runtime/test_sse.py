"""Events as they are sent, and read again from whatever pieces they come in; packed once for all."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.runtime.errors import Invalid
from skep.runtime.packing import HEAD, closed, packed, packing
from skep.runtime.sse import BEAT, SentEvent, SentEvents, block

DATA = st.binary(min_size=1, max_size=50).map(
    lambda each: each.replace(b"\n", b"").replace(b"\r", b"") or b"x"
)


@given(st.lists(DATA, max_size=6), st.lists(st.integers(1, 20), max_size=60))
def test_what_is_sent_is_read(data: list[bytes], cuts: list[int]) -> None:
    stream = BEAT + b"".join(block("change", each, f"e:{n}") + BEAT for n, each in enumerate(data))
    reader, found, at = SentEvents(1000), [], 0
    for cut in [*cuts, len(stream)]:
        found += reader.feed(stream[at : at + cut])
        at += cut
    assert found == [SentEvent("change", f"e:{n}", each) for n, each in enumerate(data)]


def test_an_event_without_an_id_or_a_name() -> None:
    assert SentEvents(100).feed(block("link", b"{}")) == [SentEvent("link", "", b"{}")]
    assert SentEvents(100).feed(b"data: a\ndata:b\n\n") == [SentEvent("message", "", b"a\nb")]


def test_one_that_never_ends_is_refused() -> None:
    reader = SentEvents(100)
    for _ in range(10):
        assert reader.feed(b"data: xxxx") == []
    with pytest.raises(Invalid, match="100 bytes"):
        reader.feed(b"x")


@given(st.lists(st.binary(max_size=3000), max_size=5))
def test_pieces_packed_by_themselves_are_one_stream(pieces: list[bytes]) -> None:
    unpacking = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert unpacking.decompress(HEAD) == b""
    for piece in pieces:
        assert unpacking.decompress(packed(piece)) == piece, "at once: nothing waits for the next one"


@given(st.binary(max_size=3000))
def test_a_piece_is_a_file(data: bytes) -> None:
    assert gzip.decompress(closed(data, packed(data))) == data


def test_a_large_piece_is_packed_in_parts() -> None:
    data = b"abcdefgh" * 50_000
    parts = list(packing(data))
    assert len(parts) == 8
    assert gzip.decompress(closed(data, b"".join(parts))) == data
