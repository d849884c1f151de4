"""A swarm made of a backup: one new manager that the old CA vouches for, and all else as it was."""

from __future__ import annotations

import base64
import json
import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace

from skep.api.interfaces import InitRequest
from skep.daemon.founding import first_txns, found_swarm
from skep.daemon.moving import new_place
from skep.daemon.restoring import opened, restored_swarm
from skep.manager.backup import take
from skep.model.node import Node, NodeDescription, NodeSpec
from skep.rpc.certificates import identity_of, verify_issued_by
from skep.runtime.errors import Corrupt, Invalid, Unavailable
from skep.store import backup, codec
from skep.store.interfaces import OPS_MAX, KeyValue, Put
from skep.store.memory import MemoryState, MemoryStore
from skep.store.seal import Sealer

NOW = 1_700_000_000.0
HERE = ("0.0.0.0", 2377)


def swarm() -> tuple[Put, ...]:
    """What the store of a manager `first` and a worker `w` holds."""
    ids = iter(("cluster", "first", "incarnation"))
    _, _, puts = found_swarm(InitRequest(), "first", HERE, ("10.0.0.1", 2377), NOW, lambda: next(ids))
    worker = Node(
        id="w",
        spec=NodeSpec(availability="drain"),
        description=NodeDescription(hostname="w"),
        created_at=NOW,
        updated_at=NOW,
    )
    return (*puts, Put(codec.node_key("w"), codec.encode_object(worker)))


def contents(puts: tuple[Put, ...], keys: bytes = b"") -> backup.Contents:
    pairs = [KeyValue(put.key, put.value, 1) for put in puts]
    return backup.Contents(backup.header_of(pairs, "0.1", "cluster", NOW), puts, keys)


def node(puts: tuple[Put, ...], node_id: str) -> Node:
    (value,) = (put.value for put in puts if put.key == codec.node_key(node_id))
    return codec.decode_object(Node, node_id, value, 0)


def test_the_new_manager_is_the_only_one_and_the_ca_vouches_for_it() -> None:
    cluster, puts = opened(contents(swarm()), "")
    ids = iter(("new-id", "another-history"))
    membership, keys, first = restored_swarm(
        cluster, puts, "new", HERE, ("10.0.0.9", 2377), NOW + 5, lambda: next(ids)
    )
    assert (membership.node_id, membership.peers) == ("new-id", {"new-id": "10.0.0.9:2377"})
    certificate = x509.load_pem_x509_certificate(keys.certificate_pem)
    verify_issued_by(cluster.ca_cert_pem, certificate.public_bytes(Encoding.DER), NOW + 6)
    assert identity_of(keys.certificate_pem).role == "manager"
    assert (node(first, "new-id").spec.role, node(first, "new-id").manager_addr) == (
        "manager",
        "10.0.0.9:2377",
    )
    assert (node(first, "first").spec.role, node(first, "first").manager_addr) == ("worker", "")
    assert node(first, "w") == node(puts, "w")
    others = {put.key: put.value for put in first if not codec.is_node(put.key)}
    before = {put.key: put.value for put in puts if not codec.is_node(put.key)}
    assert others.pop(codec.INCARNATION_KEY) == b"another-history"
    assert before.pop(codec.INCARNATION_KEY) == b"incarnation"
    assert others == before


def test_what_is_sealed_is_opened_or_refused() -> None:
    key = os.urandom(32)
    sealer = Sealer(key)
    plain = swarm()
    sealed = tuple(
        replace(put, value=sealer.seal(put.value, put.key)) if codec.is_sealed_key(put.key) else put
        for put in plain
    )
    with pytest.raises(Corrupt, match="no key to it"):
        opened(contents(sealed), "")
    with pytest.raises(Corrupt, match="key cannot be read"):
        opened(contents(sealed, b"nonsense"), "")
    assert opened(contents(plain), "")[1] == plain


