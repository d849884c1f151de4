"""Runs programs of this host, and holds locks on files without standing still."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from shutil import which

from skep.machine.remote_shell import last_lines
from skep.machine.store import make_directory
from skep.runtime.errors import Denied, Unavailable

OUTPUT_BYTES_MAX = 65536  # ours say a line; of a program that says more, it is the end that counts
LOCK_RETRY_S = 0.05
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
HERE = Path(__file__).parent


def script(name: str) -> list[str]:
    """Returns the words that run one of the scripts beside this file."""
    return ["sh", str(HERE / name)]


def environment(values: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns what a program is given: paths that root's shells may lack, proxies, and the values."""
    kept = {
        name: os.environ[name] for name in ("http_proxy", "https_proxy", "no_proxy") if name in os.environ
    }
    path = f"{os.environ.get('PATH', '/usr/bin:/bin')}:{SBIN}"
    return {**kept, "PATH": path, "LC_ALL": "C", **(values or {})}


def missing(programs: Sequence[str]) -> list[str]:
    """Returns those that this host does not have."""
    return [each for each in programs if which(each, path=environment()["PATH"]) is None]


async def run_program(
    words: Sequence[str], failing: str, values: Mapping[str, str] | None = None, timeout_s: float = 60.0
) -> str:
    """Returns what it prints. Errors: `Unavailable`, with `failing` and what it said, also where it takes too
    long; it has ended then."""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment(values),
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, _ = await process.communicate()
    except TimeoutError as error:
        raise Unavailable(f"{failing}: {words[0]} did not end within {timeout_s:g} s") from error
    finally:
        await end_session(process)
    text = out[-OUTPUT_BYTES_MAX:].decode(errors="replace")
    if process.returncode != 0:
        raise Unavailable(f"{failing}: {last_lines(text) or f'status {process.returncode}'}")
    return text


async def end_session(process: asyncio.subprocess.Process) -> None:
    """Kills one that leads a session of its own, with what it has started; nothing where it has ended."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@contextlib.asynccontextmanager
async def locked(path: Path) -> AsyncIterator[int]:
    """One at a time, of all processes; yields the descriptor. The kernel gives the lock up with the last
    process that has it; who has it may remove the file. Errors: `Denied`, `Invalid`."""
    while (descriptor := _try_lock(path)) is None:  # noqa: ASYNC110  # of other processes
        await asyncio.sleep(LOCK_RETRY_S)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    make_directory(path.parent)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None  # who removes the last machine removes its directory
    except OSError as error:
        raise Denied(f"{path} cannot be written: {error.strerror}") from error
    with contextlib.suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor
    os.close(descriptor)
    return None
