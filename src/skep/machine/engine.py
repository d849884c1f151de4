"""A machine's engine, asked by mutual TLS as any client of the user's asks it."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

from msgspec import Struct

from skep.client.api import ApiClient, ApiError
from skep.machine.client_tls import machine_context
from skep.machine.record import Machine
from skep.runtime.errors import Denied, SkepError, Unavailable
from skep.runtime.texts import printable

LISTEN_S = 60.0  # an engine with thousands of containers looks at all of them first
RETRY_S = 0.25
ANSWER_BYTES_MAX, VERSION_BYTES_MAX = 64 * 1024, 64  # an engine's versions, of all its parts, have 1 kB
CALL_S = 10.0  # docker-machine's; of a host that is off nothing comes back
# Of that, for a connection and its TLS: by then a SYN that was lost has been sent again. What has connected
# may take all of the time to answer: an engine with many containers does.
CONNECT_SHARE = 0.3

RUNNING, STOPPED, TIMEOUT, ERROR, HALF_MADE = "Running", "Stopped", "Timeout", "Error", "Half-made"
STARTING, SAVED = "Starting", "Saved"  # what only a host's owner can know


class Condition(Struct, frozen=True):
    """How a machine is: a state of docker-machine's, or half-made; its engine's version, or why there is
    none."""

    state: str
    version: str = ""
    error: str = ""


class EngineAway(Unavailable):
    """skepd answers for a machine, and its engine does not."""


async def version_of(
    machine: Machine, directory: Path, timeout_s: float = CALL_S, connect_s: float | None = None
) -> str:
    """Returns the version of the machine's engine. `connect_s`: the most of the time that a connection takes.

    Errors: `Denied` where one of the two does not trust the other, `EngineAway`, `Unavailable`, `Invalid` (no
    certificates).
    """
    context = machine_context(directory)
    client = ApiClient(
        machine.url, timeout_s, tls=context, answer_max_bytes=ANSWER_BYTES_MAX, connect_s=connect_s
    )
    try:
        said = await client.json("GET", "/version")
    except Unavailable as error:
        cause = _tls_error(error)
        if cause is not None:
            raise Denied(
                f'There was an error validating certificates for host "{machine.url}": {cause}.'
                f" You can attempt to regenerate them using 'skep machine regenerate-certs {machine.name}'"
            ) from error
        raise Unavailable(f"nothing answers at {machine.url}: {_reason(error)}") from error
    except ApiError as error:
        raise Unavailable(f"what answers at {machine.url} is no Docker Engine: {error}") from error
    finally:
        await client.close()
    return read_version(machine, said)


def read_version(machine: Machine, said: Any) -> str:
    """Returns the engine's version of an answer to /version. Errors: `EngineAway` where skepd answers alone,
    `Unavailable` for who else has the port."""
    try:
        if machine.skepd and not str(said["Platform"]["Name"]).startswith("skep "):
            raise Unavailable(f"an engine has {machine.url}, and not skepd")
        if machine.skepd and "Engine" not in [each["Name"] for each in said["Components"]]:
            raise EngineAway("skepd runs there, and its Docker Engine does not answer")
        return printable(str(said["Version"]), VERSION_BYTES_MAX)
    except (KeyError, TypeError) as error:
        raise Unavailable(f"what answers at {machine.url} is no Docker Engine: {error!r}") from error


async def wait_listening(machine: Machine, directory: Path, wait_s: float = LISTEN_S) -> str:
    """Returns the engine's version, once it answers. Errors: as of `version_of`, in docker-machine's
    words."""
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        try:
            return await version_of(machine, directory)
        except Unavailable as error:
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(f"Unable to verify the Docker daemon is listening: {error}") from error
        await asyncio.sleep(RETRY_S)


async def condition_of(machine: Machine, directory: Path, timeout_s: float = CALL_S) -> Condition:
    """Returns how the machine is now: what keeps it from answering is part of that, no error."""
    if not machine.is_whole:
        return Condition(HALF_MADE, error=machine.why)
    try:
        async with asyncio.timeout(timeout_s):
            version = await version_of(machine, directory, timeout_s, timeout_s * CONNECT_SHARE)
            return Condition(RUNNING, version)
    except EngineAway as error:
        return Condition(RUNNING, error=str(error))
    except TimeoutError:
        return Condition(TIMEOUT, error=f"nothing within {timeout_s:g} s")
    except Unavailable as error:
        is_late = any(isinstance(each, TimeoutError) for each in _chain(error))
        return Condition(TIMEOUT if is_late else STOPPED, error=str(error))
    except Denied as error:
        return Condition(RUNNING, error=str(error))
    except (SkepError, ValueError) as error:  # an answer that is no JSON, a name that no resolver takes
        return Condition(ERROR, error=str(error))


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found and len(found) < 10:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _tls_error(error: BaseException) -> str | None:
    """Returns what TLS complained of; None where it is not the reason."""
    found = [each for each in _chain(error) if isinstance(each, ssl.SSLError)]
    for each in found:
        # aiohttp's own are such errors, too, without what these have: what they stand for comes after them.
        if said := getattr(each, "verify_message", "") or getattr(each, "reason", ""):
            return str(said)
    return str(found[0]) if found else None


def _reason(error: BaseException) -> str:
    for each in _chain(error):
        if isinstance(each, TimeoutError):
            return "it took too long"
        if isinstance(each, OSError) and each.strerror:
            return each.strerror
    return str(error)
