"""A directory whose files are in memory, never on a disk; several skepds of one host share it.

It is made a tmpfs where it is none, and goes with the last thing in it. Who writes there holds a lock on it
meanwhile, so that nobody takes the tmpfs away and what is written goes to the disk below.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

MEMORY = ("tmpfs", "ramfs")
# At most a quarter of the memory: a task that does not fit is refused, the node goes on.
MOUNT_OPTIONS = ("mode=0700,size=25%,noswap", "mode=0700,size=25%")  # noswap: Linux 6.4
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MNT_DETACH = 2
SOURCE = "skep-tasks"  # what marks our mount: one that somebody else made is not ours to take away
# Whoever holds the lock does so for milliseconds: one that is stopped (SIGSTOP) holds up nobody else's node.
LOCK_S = 10.0
LOCK_AGAIN_S = 0.02
TRIES_MAX = 100  # each of which another skepd takes the place away, or makes it, just then


@contextlib.asynccontextmanager
async def memory(directory: Path) -> AsyncIterator[None]:
    """What is written there meanwhile is in memory: no other skepd of this host takes the tmpfs away. Errors:
    `OSError`."""
    for _ in range(TRIES_MAX):
        await ensure_memory(directory)
        handle = await _locked(directory, fcntl.LOCK_SH)
        try:
            if handle is not None:
                yield
                return
        finally:
            if handle is not None:
                os.close(handle)
    raise OSError(errno.EAGAIN, f"{directory} comes and goes all the time")


async def leave_memory(directory: Path) -> None:
    """Takes the place away where nobody has anything there, and it is ours. Errors: `OSError`."""
    for _ in range(TRIES_MAX):
        if not directory.is_dir() or any(directory.iterdir()):
            return
        handle = await _locked(directory, fcntl.LOCK_EX)
        if handle is None:
            continue  # it was mounted, or taken away, meanwhile
        try:
            if any(directory.iterdir()):
                return
            if directory.is_mount():
                if not _is_our_mount(directory):
                    return
                _unmount(directory)  # what was below it is looked at next
                continue
            with contextlib.suppress(FileNotFoundError):
                directory.rmdir()
            return
        finally:
            os.close(handle)


async def _locked(directory: Path, kind: int) -> int | None:
    """Returns a handle of the directory as it is now, locked; None where it became another one meanwhile."""
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        await _lock(handle, kind, directory)
        if os.path.samestat(os.fstat(handle), directory.stat()):
            return handle
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


async def _lock(handle: int, kind: int, directory: Path) -> None:
    """Never waits in the kernel: the whole daemon would."""
    now = asyncio.get_running_loop().time
    until = now() + LOCK_S
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if now() > until:
                text = f"{directory} is locked by another process, for long: is a skepd stopped?"
                raise OSError(errno.EAGAIN, text) from None
        await asyncio.sleep(LOCK_AGAIN_S)


async def ensure_memory(directory: Path) -> None:
    """Mounts a tmpfs there, unless it is in memory already. Errors: `OSError`."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if is_in_memory(directory):
        return
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Another skepd of this host may be about to do the same, and would hide what is written below.
        await _lock(handle, fcntl.LOCK_EX, directory)
        if not is_in_memory(directory):
            _mount_tmpfs(directory)
    finally:
        os.close(handle)


def is_in_memory(directory: Path) -> bool:
    """True where what is written there is never on a disk, but swapped out at most."""
    path = os.path.realpath(directory)
    best, kind = "", ""
    for point, mounted, _ in _mounts():
        is_above = path == point or path.startswith(point.rstrip("/") + "/")
        if is_above and len(point) >= len(best):  # of several at one place the last is on top
            best, kind = point, mounted
    return kind in MEMORY


def _is_our_mount(directory: Path) -> bool:
    path = os.path.realpath(directory)
    there = [(kind, source) for point, kind, source in _mounts() if point == path]
    return there[-1:] == [("tmpfs", SOURCE)]


def _mounts() -> Iterator[tuple[str, str, str]]:
    """Yields where each is, of which kind, and its source."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, source = rest.split()[:2]
        yield fields.split()[4].encode().decode("unicode_escape"), kind, source


def _unmount(directory: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(directory), MNT_DETACH) != 0:  # our own handle holds it, with the lock
        number = ctypes.get_errno()
        raise OSError(number, f"the tmpfs there cannot be taken away ({os.strerror(number)})")


def _mount_tmpfs(directory: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for options in MOUNT_OPTIONS:
        flags = ctypes.c_ulong(MS_NOSUID | MS_NODEV | MS_NOEXEC)
        if libc.mount(SOURCE.encode(), os.fsencode(directory), b"tmpfs", flags, options.encode()) == 0:
            return
    number = ctypes.get_errno()
    raise OSError(number, f"no tmpfs can be mounted there ({os.strerror(number)}): skepd needs to be root")
