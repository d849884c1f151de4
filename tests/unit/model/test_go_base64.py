"""Base64 as Docker's API reads it: each place was measured on an engine's `POST /configs/create`."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.api.decode import decode_body
from skep.model.go_base64 import decode_base64
from skep.model.material import ConfigSpec
from skep.runtime.errors import Invalid


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("x", 0),
        ("xx", 0),
        ("xxx", 0),
        ("xxxx=", 4),
        ("=", 0),
        ("A=", 1),
        ("AA=", 3),
        ("AA=A", 2),
        ("AA==A", 4),
        ("AA=\n", 4),
        ("AAA=A", 4),
        ("AAA==", 4),
        ("AAA=AAAA", 4),
        ("\xe9", 0),
        ("AA\xe9", 2),
        ("AAAA AAAA", 4),
        ("AA==\n\nA", 6),
        ("AAAAA", 4),
        ("AAAA\nAA", 5),
        ("AAAAA\n", 5),
        ("A\n", 1),
        ("AA-_", 2),
        ("A===", 1),
        ("AAAAAAAAAAAAAAAAAAAAA!AA", 21),
    ],
)
def test_what_is_wrong_is_named_by_its_byte_as_go_does(text: str, place: int) -> None:
    with pytest.raises(Invalid, match=f"^illegal base64 data at input byte {place}$"):
        decode_base64(text)


@given(st.binary(max_size=50), st.integers(0, 60), st.sampled_from(["\n", "\r\n", ""]))
def test_what_is_right_is_read_whatever_its_lines(data: bytes, at: int, end: str) -> None:
    text = base64.b64encode(data).decode()
    assert decode_base64(text[:at] + end + text[at:]) == data


@pytest.mark.parametrize("text", ["A" * ((8 << 20) - 1) + "!", "\r\n" * (4 << 20) + "A"])
def test_a_large_body_that_is_wrong_does_not_hold_up_the_daemon(text: str) -> None:
    """In one pass it takes 0.2 s; byte by byte it took five."""
    began = time.process_time()
    with pytest.raises(Invalid):
        decode_base64(text)
    assert time.process_time() - began < 2


def test_a_configs_data_is_read_so() -> None:
    assert decode_body(b'{"Name":"c","Data":"aGVs\\nbG8="}', ConfigSpec)[0].data == b"hello"
    assert decode_body(b'{"Name":"c","Data":null}', ConfigSpec)[0].data == b""
    for body, words in (
        (b'{"Data":"nonsense!"}', "^illegal base64 data at input byte 8$"),
        (b'{"Data":5}', "^invalid request body: "),
    ):
        with pytest.raises(Invalid, match=words):
            decode_body(body, ConfigSpec)
