"""`skep store ls|get|rm`: a manager's store, key by key. The last way in, where no manager leads."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import click
import msgspec

from skep.cli.store_access import Opened, needs_unlock_key, opened
from skep.cli.unlock import ask_unlock_key, unlock_key_option
from skep.manager.loading import view_of
from skep.runtime.errors import Corrupt, Invalid, NotFound
from skep.store import codec
from skep.store.interfaces import Compare, Delete, KeyValue, Txn

OPS_MAX = 500  # of one transaction: half of the store's, as compares count too
KEPT = (codec.CLUSTER_KEY, codec.SCHEMA_KEY)


def _where(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say which store."""
    options = (
        click.option(
            "--state-dir",
            type=click.Path(path_type=Path, file_okay=False),
            default=Path("/var/lib/skep"),
            envvar="SKEPD_STATE_DIR",
            show_default=True,
            help="The manager's state directory, on this machine.",
        ),
        click.option(
            "--etcd", default="etcd", envvar="SKEPD_ETCD", show_default=True, help="The etcd program."
        ),
        unlock_key_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def store() -> None:
    """Looks into a manager's store, and removes what keeps managers from leading.

    Works on a skepd that runs (best with --safe-mode) and on one that is stopped. Run it as root on the
    manager's machine.
    """


@store.command("ls")
@click.argument("prefix", default="")
@click.option("--quarantined", is_flag=True, help="Only what cannot be read, and why.")
@_where
def ls(prefix: str, quarantined: bool, state_dir: Path, etcd: str, unlock_key: str) -> None:
    """Lists the keys that begin with PREFIX: services/, nodes/, tasks/…"""

    async def run() -> None:
        async with _opened(state_dir, etcd, unlock_key) as store:
            pairs, _ = await store.store.load(codec.PREFIX)
        reasons = await unreadable(pairs)
        start = full_key(prefix)
        listed = [pair for pair in pairs if pair.key.startswith(start)]
        if not listed:
            raise NotFound(f"no key begins with {start} (skep store ls, without PREFIX, lists all)")
        for pair in sorted(listed, key=lambda pair: pair.key):
            if pair.key in reasons or not quarantined:
                reason = f"  {reasons[pair.key]}" if quarantined else _mark(pair, reasons)
                click.echo(f"{pair.key}  {len(pair.value)} B  revision {pair.revision}{reason}")

    asyncio.run(run())


@store.command("get")
@click.argument("key")
@click.option("--raw", is_flag=True, help="The value's bytes, opened, as they are.")
@_where
def get(key: str, raw: bool, state_dir: Path, etcd: str, unlock_key: str) -> None:
    """Prints the value of KEY as JSON, keys and secrets too: mind who sees it."""

    async def run() -> KeyValue:
        async with _opened(state_dir, etcd, unlock_key) as store:
            return _found((await store.store.load(full_key(key)))[0], full_key(key))

    pair = asyncio.run(run())
    if pair.trouble:
        raise Corrupt(pair.trouble)
    if raw:
        sys.stdout.buffer.write(pair.value)
    else:
        click.echo(msgspec.json.format(msgspec.json.encode(shown(pair))).decode())


@store.command("rm")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@click.option("--force", "-f", is_flag=True, help="Do not ask.")
@_where
def rm(keys: tuple[str, ...], force: bool, state_dir: Path, etcd: str, unlock_key: str) -> None:
    """Removes KEYs, with what would be nobody's without them: an object's name, a service's tasks.

    Take a backup first (skep backup create) where that is possible. What was removed cannot be had back.
    """

    async def run() -> None:
        async with _opened(state_dir, etcd, unlock_key, to_write=True) as store:
            pairs, _ = await store.store.load(codec.PREFIX)
            gone = [each for key in keys for each in with_its_own(pairs, full_key(key))]
            gone = list({pair.key: pair for pair in gone}.values())
            if not force:
                _ask(gone)
            for start in range(0, len(gone), OPS_MAX):
                part = gone[start : start + OPS_MAX]
                # A manager that leads has these in its memory, and would write some anew: its lead goes, too.
                ops = (*(Delete(pair.key) for pair in part), Delete(codec.LEADER_KEY))
                compares = tuple(Compare(pair.key, pair.revision) for pair in part)
                await store.store.commit(Txn(ops, compares=compares))
                for pair in part:
                    click.echo(f"Deleted: {pair.key}")

    asyncio.run(run())


@contextlib.asynccontextmanager
async def _opened(
    state_dir: Path, etcd: str, unlock_key: str, to_write: bool = False
) -> AsyncIterator[Opened]:
    if not unlock_key and needs_unlock_key(state_dir):
        unlock_key = ask_unlock_key()
    async with opened(state_dir, etcd, unlock_key, to_write) as store:
        for note in store.notes:
            click.echo(f"Warning: {note}", err=True)
        yield store


def full_key(text: str) -> str:
    """Returns a key as the store has it: services/x is /skep/services/x."""
    return text if text.startswith(codec.PREFIX) else codec.PREFIX + text.removeprefix("/")


async def unreadable(pairs: Iterable[KeyValue]) -> dict[str, str]:
    """Returns why keys cannot be read, as a leader that loads them would find."""
    found: dict[str, str] = {}
    others = []
    for pair in pairs:
        if pair.key not in KEPT:
            others.append(pair)
            continue
        try:
            await view_of([pair])
        except Corrupt as error:
            found[pair.key] = str(error)
    view = await view_of(others)
    return found | {key: each.reason for key, each in view.quarantine.items()}


def shown(pair: KeyValue) -> Any:
    """Returns the value for people: as its kind, or else as what msgpack makes of it, or its bytes."""
    if codec.is_bucket(pair.key):
        with contextlib.suppress(Corrupt):
            return codec.decode_bucket(pair.key, pair.value, pair.revision)
    try:
        return msgspec.to_builtins(msgspec.msgpack.decode(pair.value), str_keys=True)
    except (msgspec.MsgspecError, ValueError, TypeError):
        pass
    try:
        return pair.value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(pair.value).decode()}


def with_its_own(pairs: Iterable[KeyValue], key: str) -> list[KeyValue]:
    """Returns a key and those that are nobody's without it. Errors: `NotFound`, `Invalid`."""
    if key in KEPT:
        advice = "without it there is no swarm (skep backup restore makes one)"
        raise Invalid(f"{key} cannot be removed: {advice}")
    pairs = list(pairs)
    found, object_id = [_found(pairs, key)], codec.id_of(key)
    for pair in pairs:
        is_name = pair.key.startswith(codec.PREFIX + "names/") and pair.value == object_id.encode()
        is_task = codec.is_bucket(pair.key) and codec.is_service(key) and codec.id_of(pair.key) == object_id
        is_attached = codec.is_node(key) and pair.key.startswith(codec.attachment_key(object_id, ""))
        if is_name or is_task or is_attached:
            found.append(pair)
    return found


def _found(pairs: Iterable[KeyValue], key: str) -> KeyValue:
    for pair in pairs:
        if pair.key == key:
            return pair
    raise NotFound(f"the store has no key {key}")


def _ask(gone: list[KeyValue]) -> None:
    click.echo("WARNING! This will remove from the swarm's store, for good:", err=True)
    for pair in gone:
        click.echo(f"  - {pair.key}", err=True)
    click.confirm("Are you sure you want to continue?", abort=True, err=True)


def _mark(pair: KeyValue, reasons: dict[str, str]) -> str:
    return "  cannot be read" if pair.key in reasons else ""
