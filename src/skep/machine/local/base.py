"""The image that machines of a release are made over: made once, by debootstrap, for all of this host."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from pathlib import Path

from skep.machine.drivers import Say
from skep.machine.local.plan import Image
from skep.machine.local.programs import end_session, environment, locked, run_program, script
from skep.machine.remote_shell import last_lines
from skep.machine.store import make_directory
from skep.runtime.errors import SkepError, Unavailable

MAKE_S = 3600.0  # 150 MB of packages over a slow line
SAY_S = 5.0  # between two lines of progress
_STAGE = re.compile(
    r"^(?:I: |Get:\d+ \S+ |)((?:Retrieving|Extracting|Unpacking|Configuring|Setting up) [^\s:]+)"
)
_LOG_BYTES = 4096  # of its end, where it says what it does now


def image_path(directory: Path, image: Image) -> Path:
    """Returns where the image is, or will be."""
    recipe = Path(script("base.sh")[-1]).read_bytes()
    return directory / image.name(recipe)


def image_is_whole(path: Path) -> bool:
    return (path / "made").exists()


async def ensure_image(directory: Path, image: Image, mirror: str, say: Say) -> Path:
    """Returns the image's path, once it is there: whole, or not at all. Who comes while it is made waits.
    Errors: `Unavailable`, with the last lines that were said; `Denied`."""
    path = image_path(directory, image)
    if image_is_whole(path):
        return path
    make_directory(directory)
    lock = directory / f"{path.name}.lock"
    waiting = asyncio.create_task(_say_waiting(lock, say))
    try:
        async with locked(lock) as descriptor:
            waiting.cancel()
            if not image_is_whole(path):
                await _make(path, image, mirror or await _mirror(), descriptor, say)
    finally:
        waiting.cancel()
    return path


async def _say_waiting(lock: Path, say: Say) -> None:
    await asyncio.sleep(1.0)
    say(f"The base image is being made by another command (its lock: {lock}): waiting for it...")


async def _make(path: Path, image: Image, mirror: str, lock: int, say: Say) -> None:
    began = time.monotonic()
    say(f"Making the base image of Debian {image.release}, once for all machines, in {path}...")
    log = path.with_name(f"{path.name}.log")
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            # What it mounts, and what it has started, ends with it.
            *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"),
            *(*script("base.sh"), image.release, image.init, mirror, str(path), *image.packages),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(),
            start_new_session=True,
            pass_fds=(lock,),  # where this process is killed, the image is made to its end, and others wait
        )
    try:
        async with asyncio.timeout(MAKE_S):
            await _watch(process, path, log, began, say)
    except TimeoutError as error:
        raise Unavailable(f"the base image was not made within {MAKE_S:g} s: see {log}") from error
    finally:
        await end_session(process)
        await asyncio.to_thread(shutil.rmtree, path.with_name(f"{path.name}.making"), ignore_errors=True)
    if process.returncode != 0 or not image_is_whole(path):
        raise Unavailable(f"the base image cannot be made: {last_lines(_end_of(log))} ({log} has all of it)")
    log.unlink(missing_ok=True)
    size = (path / "made").read_text().strip()
    say(f"The base image has {size} MB and took {time.monotonic() - began:.0f} s; rm -r {path} removes it")


async def _watch(process: asyncio.subprocess.Process, path: Path, log: Path, began: float, say: Say) -> None:
    ended = asyncio.create_task(process.wait())
    try:
        while not (await asyncio.wait((ended,), timeout=SAY_S))[0]:
            megabytes = await asyncio.to_thread(_size_of, path.with_name(f"{path.name}.making"))
            doing = _doing(_end_of(log))
            say(f"... {time.monotonic() - began:.0f} s, {megabytes} MB{f': {doing}' if doing else ''}")
    finally:
        ended.cancel()


def _doing(text: str) -> str:
    """Returns what the log says last that people understand."""
    found = [match[1] for line in text.splitlines() if (match := _STAGE.match(line))]
    return found[-1] if found else ""


def _end_of(log: Path) -> str:
    with log.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - _LOG_BYTES))
        return stream.read().decode(errors="replace")


def _size_of(path: Path) -> int:
    """Returns megabytes on the disk; what goes meanwhile is not counted."""
    total = 0
    for directory, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(directory, name)).st_blocks
            except OSError:
                continue
    return total * 512 >> 20


async def _mirror() -> str:
    """Returns where this host has Debian's packages from; empty where it is no Debian."""
    try:
        said = await run_program(
            ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"], "apt"
        )
    except (SkepError, FileNotFoundError):
        return ""
    found = [line.split()[1] for line in said.splitlines() if line.startswith("Debian ")]
    return found[0] if found else ""
