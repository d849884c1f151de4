"""Local machines on this host's disk, below one directory that shares a network.

DIRECTORY/lock            held by whoever adds a machine, or takes the last one away
DIRECTORY/network         the machines' network: 10.218.0.0/24
DIRECTORY/bridge          the namespace of its bridge, mounted there
DIRECTORY/hosts/HOST/     one machine: host.json; upper, work and root (its files over the image's); data
                          (what is on the disk itself: its engine's and skepd's); host.sh, by which it
                          runs, and what that said (log); lock, supervisor and init while it is on
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from skep.machine.local import plan
from skep.machine.local.plan import LocalHost
from skep.machine.local.programs import locked
from skep.machine.store import make_directory, read_file, write_file
from skep.runtime.errors import Conflict, Corrupt, Invalid

MOUNTS = Path("/proc/self/mountinfo")
DATA = ("docker", "containerd", "skep")


class LocalHosts:
    """Those of one directory. Nothing is made before `adding`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, host: str) -> Path:
        return self.directory / "hosts" / host

    @contextlib.asynccontextmanager
    async def adding(self) -> AsyncIterator[None]:
        """One process at a time adds machines, or removes them. Errors: `Denied`, `Invalid`."""
        async with locked(self.directory / "lock"):
            yield

    def names(self) -> list[str]:
        """Returns all that there are, also by half."""
        return sorted(each.name for each in (self.directory / "hosts").glob("*/") if each.is_dir())

    def load(self, host: str) -> LocalHost | None:
        """None where it is not there, or by half. Errors: `Corrupt`."""
        try:
            return msgspec.json.decode(read_file(self.path(host) / "host.json"), type=LocalHost)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise Corrupt(f"{self.path(host) / 'host.json'} cannot be used: {error}") from error

    def network(self) -> ipaddress.IPv4Network | None:
        """None before the first machine. Errors: `Corrupt`."""
        try:
            return ipaddress.IPv4Network(read_file(self.directory / "network").decode().strip())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise Corrupt(f"{self.directory / 'network'} cannot be used: {error}") from error

    def save_network(self, network: ipaddress.IPv4Network) -> None:
        write_file(self.directory / "network", f"{network}\n".encode())

    def add(self, name: str, host: LocalHost, files: dict[str, tuple[int, bytes]]) -> None:
        """Makes its directory, with files of its own over the image's: a mode and a content by their paths.
        It is there whole or not at all."""
        own = self.path(name)
        make_directory(own)
        for each in ("upper", "work", "root", "data"):
            (own / each).mkdir(exist_ok=True)
            (own / each).chmod(0o755)  # each machine's users see these as / and /var/lib/…
        for each in DATA:
            (own / "data" / each).mkdir(mode=0o711, exist_ok=True)
        for path, (mode, content) in files.items():
            at = own / "upper" / path
            _make_parents(own / "upper", at.parent)
            at.write_bytes(content)
            at.chmod(mode)
        write_file(own / "host.json", msgspec.json.encode(host))

    def taken(self) -> list[str]:
        """Returns the addresses that machines have. Errors: `Corrupt`."""
        return [host.address for host in map(self.load, self.names()) if host is not None]

    def remove(self, host: str) -> None:
        """Its files go; no process may be there any more. Errors: `Conflict` where something is mounted among
        them, by somebody else: what is on that would go, too."""
        if mounted := _mounted_below(MOUNTS.read_text(errors="replace"), self.path(host).resolve()):
            raise Conflict(f"something is mounted at {mounted}: umount {mounted}")
        shutil.rmtree(self.path(host), ignore_errors=True)
        if self.path(host).exists():
            shutil.rmtree(self.path(host))  # and says why it cannot

    def remove_shared(self) -> None:
        """What is left where there are no machines; images stay."""
        for each in ("network", "lock"):
            (self.directory / each).unlink(missing_ok=True)
        for path in (self.directory / "hosts", self.directory):
            with contextlib.suppress(OSError):  # images may be there
                path.rmdir()


def _mounted_below(mountinfo: str, directory: Path) -> str:
    """Returns what is mounted at a directory or in it, empty where nothing is; `mountinfo`: the kernel's."""
    for line in mountinfo.splitlines():
        place = line.split(" ")[4]  # a space in it is written \040
        if place == str(directory) or place.startswith(f"{directory}/"):
            return place
    return ""


def new_files(
    name: str, machine_id: str, host_key: tuple[bytes, bytes], user_key: bytes
) -> dict[str, tuple[int, bytes]]:
    """Returns a machine's own files: who it is, and who is let in. `host_key`: both halves."""
    hosts = f"127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost ip6-localhost\n"
    return {
        "etc/hostname": (0o644, f"{name}\n".encode()),
        "etc/hosts": (0o644, hosts.encode()),
        "etc/machine-id": (0o444, f"{machine_id}\n".encode()),
        "etc/ssh/ssh_host_ed25519_key": (0o600, host_key[0]),
        "etc/ssh/ssh_host_ed25519_key.pub": (0o644, host_key[1]),
        "root/.ssh/authorized_keys": (0o600, user_key),
    }


def write_nameservers(own: Path) -> None:
    """The machine asks who its host asks; nobody's loopback is there."""
    text = ""
    for source in ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"):
        with contextlib.suppress(OSError):
            text = Path(source).read_text()
            if plan.has_nameserver(text):
                break
    _write_in_etc(own / "upper", "resolv.conf", text.encode())


def _write_in_etc(upper: Path, name: str, content: bytes) -> None:
    """A machine's root may have made any of it a link, which would lead somewhere else on this host. Where
    its /etc is one, it is left as it is. Errors: `Invalid`."""
    with contextlib.suppress(FileExistsError):
        (upper / "etc").mkdir(mode=0o755)
    try:
        etc = os.open(upper / "etc", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    beside = f".{name}.{secrets.token_hex(8)}"  # which nobody there can tell
    try:
        new = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=etc)
        with os.fdopen(new, "wb") as stream:
            stream.write(content)
            os.fchmod(new, 0o644)
        os.rename(beside, name, src_dir_fd=etc, dst_dir_fd=etc)
    except OSError as error:
        raise Invalid(f"{upper / 'etc' / name} cannot be written: {error.strerror}") from error
    finally:
        os.close(etc)


def _make_parents(top: Path, path: Path) -> None:
    for each in reversed(
        [each for each in (path, *path.parents) if each.is_relative_to(top) and each != top]
    ):
        if not each.exists():
            each.mkdir()
            each.chmod(0o700 if each.name in ("root", ".ssh") else 0o755)
