"""What hosts are given of skep: itself, and its libraries. Those are the ones that it runs with here, where a
host's Python is the same; else pip fetches them here for the host's.

A host needs neither pip nor the package index, only a Python. Libraries are kept by what they are for, in
`~/.cache/skep`: all hosts of one kind have the same, and those that have them are not sent them again.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import IO

from msgspec import Struct

import skep
from skep.machine.drivers import Say
from skep.machine.facts import MachineFacts
from skep.machine.own_libraries import OwnLibraries, own_libraries
from skep.runtime.entry import reason_of
from skep.runtime.errors import Invalid, NotFound, Unavailable

PIP_S = 900.0  # 60 MB of wheels over a slow line
KEPT_MAX = 6  # archives of 40 MB: some Pythons, on one or two architectures, of this skep and the one before
_COMPRESSION = 1  # a tenth larger than at most, in a fifth of the time
_ONE_AT_A_TIME = threading.Lock()  # of many hosts at once the first looks, the others have what it found
# Wheels for which of them are taken, the best first: 2.28 and before are for any host. Some libraries have
# none of these, and `pip download` on a Debian 12 (2.36) takes the newest: hosts with Python 3.11 have as new
# a glibc, but for RHEL 8.
_GLIBCS = ("_2_28", "_2_17", "2014", "_2_31", "_2_34", "_2_35", "_2_36")
_SEEN_OF_PIP = 3  # last lines, where it fails


class Bundle(Struct, frozen=True):
    """An archive (tar, gzip) that becomes the directory `name` on hosts."""

    name: str
    content: bytes


class LibrariesFor(Struct, frozen=True):
    """Which host they are for: its Python ("3.11") and its architecture, as `uname -m` says it."""

    python: str
    architecture: str

    @classmethod
    def of(cls, facts: MachineFacts) -> LibrariesFor:
        return cls(facts.python, facts.architecture)


def cache_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Returns where libraries are kept between two hosts."""
    return Path(environment.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "skep/libraries"


def libraries_name(host: LibrariesFor, wheel_house: Path | None) -> str:
    """Returns what the libraries of such hosts are called: another name for other libraries. Errors:
    `Invalid` where the wheel house is none, `NotFound` where skep is not installed as a package."""
    own = _own(host, wheel_house)
    parts = [host.python, host.architecture, *(own.versions if own else _requirements())]
    if wheel_house is not None:
        parts += [f"{each.name} {each.stat().st_size}" for each in _wheels(wheel_house)]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
    return f"py{host.python}-{host.architecture}-{digest}"


async def libraries(host: LibrariesFor, wheel_house: Path | None, cache: Path, say: Say) -> Bundle:
    """Returns them, from what is kept where it is there. Two that want the same at the same time have one
    made. Errors: `Unavailable` where pip finds not all of them, `Invalid`, `NotFound`."""
    name = libraries_name(host, wheel_house)
    try:
        return await asyncio.to_thread(_kept, name, host, wheel_house, cache, say)
    except OSError as error:  # a full disk
        raise Unavailable(f"skep's libraries cannot be packed: {reason_of(error)}") from error


def _kept(name: str, host: LibrariesFor, wheel_house: Path | None, cache: Path, say: Say) -> Bundle:
    path = cache / f"{name}.tar.gz"
    with _locked(cache):
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=cache, prefix=".making-") as making:
                if (own := _own(host, wheel_house)) is not None:
                    say("Packing skep's libraries...")
                    wanted = own.files
                else:
                    say(f"Fetching skep's libraries for Python {host.python} on {host.architecture}...")
                    _run_pip(Path(making) / "tree", host, wheel_house)
                    wanted = _files(Path(making) / "tree")
                archive = Path(making) / "archive"
                with gzip.open(archive, "wb", compresslevel=_COMPRESSION) as stream:
                    _archive(stream, wanted)
                with archive.open("rb") as made:
                    os.fsync(made.fileno())
                archive.replace(path)
            _forget_oldest(cache)
        os.utime(path)
        return Bundle(name, path.read_bytes())


