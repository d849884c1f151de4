"""The unlock key: Docker's form, and what becomes of it when a swarm's spec changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.manager.control.autolock import parse_unlock_key, unlock_key, unlock_key_after
from skep.model.cluster import Cluster, EncryptionConfig, SwarmSpec
from skep.runtime.errors import Invalid
from tests.clusters import new_cluster

OFF, ON = SwarmSpec(), SwarmSpec(encryption_config=EncryptionConfig(auto_lock_managers=True))


def cluster(key: str) -> Cluster:
    return new_cluster(
        spec=ON if key else OFF,
        ca_key_pem=b"the-ca-key",
        worker_token_secret="the-worker-secret",
        manager_token_secret="the-manager-secret",
        unlock_key=key,
    )


@given(st.binary(min_size=32, max_size=32))
def test_a_key_is_read_back(key: bytes) -> None:
    text = unlock_key(key)
    assert len(text) == len("SWMKEY-1-") + 43
    assert "=" not in text
    assert parse_unlock_key(f" {text}\n") == key


@pytest.mark.parametrize("text", ["", "SWMKEY-1-", "SWMKEY-2-" + "A" * 43, "SWMKEY-1-" + "A" * 42, "A" * 43])
def test_what_is_no_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_unlock_key(text)
    assert str(caught.value) == "invalid key string"


def test_what_becomes_of_the_key() -> None:
    old, new = unlock_key(b"o" * 32), unlock_key(b"n" * 32)

    def fresh(size: int) -> bytes:
        return b"n" * size

    assert unlock_key_after(cluster(""), OFF, False, fresh) == ""
    assert unlock_key_after(cluster(""), OFF, True, fresh) == "", "nothing to rotate while it is off"
    assert unlock_key_after(cluster(""), ON, False, fresh) == new
    assert unlock_key_after(cluster(old), ON, False, fresh) == old
    assert unlock_key_after(cluster(old), ON, True, fresh) == new
    assert unlock_key_after(cluster(old), OFF, True, fresh) == ""


def test_a_printed_cluster_shows_no_secret() -> None:
    printed = repr(cluster("SWMKEY-1-xyz"))
    assert not any(word in printed for word in ("the-ca-key", "the-worker", "the-manager", "SWMKEY"))
