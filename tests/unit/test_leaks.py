"""The search for leaks finds what is planted, in every form: else it would prove nothing."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from skep.manager.ca.authority import new_root
from tests.leaks import leaks_below, leaks_in, private_key, readable_by_others

SECRET = bytes(random.Random(1).randbytes(32))
NAMED = {"it": SECRET}


@pytest.mark.parametrize("before", range(6))
def test_it_is_found_in_every_form(before: int) -> None:
    around = b"x" * before + SECRET + b"yy"
    assert leaks_in(around, NAMED) == ["it"]
    assert leaks_in(around.hex().encode(), NAMED) == ["it"]
    assert leaks_in(base64.b64encode(around), NAMED) == ["it"]
    assert leaks_in(base64.urlsafe_b64encode(around), NAMED) == ["it"]
    assert leaks_in(base64.encodebytes(around * 3), NAMED) == ["it"], "over line ends"
    assert leaks_in(json.dumps({"k": base64.encodebytes(around).decode()}).encode(), NAMED) == ["it"]
    assert leaks_in(around.replace(SECRET, SECRET[::-1]), NAMED) == []


def test_a_private_key_is_found_in_each_of_its_encodings() -> None:
    _, pem = new_root(0.0)
    named = {"ca": private_key(pem)}
    key = serialization.load_pem_private_key(pem, None)
    for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER):
        for form in (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL):
            data = key.private_bytes(encoding, form, serialization.NoEncryption())
            assert leaks_in(b"before" + data + b"after", named) == ["ca"]
    assert leaks_in(new_root(0.0)[1], named) == []


def test_files_are_read_to_their_end_and_their_modes_seen(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True, mode=0o700)
    deep.parent.chmod(0o700)
    (deep / "f").write_bytes(b"\0" * 3_000_000 + SECRET)
    (deep / "f").chmod(0o600)
    assert leaks_below([tmp_path], NAMED) == [("it", str(deep / "f"))]
    assert readable_by_others(tmp_path) == []
    (deep / "f").chmod(0o640)
    assert readable_by_others(tmp_path) == [f"{deep / 'f'} 640"]
