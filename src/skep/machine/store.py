"""The user's machines on disk, where docker-machine has them: `~/.docker/machine`.

    certs/{ca,ca-key,cert,key}.pem                  one authority and one client, for all machines
    machines/NAME/config.json, ca.pem, …, host-key  one machine; `lock` is held by whoever changes it
    lock                                            held by whoever makes one of them: two that begin at the
                                                    same time use one authority

Directories are 0700, files 0600, each written whole or not at all.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from skep.machine.names import check_name
from skep.machine.record import Machine, from_config, parse_config, to_config
from skep.runtime.errors import Conflict, Invalid, NotFound

FILE_BYTES_MAX = 1 << 20  # a config.json has some 3 kB; what is larger is none
HOST_KEY = "host-key"


def default_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Returns where machines are kept: as docker-machine has it."""
    own = environment.get("MACHINE_STORAGE_PATH")
    return Path(own).absolute() if own else Path("~/.docker/machine").expanduser()


class MachineStore:
    """`path` is made when something is written; reading makes nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def directory(self, name: str) -> Path:
        return self.path / "machines" / check_name(name)

    @property
    def certs(self) -> Path:
        return self.path / "certs"

    def names(self) -> list[str]:
        """Returns the machines' names, sorted. Those that are being made have no config yet, and are none."""
        return sorted(path.parent.name for path in (self.path / "machines").glob("*/config.json"))

    def has(self, name: str) -> bool:
        return (self.directory(name) / "config.json").exists()

    def load(self, name: str) -> Machine:
        """Errors: `NotFound`, in docker-machine's words; `Corrupt`."""
        return from_config(self._config(name), name)

    def config(self, name: str) -> dict[str, Any]:
        """Returns all that is kept of a machine. Errors: `NotFound`, `Corrupt`."""
        return parse_config(self._config(name), name)

    def _config(self, name: str) -> bytes:
        try:
            return read_file(self.directory(name) / "config.json")
        except FileNotFoundError as error:
            raise NotFound(
                f'Docker machine "{name}" does not exist. Use "skep machine ls" to list machines.'
                ' Use "skep machine create" to add a new one.'
            ) from error

    def add(self, machine: Machine) -> None:
        """Errors: `Conflict` where the name is taken, also by one that is being made now."""
        with self.locked():
            # A directory without a config is what a create has left that was killed here.
            if self.has(machine.name):
                raise Conflict(
                    f'Docker machine "{machine.name}" already exists. "skep machine provision {machine.name}"'
                    f' goes on with one that is half-made, "skep machine rm {machine.name}" removes it'
                )
            make_directory(self.directory(machine.name))
            self.save(machine)

    def save(self, machine: Machine) -> None:
        """Writes its config, with what others have in it. Errors: `Invalid`, `Corrupt`."""
        path = self.directory(machine.name) / "config.json"
        with contextlib.suppress(FileNotFoundError):
            before = parse_config(read_file(path), machine.name)
            write_file(path, to_config(machine, self.path, before))
            return
        write_file(path, to_config(machine, self.path))

    def remove(self, name: str) -> None:
        """What is there of it goes; nothing is left of one whose config cannot be read. Errors:
        `NotFound`."""
        directory = self.directory(name)
        if not directory.is_dir():
            self._config(name)
        # The config first: what is interrupted here is no machine any more, and can be made anew.
        (directory / "config.json").unlink(missing_ok=True)
        shutil.rmtree(directory, ignore_errors=False)

    def host_key(self, name: str) -> str | None:
        return pinned_key(self.directory(name))

    def pin_host_key(self, name: str, key: str) -> None:
        """Errors: `Invalid`."""
        write_file(self.directory(name) / HOST_KEY, key.encode() + b"\n")

    def forget_host_key(self, name: str) -> None:
        """The next one that is seen is pinned. Errors: `NotFound`."""
        self._config(name)
        (self.directory(name) / HOST_KEY).unlink(missing_ok=True)

    def write_known_hosts(self, name: str, line: str) -> Path:
        """Returns a file for OpenSSH. Errors: `Invalid`."""
        path = self.directory(name) / "known_hosts"
        write_file(path, line.encode())
        return path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time. The kernel gives it up where its holder dies. Errors: `Invalid`."""
        make_directory(self.path)
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Invalid(f"{self.path / 'lock'} cannot be written: {error.strerror}") from error
        with os.fdopen(descriptor, "rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def at_work(self, name: str) -> Iterator[Machine]:
        """One command at a time changes a machine; yields it as the one before has left it. Errors:
        `Conflict` where another is at it, `NotFound`, `Invalid`, `Corrupt`."""
        path = self.directory(name) / "lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            self._config(name)
            raise
        except OSError as error:
            raise Invalid(f"{path} cannot be written: {error.strerror}") from error
        with os.fdopen(descriptor, "rb+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(f"another command is at work on {name}: wait for its end") from error
            yield self.load(name)


def pinned_key(directory: Path) -> str | None:
    """Returns the key that a machine's host had when it was seen first, as OpenSSH writes it; None where that
    has not been. `directory`: the machine's. Errors: `Invalid`."""
    try:
        return read_file(directory / HOST_KEY).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None


def read_file(path: Path) -> bytes:
    """Errors: `FileNotFoundError`; `Invalid` for all else that keeps it from being read."""
    try:
        with path.open("rb", buffering=0) as stream:  # thousands of them are read
            content = stream.read(min(os.fstat(stream.fileno()).st_size, FILE_BYTES_MAX) + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > FILE_BYTES_MAX:
        raise Invalid(f"{path} has more than {FILE_BYTES_MAX} bytes")
    return content


def write_file(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all, which only its owner may read. Errors: `Invalid`."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise Invalid(f"{path} cannot be written: {error.strerror}") from error


def make_directory(path: Path) -> None:
    """Makes it and what is above, for the owner alone. Errors: `Invalid`."""
    try:
        for each in (*reversed(path.parents), path):
            each.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Invalid(f"{path} cannot be made: {error.strerror}") from error
