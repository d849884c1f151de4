"""The format of a backup: what was written is read, and nothing else."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.runtime.errors import Corrupt, Invalid, SkepError, Unsupported
from skep.store import backup, codec
from skep.store.interfaces import KeyValue, Put

CLUSTER = KeyValue(codec.CLUSTER_KEY, b"cluster", 3)
SCHEMA = KeyValue(codec.SCHEMA_KEY, b"1", 1)
SMALL = [CLUSTER, SCHEMA, KeyValue(codec.node_key("n"), b"node", 2)]


def header(**changes: Any) -> backup.Header:
    return msgspec.structs.replace(backup.header_of(SMALL, "0.1", "cluster", 1700.0), **changes)


def written(pairs: list[KeyValue], keys: bytes = b"", **changes: Any) -> bytes:
    return b"".join(backup.write(header(**changes), pairs, keys))


def read(data: bytes) -> backup.Contents:
    return backup.read(io.BytesIO(data))


@given(
    st.dictionaries(st.text(max_size=20), st.binary(max_size=300), max_size=30),
    st.binary(max_size=50),
    st.integers(1, 500),
)
def test_what_was_written_is_read(values: dict[str, bytes], keys: bytes, block: int) -> None:
    pairs = [CLUSTER, *(KeyValue(codec.PREFIX + "x/" + k, v, 1) for k, v in values.items())]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backup, "BLOCK_BYTES", block)
        data = written(pairs, keys)
    found = read(data)
    assert found == backup.Contents(header(), tuple(Put(p.key, p.value) for p in pairs), keys)
    assert backup.check(io.BytesIO(data)) == header()


def test_one_that_ends_early_is_refused_wherever_it_ends() -> None:
    data = written(SMALL, b"keys")
    for end in range(len(data)):
        for reads in (backup.read, backup.check):
            with pytest.raises((Corrupt, Invalid)):
                reads(io.BytesIO(data[:end]))


def test_one_that_was_changed_is_refused_whatever_was_changed() -> None:
    data = written(SMALL, b"keys")
    for at in range(len(data)):
        for bit in (0, 3, 7):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            with pytest.raises(SkepError):
                read(bytes(changed))
    with pytest.raises(Corrupt, match="more behind"):
        read(data + b"x")


@given(st.binary(max_size=200))
def test_what_is_no_backup_is_refused(data: bytes) -> None:
    with pytest.raises((Invalid, Corrupt)):
        read(data)


def test_one_of_a_newer_skep_says_so() -> None:
    with pytest.raises(Unsupported, match=r"format 2, this skep knows formats up to 1.*\(0\.1\)"):
        read(written(SMALL, format=2))
    with pytest.raises(Corrupt, match="Install a newer skep"):
        read(written(SMALL, schema=codec.SCHEMA_VERSION + 1))


def test_one_without_a_swarm_is_refused() -> None:
    with pytest.raises(Corrupt, match="no swarm in it"):
        read(written([SCHEMA]))
    with pytest.raises(Corrupt, match="not a swarm's"):
        read(written([CLUSTER, KeyValue("/other/key", b"", 1)]))


def test_its_header_counts() -> None:
    pairs = [
        *SMALL,
        KeyValue(codec.service_key("s"), b"service", 1),
        KeyValue(codec.bucket_key("n", "s"), msgspec.msgpack.encode([["t1"], ["t2"]]), 1),
    ]
    found = backup.header_of(pairs, "0.1", "cluster", 5.0)
    assert (found.services, found.tasks, found.nodes, found.schema) == (1, 2, 1, 1)
    assert found.bytes == sum(len(p.key) + len(p.value) for p in pairs)
