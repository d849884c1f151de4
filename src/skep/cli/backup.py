"""`skep backup`: a swarm in a file, what is in such a file, and a swarm made of it again."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
import msgspec

from skep.client.api import ApiClient, ApiError, refusal
from skep.runtime.errors import Conflict, Corrupt, Invalid, SkepError, Unavailable
from skep.store.backup import Header, check

CHUNK_BYTES = 256 << 10
SILENT_S = (
    60.0  # a stream that stands still for as long has ended; restoring a large swarm takes some seconds
)

Progress = Callable[[int], None]  # bytes so far


async def create(urls: list[str], file: Path, force: bool, progress: Progress) -> Header:
    """Writes a backup of the swarm and returns what is in it. The file is whole or not there.

    Errors: `Conflict` where there is a file, `Invalid` where it cannot be written, `ApiError`, `Corrupt`;
    `Unavailable` where no daemon answers.
    """
    if file.exists() and not force:
        raise Conflict(f"{file} exists already: choose another name, or replace it with --force")
    part = file.with_name(file.name + ".new")
    try:
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w+b") as stream:
            size = 0
            async for chunk in _from_any(urls):
                size += stream.write(chunk)
                progress(size)
            stream.flush()
            os.fsync(stream.fileno())
            stream.seek(0)
            header = check(stream)
        part.replace(file)
        _sync_directory(file.parent)
    except OSError as error:
        raise Invalid(f"{file} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return header


def inspect(file: Path) -> Header:
    """Returns what is in a backup whose checksum is right. Errors: `Invalid`, `Corrupt`, `Unsupported`."""
    try:
        with file.open("rb") as stream:
            return check(stream)
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror or error}") from error


async def restore(
    url: str, file: Path, listen: str, advertise: str, unlock_key: str, progress: Progress
) -> tuple[str, list[str]]:
    """Has the daemon become the only manager of the swarm in the file; returns its node id, and what was
    left out.

    Errors: as `inspect`; `ApiError`, `Unavailable`.
    """
    inspect(file)
    await _require_free(url)
    client = _client(url)
    path = "/skep/v1/restore?" + urlencode({"listen_addr": listen, "advertise_addr": advertise})
    try:
        async with client.session.post(
            client.at(path), data=_content(file, progress), headers={"Skep-Unlock-Key": unlock_key}
        ) as answer:
            content = await answer.read()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unavailable(f"no daemon answers at {url}: {error}") from error
    finally:
        await client.close()
    if answer.status >= 400:
        raise refusal(answer.status, content)
    said = msgspec.json.decode(content)
    return str(said["NodeID"]), list(said.get("Warnings", []))  # an earlier skepd says none


async def _require_free(url: str) -> None:
    """The daemon would refuse it itself, in the middle of the file. Errors: `Conflict`, `Unavailable`."""
    client = ApiClient(url)
    try:
        info = await client.json("GET", "/info")
    finally:
        await client.close()
    state = info.get("Swarm", {}).get("LocalNodeState", "inactive")
    if state != "inactive":
        raise Conflict(
            f"the node at {url} is part of a swarm already (state: {state}): restore on a machine that is in"
            " none, or have it leave first (docker swarm leave)"
        )


def described(header: Header) -> list[str]:
    """Returns lines that say what is in a backup."""
    taken = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(header.created_at))
    return [
        f"swarm       {header.cluster_id}",
        f"taken       {taken}, by skep {header.skep} (format {header.format}, schema {header.schema})",
        f"holds       services: {header.services}, tasks: {header.tasks}, nodes: {header.nodes},"
        f" bytes: {header.bytes}",
        "opens with  " + ("the swarm's unlock key" if header.is_locked else "no other key: keep it safe"),
    ]


def digest_of(file: Path) -> str:
    """Returns the file's SHA-256, as sha256sum prints it. Errors: `Invalid`."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror or error}") from error


async def _from_any(urls: list[str]) -> AsyncIterator[bytes]:
    """Yields the backup from the first manager that answers; none is asked once one has begun."""
    failures: list[str] = []
    for url in urls:
        begun = False
        try:
            async for chunk in _from(url):
                begun = True
                yield chunk
        except (Unavailable, ApiError) as error:
            if begun or (isinstance(error, ApiError) and error.status != 503):
                raise
            failures.append(str(error))
            continue
        return
    raise Unavailable("; ".join(failures))


async def _from(url: str) -> AsyncIterator[bytes]:
    client = _client(url)
    try:
        async with client.session.get(client.at("/skep/v1/backup")) as answer:
            if answer.status >= 400:
                raise refusal(answer.status, await answer.read())
            async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                yield chunk
    except aiohttp.ClientPayloadError as error:
        raise Corrupt(
            "the backup ended too early: the manager was lost while it was taken; try again"
        ) from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unavailable(f"no daemon answers at {url}: {error or 'it took too long'}") from error
    finally:
        await client.close()


def _client(url: str) -> ApiClient:
    return ApiClient(url, timeout_s=None, silent_s=SILENT_S)


async def _content(file: Path, progress: Progress) -> AsyncIterator[bytes]:
    size = 0
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
                size += len(chunk)
                progress(size)
    except OSError as error:
        raise SkepError(f"{file} cannot be read: {error.strerror or error}") from error


def _sync_directory(directory: Path) -> None:
    """A name lasts when its directory is written."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
