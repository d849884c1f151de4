"""One host over SSH: commands, with bounded time and output. This, `ssh_keys` and `ssh_config` alone know
asyncssh.

A host's key is pinned when it is seen first and must be the same afterwards. The user's own configuration of
OpenSSH counts for what a machine does not say itself (`ssh_config`); keys are the user's (IdentityFile, those
at OpenSSH's places, the agent's), or the one file that is named.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncssh

from skep.machine.record import SshPlace
from skep.machine.remote_shell import SAID_BYTES_MAX, Output, by_any_shell
from skep.machine.ssh_config import CONFIG, KNOWN_HOSTS, config_paths, configured, jumped, known_keys
from skep.machine.ssh_keys import identity, pinned_public_key
from skep.runtime.errors import Denied, Invalid, SkepError, Unavailable, cause_of
from skep.runtime.texts import printable

CONNECT_S = 10.0  # a host that answers does within one; SYNs of one that is far and busy are sent three times
LOGIN_S = 20.0  # of slow hosts that ask a directory for the user
WAIT_S = 120.0  # a machine that boots; cloud images make their keys first
RETRY_S = 1.0
COMMAND_S = 60.0
OUTPUT_BYTES_MAX = 256 * 1024  # of each stream; of more, the end is kept, where the reason is
_CHUNK = 32 * 1024
# What a host is to show that is not known yet. asyncssh would have certificates first, of no CA of ours.
_PLAIN_KEYS = (
    *("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    *("rsa-sha2-512", "rsa-sha2-256"),
)

# What asyncssh logs at "info" and above of each connection is not for users of a command.
logging.getLogger("asyncssh").setLevel(logging.CRITICAL)


class SshHost:
    """A host that is logged in to. `host_key` is what it has shown, as OpenSSH writes it; people compare its
    `fingerprint`."""

    def __init__(
        self, connection: asyncssh.SSHClientConnection, user: str, host_key: str, fingerprint: str
    ) -> None:
        self._connection = connection
        self.is_root = user == "root"
        self._sudo = "" if self.is_root else "sudo -n -- "
        self.host_key, self.fingerprint = host_key, fingerprint

    async def run(self, script: str, *, data: bytes = b"", timeout_s: float = COMMAND_S) -> Output:
        """Runs a script of sh as the user. Its text is seen in the host's list of processes: what is secret
        goes by `data`, its input. Errors: `Unavailable` where the host goes or it takes too long."""
        return await self._run(by_any_shell(script), data, timeout_s)

    async def run_root(self, script: str, *, data: bytes = b"", timeout_s: float = COMMAND_S) -> Output:
        """The same as root, by sudo where the user is another."""
        return await self._run(f"{self._sudo}{by_any_shell(script)}", data, timeout_s)

    async def _run(self, command: str, data: bytes, timeout_s: float) -> Output:
        try:
            async with asyncio.timeout(timeout_s):
                process = await self._connection.create_process(command, encoding=None)
                try:
                    out, err, _ = await asyncio.gather(
                        _gather(process.stdout), _gather(process.stderr), _feed(process.stdin, data)
                    )
                    await process.wait_closed()
                finally:
                    process.close()  # and not waited for: who does not answer would be waited for here
                status = process.exit_status
                return Output(-1 if status is None else status, out, err)
        except TimeoutError as error:
            raise Unavailable(f"a command on the host did not end within {timeout_s:g} s") from error
        except (asyncssh.Error, OSError) as error:
            raise Unavailable(f"the connection to the host was lost: {_reason(error)}") from error


async def _feed(stream: Any, data: bytes) -> None:
    # Whether it reads all of its input is its own matter: its status says how it went.
    with contextlib.suppress(BrokenPipeError, ConnectionError):
        for at in range(0, len(data), _CHUNK):
            stream.write(data[at : at + _CHUNK])
            await stream.drain()  # a slow host's archive is not held twice
        stream.write_eof()


async def _gather(stream: Any) -> bytes:
    kept = bytearray()
    while chunk := await stream.read(_CHUNK):
        kept += chunk
        del kept[:-OUTPUT_BYTES_MAX]
    return bytes(kept)


@contextlib.asynccontextmanager
async def connected(place: SshPlace, pinned: str | None) -> AsyncIterator[SshHost]:
    """Logs in, once. `pinned`: the key that the host must have, None where nobody knows it yet.

    Errors: `Denied` (another host key, not let in), `Invalid` (the key file), `Unavailable`.
    """
    async with jumped(configured(place.address).jumps, CONNECT_S + LOGIN_S) as tunnel:
        connection = await _connect(place, pinned, tunnel)
        try:
            shown = connection.get_server_host_key()
            assert shown is not None, "without GSS there is one"
            key = shown.export_public_key().decode().strip()
            yield SshHost(connection, place.user, key, shown.get_fingerprint())
        finally:
            connection.close()
            with contextlib.suppress(TimeoutError, OSError, asyncssh.Error):
                async with asyncio.timeout(CONNECT_S):
                    await connection.wait_closed()


async def wait_reachable(
    place: SshPlace, pinned: str | None, say: Callable[[str], None], wait_s: float = WAIT_S
) -> None:
    """Waits until the host lets us in, and says each new reason why not yet. Errors: as of `connected`; the
    last reason where it takes longer than `wait_s`."""
    deadline = asyncio.get_running_loop().time() + wait_s
    before = ""
    while True:
        try:
            async with connected(place, pinned):
                return
        except SkepError as error:
            if not error.temporary:
                raise
            left_s = deadline - asyncio.get_running_loop().time()
            if left_s <= 0:
                raise Unavailable(f"SSH was waited for {wait_s:g} s: {error}") from error
            if str(error) != before:
                before = str(error)
                say(f"not yet: {before} (waiting for up to {left_s:.0f} s)")
        await asyncio.sleep(RETRY_S)


class _Client(asyncssh.SSHClient):
    """Takes one of the host's keys that are known, or any where none is; none that is revoked, which it
    notes."""

    def __init__(self, known: list[asyncssh.SSHKey], revoked: list[asyncssh.SSHKey]) -> None:
        self._known = [each.public_data for each in known]
        self._revoked = [each.public_data for each in revoked]
        self.was_revoked = False

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.was_revoked = key.public_data in self._revoked
        return not self.was_revoked and (not self._known or key.public_data in self._known)


async def _connect(
    place: SshPlace, pinned: str | None, tunnel: asyncssh.SSHClientConnection | None
) -> asyncssh.SSHClientConnection:
    where = f"{place.user}@{place.address}, port {place.port}"
    options: dict[str, Any] = {**identity(place), "server_host_key_algs": list(_PLAIN_KEYS)}
    known = known_keys(place.address, place.port, revoked_only=pinned is not None)
    keys = known.own if pinned is None else [pinned_public_key(pinned)]
    client = _Client(keys, known.revoked)
    if keys:  # of several keys that a host has it shows the one that is asked for
        algorithms = [name.decode() for key in keys for name in key.sig_algorithms]
        options["server_host_key_algs"] = list(dict.fromkeys(algorithms))
    try:
        async with asyncio.timeout(CONNECT_S + LOGIN_S):
            return await asyncssh.connect(
                place.address,
                place.port,
                username=place.user,
                client_factory=lambda: client,
                known_hosts=([], [], []),
                config=config_paths(),
                tunnel=tunnel,
                connect_timeout=CONNECT_S,
                login_timeout=LOGIN_S,
                keepalive_interval=15,  # a host that was powered off is noticed within a minute
                password_auth=False,
                kbdint_auth=False,
                gss_auth=False,
                gss_kex=False,
                **options,
            )
    except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
        if client.was_revoked:
            raise Denied(
                f"the SSH host key of {place.address} is revoked in {KNOWN_HOSTS}: whoever has it now is not"
                " to be trusted"
            ) from error
        if pinned is None and keys:
            raise Denied(
                f"the SSH host key of {place.address} is none of those that {KNOWN_HOSTS} has for it:"
                f" ssh-keygen -R {place.address} where you know why"
            ) from error
        if pinned is None:
            raise Unavailable(f"{where}: {_reason(error)}") from error
        raise Denied(
            f"the SSH host key of {place.address} is not the one that it had when it was seen first: it was"
            " installed anew, its address is another machine's now, or somebody is in between. If you know"
            " which, and trust it: skep machine forget-host-key NAME"
        ) from error
    except asyncssh.PermissionDenied as error:
        what = f"the key {place.key}" if place.key else "no key of yours"
        raise Denied(
            f"{where}: it does not let us in ({what}{' is not' if place.key else ' is'} among those of user"
            f" {place.user} there): {_reason(error)}"
        ) from error
    except TimeoutError as error:
        raise Unavailable(f"{where}: nothing answers") from error
    except ValueError as error:  # of algorithms that the user's configuration names, and nobody has
        raise Invalid(f"{CONFIG} cannot be used: {error}") from error
    except (asyncssh.Error, OSError) as error:
        raise Unavailable(f"{where}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)  # asyncio's own words hide the reason
    if isinstance(error, asyncssh.ConnectionLost):
        return "it closed the connection"
    return printable(getattr(error, "reason", None) or cause_of(error), SAID_BYTES_MAX)
