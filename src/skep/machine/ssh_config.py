"""What the user's own configuration of OpenSSH says of a host: ~/.ssh/config, and ~/.ssh/known_hosts.

Both are files of the user's alone. Of a machine's config.json a host's name, user and port go into the
look-up, as data that was checked; no command and no jump comes from there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import asyncssh

from skep.runtime.errors import Denied, Invalid, Unavailable, cause_of

CONFIG, KNOWN_HOSTS = "~/.ssh/config", "~/.ssh/known_hosts"
JUMPS_MAX = 8
FILE_BYTES_MAX = 4 << 20  # known_hosts of somebody with ten thousand hosts has two


class ConfiguredHost(NamedTuple):
    """What is said of a host, empty and 0 where nothing is. `jumps`: by which others it is reached;
    `identities`: files, None where OpenSSH's usual ones count."""

    host_name: str = ""
    user: str = ""
    port: int = 0
    jumps: tuple[str, ...] = ()
    identities: tuple[str, ...] | None = None


def config_paths() -> list[str]:
    """Returns the configuration's file where there is one, as asyncssh takes it. Errors: `Invalid`."""
    path = _file(CONFIG)
    return [] if path is None else [str(path)]


def configured(address: str) -> ConfiguredHost:
    """Errors: `Invalid` where the configuration cannot be read."""
    paths = config_paths()
    if not paths:
        return ConfiguredHost()
    try:
        options = asyncssh.SSHClientConnectionOptions(
            host=address, config=paths, client_keys=None, agent_path=None, known_hosts=None
        )
    except (asyncssh.Error, ValueError, OSError) as error:
        raise Invalid(f"{CONFIG} cannot be used: {cause_of(error)}") from error
    said = options.config
    name, user, port = said.get("Hostname"), said.get("User"), said.get("Port")
    jumps = said.get("ProxyJump")
    hops = jumps.split(",") if isinstance(jumps, str) and jumps.lower() != "none" else []
    if len(hops) > JUMPS_MAX:
        raise Invalid(f"{CONFIG} has {len(hops)} jump hosts for {address}: {JUMPS_MAX} at most")
    return ConfiguredHost(
        name if isinstance(name, str) else "",
        user if isinstance(user, str) else "",
        port if isinstance(port, int) else 0,
        tuple(each.strip() for each in hops),
        tuple(map(str, files)) if isinstance(files := said.get("IdentityFile"), list) else None,
    )


def readable_keys(paths: tuple[str, ...]) -> list[asyncssh.SSHKey]:
    """Returns those that can be used as they are; as OpenSSH does, it passes over what is not there, and has
    ssh-agent's for those with a passphrase."""
    keys = []
    for path in paths:
        with contextlib.suppress(OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
            keys.append(asyncssh.read_private_key(Path(path).expanduser()))
    return keys


@contextlib.asynccontextmanager
async def jumped(
    hops: tuple[str, ...], timeout_s: float
) -> AsyncIterator[asyncssh.SSHClientConnection | None]:
    """Logs in to one after the other, as the user's configuration and known_hosts say; gives the last one,
    by which a host is reached, None where there are none. Errors: `Denied`, `Unavailable`, which name it."""
    async with contextlib.AsyncExitStack() as open_hops:
        last: asyncssh.SSHClientConnection | None = None
        for hop in hops:
            before, _, address = hop.removeprefix("ssh://").rpartition("@")
            host, _, port = address.partition(":") if address.count(":") == 1 else (address, "", "")
            more: dict[str, Any] = {"username": before} if before else {}
            try:
                async with asyncio.timeout(timeout_s):
                    last = await asyncssh.connect(
                        host,
                        int(port) if port else (),
                        tunnel=last,
                        config=config_paths(),
                        password_auth=False,
                        kbdint_auth=False,
                        **more,
                    )
            except (asyncssh.HostKeyNotVerifiable, asyncssh.PermissionDenied) as error:
                raise Denied(
                    f"the jump host {hop}, which {CONFIG} says: {error.reason}. Log in there once: ssh {hop}"
                ) from error
            except TimeoutError as error:
                raise Unavailable(f"the jump host {hop}: nothing answers") from error
            except (asyncssh.Error, ValueError, OSError) as error:
                raise Unavailable(f"the jump host {hop}: {cause_of(error)}") from error
            open_hops.callback(last.close)
        yield last


class KnownKeys(NamedTuple):
    """The host's keys that the user knows, and those that it may have no more."""

    own: list[asyncssh.SSHKey]
    revoked: list[asyncssh.SSHKey]


def known_keys(address: str, port: int, *, revoked_only: bool) -> KnownKeys:
    """Returns the keys by which the user knows the host already. Errors: `Invalid` where the file cannot be
    read."""
    path = _file(KNOWN_HOSTS)
    if path is None:
        return KnownKeys([], [])
    try:
        # Of thousands of machines nobody looks through as many hashed lines of others.
        if revoked_only and b"@revoked" not in path.read_bytes():
            return KnownKeys([], [])
        found = asyncssh.match_known_hosts(str(path), address, "", port)
    except (ValueError, OSError) as error:
        raise Invalid(f"{KNOWN_HOSTS} cannot be used: {cause_of(error)}") from error
    return KnownKeys(list(found[0]), list(found[2]))


def _file(name: str) -> Path | None:
    path = Path(name).expanduser()
    try:
        if not path.is_file():
            return None
        size = path.stat().st_size
    except OSError as error:
        raise Invalid(f"{name} cannot be read: {error.strerror}") from error
    if size > FILE_BYTES_MAX:
        raise Invalid(f"{name} has more than {FILE_BYTES_MAX} bytes")
    return path
