"""Join tokens: what they let one join as, and what they pin."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.manager.ca.authority import join_token, new_root, new_secret, role_of_token
from skep.rpc.certificates import ca_digest, parse_join_token
from skep.runtime.errors import Denied, Invalid

CA, _ = new_root(1_700_000_000)
OTHER_CA, _ = new_root(1_700_000_000)
WORKER, MANAGER = new_secret(b"w" * 16), new_secret(b"m" * 16)


@given(st.binary(min_size=16, max_size=16))
def test_a_token_is_read_as_it_was_written(secret_bytes: bytes) -> None:
    token = parse_join_token(join_token(CA, new_secret(secret_bytes)))
    assert (token.digest, token.secret) == (ca_digest(CA), new_secret(secret_bytes))


def test_the_pinned_root_is_shown_as_openssl_shows_it() -> None:
    token = parse_join_token(join_token(CA, WORKER))
    assert token.digest_hex == hashlib.sha256(CA).hexdigest()
    assert parse_join_token(f"SWMTKN-1-{'0' * 49}a-{'1' * 25}").digest_hex == "0" * 63 + "a"
    with pytest.raises(Invalid, match="invalid checksum digest length"):
        parse_join_token(f"SWMTKN-1-{'z' * 50}-{'1' * 25}")


def test_each_token_gives_its_role() -> None:
    assert role_of_token(join_token(CA, WORKER), CA, WORKER, MANAGER) == "worker"
    assert role_of_token(join_token(CA, MANAGER), CA, WORKER, MANAGER) == "manager"


@pytest.mark.parametrize(
    "token",
    [join_token(OTHER_CA, WORKER), join_token(CA, new_secret(b"x" * 16))],
    ids=["swarm", "secret"],  # the same in every process
)
def test_another_swarms_token_or_secret_is_refused(token: str) -> None:
    with pytest.raises(Denied):
        role_of_token(token, CA, WORKER, MANAGER)


@pytest.mark.parametrize(
    "text", ["", "SWMTKN-1-", "SWMTKN-2-a-b", "x", "SWMTKN-1-" + "a" * 50, "SWMTKN-1-A-B"]
)
def test_what_is_not_a_token(text: str) -> None:
    with pytest.raises(Invalid, match="invalid join token"):
        parse_join_token(text)
