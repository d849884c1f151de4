"""A manager's store for `skep store`: that of a skepd that runs, or the files of one that is stopped.

Reading starts an etcd on a copy of the files: what is looked at is not changed. Removing works on the files
themselves, and only where this manager's are the swarm's: with several managers a majority has to agree.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from msgspec import Struct

from skep.daemon.keys import sealer_of
from skep.daemon.state import Membership, StateDir
from skep.runtime.errors import Corrupt, Invalid, SkepError, WrongUnlockKey
from skep.store.etcd.client import EtcdStore
from skep.store.etcd.supervisor import EtcdProcess
from skep.store.interfaces import Store
from skep.store.seal import Sealer
from skep.store.sealed import SealedStore


class Opened(Struct, frozen=True):
    """`is_online`: a skepd runs on it. `notes` are what the user has to know."""

    store: Store
    is_online: bool
    notes: tuple[str, ...]


@contextlib.asynccontextmanager
async def opened(
    directory: Path, etcd: str, unlock_key: str, to_write: bool = False
) -> AsyncIterator[Opened]:
    """Gives the store below a manager's state directory; what is sealed is opened with the node's data key.

    Errors: `Invalid` where there is none, or it cannot be written here alone; `Unavailable`, `Corrupt`,
    `WrongUnlockKey`.
    """
    if not (directory / "etcd" / "data").is_dir():
        raise Invalid(f"{directory} is no manager's state directory: there is no store in it (--state-dir)")
    sealer = _sealer(directory, unlock_key)
    async with contextlib.AsyncExitStack() as stack:
        state = _locked(directory)
        if state is None:
            inner = EtcdStore(EtcdProcess(directory).target)
            notes = ["a skepd runs here: this is the swarm's store as it is now"]
            if to_write:
                notes.append(
                    "with what is removed goes the lead of the manager that has it: one leads anew in seconds"
                )
        else:
            stack.callback(state.close)
            inner, notes = await _offline(stack, state, etcd, to_write)
        stack.push_async_callback(inner.close)
        store: Store = inner
        if sealer is not None:
            store = SealedStore(inner, sealer)
        else:
            notes.append("there is no data key here that can be read: sealed values stay so")
        yield Opened(store, state is None, tuple(notes))


def needs_unlock_key(directory: Path) -> bool:
    """True where the node's data key is sealed itself."""
    exported = _exported(directory)
    if exported is None:
        return False
    try:
        sealer_of(exported, "")
    except WrongUnlockKey:
        return True
    except SkepError:
        return False  # it opens with no key
    return False


def _sealer(directory: Path, unlock_key: str) -> Sealer | None:
    exported = _exported(directory)
    try:
        return sealer_of(exported, unlock_key) if exported is not None else None
    except Corrupt:
        return None


def _exported(directory: Path) -> bytes | None:
    try:
        return (directory / "keys" / "data-key").read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Invalid(f"the data key cannot be read: {error.strerror} (run as root)") from error


def _locked(directory: Path) -> StateDir | None:
    """Returns the directory, held against a skepd that starts; None where one runs. Errors: `Invalid`."""
    try:
        return StateDir(directory)
    except Invalid:
        if (directory / "etcd" / "run" / "c:0").exists():
            return None
        raise


async def _offline(
    stack: contextlib.AsyncExitStack, state: StateDir, etcd: str, to_write: bool
) -> tuple[EtcdStore, list[str]]:
    membership = state.load()
    if membership is None:
        raise Invalid(f"the node of {state.path} is in no swarm")
    others = sorted(set(membership.peers) - {membership.node_id})
    if to_write and others:
        raise Invalid(
            f"this manager is one of {len(others) + 1}, and what one holds alone is not the swarm's store:"
            " start `skepd --safe-mode` on more than half of them, and run this again on one"
        )
    if to_write:
        process = EtcdProcess(state.path, etcd, membership.node_id)
        process.prepare()
        stack.push_async_callback(process.stop)
        await process.start()
        return EtcdStore(process.target, process.trouble), ["no skepd runs here: this is its stopped store"]
    notes = ["no skepd runs here: this is a copy of its stopped store"]
    if others:
        notes.append(f"{len(others)} other managers may have newer values")
    return await _copy(stack, state, etcd, membership), notes


async def _copy(
    stack: contextlib.AsyncExitStack, state: StateDir, etcd: str, membership: Membership
) -> EtcdStore:
    """Starts an etcd on a copy of the files, which goes again."""
    try:
        # There, not in /tmp: the copy is as large as the store, and nobody else may read it.
        kept = tempfile.TemporaryDirectory(prefix="look-", dir=state.path)
        stack.callback(kept.cleanup)
        copy = Path(kept.name)
        await asyncio.to_thread(shutil.copytree, state.path / "etcd" / "data", copy / "etcd" / "data")
    except OSError as error:
        raise Invalid(f"the store's files cannot be copied to look at them: {error}") from error
    process = EtcdProcess(copy, etcd, membership.node_id)
    process.prepare()
    stack.push_async_callback(process.stop)
    await process.start(force_new_cluster=True)  # of the copy: it has no others to wait for
    return EtcdStore(process.target, process.trouble)
