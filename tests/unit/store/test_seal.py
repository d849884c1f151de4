"""Sealing: what was sealed opens with its key, at its place, undamaged, and else says so without data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.runtime.errors import Corrupt
from skep.store.seal import Sealer, is_sealed

KEYS = st.binary(min_size=32, max_size=32)
SECRET = b"the-secret-in-the-value"


@given(key=KEYS, plain=st.binary(max_size=2000), about=st.text(max_size=40))
def test_what_was_sealed_opens_and_does_not_show(key: bytes, plain: bytes, about: str) -> None:
    sealer = Sealer(key)
    sealed = sealer.seal(plain, about)
    assert Sealer(key).open(sealed, about) == plain
    assert is_sealed(sealed)
    assert len(plain) < 4 or plain not in sealed
    assert sealer.seal(plain, about) != sealed, "a nonce is never used twice"


@given(data=st.data())
def test_any_changed_byte_is_noticed(data: st.DataObject) -> None:
    sealer = Sealer(b"k" * 32)
    sealed = bytearray(sealer.seal(SECRET, "a"))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Corrupt) as caught:
        sealer.open(bytes(sealed), "a")
    assert SECRET.decode() not in str(caught.value)


@given(length=st.integers(0, 53))
def test_what_was_cut_off_is_noticed(length: int) -> None:
    sealer = Sealer(b"k" * 32)
    sealed = sealer.seal(SECRET, "a")
    assert length < len(sealed)
    with pytest.raises(Corrupt):
        sealer.open(sealed[:length], "a")


def test_another_key_or_another_place_does_not_open_it() -> None:
    sealed = Sealer(b"k" * 32).seal(SECRET, "/skep/cluster")
    for sealer, about in ((Sealer(b"K" * 32), "/skep/cluster"), (Sealer(b"k" * 32), "/skep/other")):
        with pytest.raises(Corrupt, match="keys/data-key"):
            sealer.open(sealed, about)


def test_a_later_format_is_told_apart() -> None:
    sealed = Sealer(b"k" * 32).seal(SECRET, "a")
    with pytest.raises(Corrupt, match="sealed by a newer skep"):
        Sealer(b"k" * 32).open(sealed[:2] + b"\x02" + sealed[3:], "a")


def test_the_error_holds_no_cause_with_arguments() -> None:
    with pytest.raises(Corrupt) as caught:
        Sealer(b"k" * 32).open(Sealer(b"K" * 32).seal(SECRET, "a"), "a")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert "kkkk" not in repr(Sealer(b"k" * 32))