def _own(host: LibrariesFor, wheel_house: Path | None) -> OwnLibraries | None:
    """Returns None where they are to be fetched. Who names a wheel house has that."""
    if wheel_house is not None:
        return None
    requirements = tuple(_requirements())
    with _ONE_AT_A_TIME:
        return _own_of(host, requirements)


@functools.cache
def _own_of(host: LibrariesFor, requirements: tuple[str, ...]) -> OwnLibraries | None:
    # Thousands of files are looked for, and what is installed here stays so while a command runs.
    return own_libraries(host.python, host.architecture, requirements)


def _run_pip(tree: Path, host: LibrariesFor, wheel_house: Path | None) -> None:
    platforms = [f"manylinux{each}_{host.architecture}" for each in _GLIBCS]
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"),
        *("--target", str(tree), "--only-binary", ":all:", "--implementation", "cp"),
        *("--python-version", host.python, *(f"--platform={each}" for each in platforms)),
        *(() if wheel_house is None else ("--no-index", "--find-links", str(wheel_house))),
        *_requirements(),
    ]
    _call_pip(command)
    shutil.rmtree(tree / "bin", ignore_errors=True)  # programs of libraries, for this machine's Python


def _call_pip(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PIP_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"pip does not end within {PIP_S:g} s") from error
    if done.returncode != 0:
        if "No module named pip" in done.stderr:
            raise NotFound(f"skep's libraries are fetched by pip, which {sys.executable} has not: install it")
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr]
        raise Unavailable(f"pip cannot fetch skep's libraries: {' / '.join(lines[:_SEEN_OF_PIP])}")


def _requirements() -> list[str]:
    """Returns what skep needs, as pip takes it. Errors: `NotFound`."""
    try:
        return sorted(each for each in requires("skep") or () if "extra ==" not in each)
    except PackageNotFoundError as error:
        raise NotFound("skep is not installed as a package here, so nobody knows its libraries") from error


def _wheels(directory: Path) -> list[Path]:
    found = sorted(directory.glob("*.whl")) if directory.is_dir() else []
    if not found:
        raise Invalid(f"--wheel-house {directory}: no directory with wheels (*.whl)")
    return found


def _forget_oldest(cache: Path) -> None:
    kept = sorted(cache.glob("*.tar.gz"), key=lambda each: each.stat().st_mtime, reverse=True)
    for each in kept[KEPT_MAX:]:
        each.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(cache: Path) -> Iterator[None]:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = (cache / "lock").open("a")
    except OSError as error:
        raise Invalid(f"{cache} cannot be written: {error.strerror}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def program() -> Bundle:
    """Returns this skep, without its libraries: packed once for all hosts of a command. Errors:
    `NotFound`."""
    with _ONE_AT_A_TIME:
        return _program()


@functools.cache
def _program() -> Bundle:
    source = Path(skep.__file__).parent
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", mtime=0) as packed:
        _archive(packed, {f"skep/{name}": path for name, path in _files(source).items()}, _metadata())
    content = stream.getvalue()
    return Bundle(f"skep-{skep.__version__}-{hashlib.sha256(content).hexdigest()[:12]}", content)


def _metadata() -> dict[str, bytes]:
    """Returns the file by which a Python knows that skep is installed, and what it needs."""
    lines = ["Metadata-Version: 2.1", "Name: skep", f"Version: {skep.__version__}"]
    lines += [f"Requires-Dist: {each}" for each in _requirements()]
    return {f"skep-{skep.__version__}.dist-info/METADATA": "\n".join([*lines, ""]).encode()}


def _files(tree: Path) -> dict[str, Path]:
    paths = (path for path in tree.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(tree)): path for path in paths}


def _archive(
    stream: IO[bytes] | gzip.GzipFile, wanted: Mapping[str, Path], more: Mapping[str, bytes] | None = None
) -> None:
    """Writes them as root's, who alone may write: the same files make the same archive."""
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, path in sorted(wanted.items()):
            _add(archive, name, path.read_bytes())
        for name, content in (more or {}).items():
            _add(archive, name, content)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    archive.addfile(_Entry(name, len(content)), io.BytesIO(content))


class _Entry(tarfile.TarInfo):
    """A file of root's, of no time."""

    def __init__(self, name: str, length: int) -> None:
        super().__init__(name)
        self.size, self.mode = length, 0o644
