"""A swarm begun anew from a backup: one manager, all else as it was."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from msgspec.structs import replace

from skep.daemon.founding import manager_node, membership_of
from skep.daemon.keys import sealer_of
from skep.daemon.state import Membership
from skep.model.cluster import Cluster
from skep.model.node import Node
from skep.rpc.certificates import NodeKeys
from skep.runtime.errors import Corrupt, Invalid
from skep.runtime.ids import NewId
from skep.store import backup, codec
from skep.store.interfaces import Put
from skep.store.seal import Sealer, is_sealed

SPOOL = "restore.new"


async def received(directory: Path, content: AsyncIterator[bytes]) -> backup.Contents:
    """Returns a backup that comes in, verified whole; it waits for its end in a file, which is removed.

    Errors: as `backup.read`; `Invalid` where the file cannot be written.
    """
    path = directory / SPOOL
    try:
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w+b") as stream:
            async for chunk in content:
                await asyncio.to_thread(stream.write, chunk)
            stream.seek(0)
            return await asyncio.to_thread(backup.read, stream)
    except OSError as error:
        raise Invalid(f"the backup cannot be kept in the state directory: {error}") from error
    finally:
        path.unlink(missing_ok=True)


def opened(contents: backup.Contents, unlock_key: str) -> tuple[Cluster, tuple[Put, ...]]:
    """Returns the swarm and all keys, nothing of it sealed.

    Errors: `WrongUnlockKey`, `Invalid` for what is no unlock key, `Corrupt`.
    """
    sealer = sealer_of(contents.keys, unlock_key) if contents.keys else None
    puts = []
    for put in contents.pairs:
        if codec.is_sealed_key(put.key) and is_sealed(put.value):
            if sealer is None:
                raise Corrupt("the backup holds what is sealed, and no key to it")
            put = _opened(sealer, put)
        puts.append(put)
    for put in puts:
        if put.key == codec.CLUSTER_KEY:
            return codec.decode_object(Cluster, put.key, put.value, 0), tuple(puts)
    raise Corrupt("the backup has no swarm in it")


def _opened(sealer: Sealer, put: Put) -> Put:
    """What does not open comes back as it is, and is quarantined again. Errors: `Corrupt` for the swarm's own
    record."""
    try:
        return Put(put.key, sealer.open(put.value, put.key))
    except Corrupt:
        if put.key == codec.CLUSTER_KEY:
            raise
        return put


def restored_swarm(
    cluster: Cluster,
    puts: tuple[Put, ...],
    hostname: str,
    listen: tuple[str, int],
    advertise: tuple[str, int],
    now: float,
    new_id: NewId,
) -> tuple[Membership, NodeKeys, tuple[Put, ...]]:
    """Returns the membership and keys of the only manager, a new node, and what the store begins with.

    Former managers stay as workers: none of them holds this store, and one that comes back must not try to.
    Errors: `Corrupt`.
    """
    node = manager_node(new_id(), hostname, advertise, now)
    kept = (put for put in puts if put.key != codec.INCARNATION_KEY)
    first = [_as_worker(put) if codec.is_node(put.key) else put for put in kept]
    # Nodes may have followed leaders whose writes the backup lacks: from here on it is another history.
    first.append(Put(codec.INCARNATION_KEY, new_id().encode()))
    first.append(Put(codec.node_key(node.id), codec.encode_object(node)))
    return *membership_of(node, cluster, listen), tuple(first)


def _as_worker(put: Put) -> Put:
    try:
        node = codec.decode_object(Node, put.key, put.value, 0)
    except Corrupt:
        return put  # in quarantine, as it was
    if node.spec.role == "worker" and not node.manager_addr:
        return put
    worker = replace(node, spec=replace(node.spec, role="worker"), manager_addr="")
    return Put(put.key, codec.encode_object(worker))