def test_what_cannot_be_read_comes_back_as_it_was() -> None:
    """A backup is the way out of a store that is damaged: one value must not keep the others from it."""
    sealer_key, bad = os.urandom(32), b"\xc1S\x01 of another key"
    sealed = tuple(
        Put(p.key, Sealer(sealer_key).seal(p.value, p.key)) if codec.is_sealed_key(p.key) else p
        for p in swarm()
    )
    broken = (
        Put(codec.service_key("s"), bad),
        Put(codec.node_key("x"), b"\xc1"),
        Put(codec.bucket_key("w", "s"), b"\xc1"),
    )
    key = backup_key(sealer_key)
    cluster, puts = opened(contents((*sealed, *broken), key), "")
    _, _, first = restored_swarm(cluster, puts, "new", HERE, ("10.0.0.9", 2377), NOW + 5, lambda: "new-id")
    assert set(broken) <= set(first)
    assert node(first, "w").spec.availability == "drain"


def backup_key(data_key: bytes, *older: bytes) -> bytes:
    first, *others = (base64.b64encode(each).decode() for each in (data_key, *older))
    file = {"version": 1, "is_sealed": False, "key": first, "older": others}
    return json.dumps(file).encode()


def test_a_backup_that_was_taken_while_the_data_key_was_changed_opens() -> None:
    """Half of it is sealed anew; what the key files had then goes with it."""
    old, new = b"o" * 32, b"n" * 32
    plain = (*swarm(), Put(codec.material_key("secret", "s"), b"sealed anew last"))
    sealers = {codec.CLUSTER_KEY: Sealer(new), plain[-1].key: Sealer(old)}
    sealed = tuple(Put(p.key, sealers[p.key].seal(p.value, p.key)) if p.key in sealers else p for p in plain)
    assert opened(contents(sealed, backup_key(new, old)), "")[1] == plain
    assert opened(contents(sealed, backup_key(new)), "")[1] != plain


async def test_a_backup_is_not_taken_of_a_store_whose_key_is_changed_just_then() -> None:
    keys = iter((b"before", b"after"))
    with pytest.raises(Unavailable, match="changed while the backup was made; try again"):
        await take(MemoryStore(MemoryState()), "c", NOW, lambda: next(keys), False)


def test_a_backup_without_a_swarm_is_refused() -> None:
    with pytest.raises(Corrupt, match="no swarm in it"):
        opened(contents(tuple(put for put in swarm() if put.key != codec.CLUSTER_KEY)), "")


def test_a_store_is_filled_in_bounded_steps_and_the_schema_says_when_it_is_full() -> None:
    many = tuple(Put(f"{codec.PREFIX}x/{n}", b"v" * 600) for n in range(3000))
    txns = list(
        first_txns((Put(codec.SCHEMA_KEY, b"1"), *many, Put(codec.PREFIX + "large", b"v" * (3 << 20))))
    )
    assert max(len(txn.ops) for txn in txns) <= OPS_MAX
    assert [op.key for txn in txns for op in txn.ops][-1] == codec.SCHEMA_KEY
    assert sum(len(txn.ops) for txn in txns) == 3002
    assert all(compare.key == codec.SCHEMA_KEY for txn in txns for compare in txn.compares)


@pytest.mark.parametrize(
    ("listen", "advertise", "before", "expected"),
    [
        ("", "10.0.0.9", "0.0.0.0:2377", (("0.0.0.0", 2377), "10.0.0.9:2377")),
        ("", "10.0.0.9:99", "0.0.0.0:2377", (("0.0.0.0", 99), "10.0.0.9:99")),
        ("", "10.0.0.9", "10.0.0.1:2377", (("10.0.0.9", 2377), "10.0.0.9:2377")),
        ("0.0.0.0:5", "10.0.0.9", "10.0.0.1:2377", (("0.0.0.0", 5), "10.0.0.9:5")),
        ("", "[fd00::9]:7", "[::]:2377", (("::", 7), "[fd00::9]:7")),
    ],
)
def test_where_a_manager_listens_that_moved(
    listen: str, advertise: str, before: str, expected: tuple[tuple[str, int], str]
) -> None:
    assert new_place(listen, advertise, before) == expected


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(Invalid):
        new_place("", "nowhere.example", "0.0.0.0:2377")
