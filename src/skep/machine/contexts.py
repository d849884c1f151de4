"""A docker context for each machine, so that `docker --context NAME` is all it takes. Written by the docker
client itself, whose files they are."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from msgspec import Struct

from skep.client.docker_program import ClientRefused, run_docker
from skep.machine.record import Machine
from skep.runtime.errors import Conflict, Unavailable

CLIENTS = 4  # at the same time: of a hundred machines that are made at once each has one to start
# As the client of 20.10 says it, and those of 23 and later.
_NO_SUCH = ("does not exist", "context not found")


class _Inspected(Struct, rename="pascal"):
    """What `docker context inspect` says of one."""

    metadata: dict[str, Any] = {}


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


async def make_context(machine: Machine, directory: Path) -> None:
    """Makes it, or makes it right. Errors: `NotFound` (no docker client), `Conflict` where somebody else's
    context has that name, `Unavailable`."""
    ours = _description(directory)
    owner = await _owner(machine.name)
    if owner not in (None, ours):
        raise Conflict(
            f"there is a docker context {machine.name} already, which is not skep's: it stays as it is"
        )
    endpoint = ",".join(
        [
            f"host={machine.url}",
            f"ca={_plain(directory / 'ca.pem')}",
            f"cert={_plain(directory / 'cert.pem')}",
            f"key={_plain(directory / 'key.pem')}",
        ]
    )
    verb = "create" if owner is None else "update"
    await _docker("context", verb, machine.name, "--description", ours, "--docker", endpoint)


async def remove_context(name: str, directory: Path) -> bool:
    """Returns whether the machine of that directory had one. Errors: `NotFound` (no docker client),
    `Unavailable`."""
    if await _owner(name) != _description(directory):
        return False
    await _docker("context", "rm", "--force", name)
    return True


async def _owner(name: str) -> str | None:
    """Returns the description of the context of that name, None where there is none. No other one is looked
    at: one that another process is writing cannot be read yet."""
    try:
        said = await _docker("context", "inspect", name)
    except ClientRefused as error:
        if any(each in str(error) for each in _NO_SUCH):
            return None
        raise
    try:
        return str(msgspec.json.decode(said, type=list[_Inspected])[0].metadata.get("Description", ""))
    except (msgspec.DecodeError, IndexError) as error:
        raise Unavailable(f"docker context inspect {name}: what it says cannot be read: {error}") from error


def _description(directory: Path) -> str:
    """Says whose it is: users may have machines of the same name in several stores."""
    return f"skep machine, {directory}"


def _plain(path: Path) -> str:
    """Returns a path as one value of a list of them. Errors: `Unavailable`, where it cannot be one."""
    if any(each in str(path) for each in ',"\n'):
        raise Unavailable(f"the docker client takes no path with a comma or quotes: {path}")
    return str(path)


async def _docker(*arguments: str) -> str:
    loop = asyncio.get_running_loop()
    async with _turns.setdefault(loop, asyncio.Semaphore(CLIENTS)):
        return (await run_docker(*arguments)).decode(errors="replace")
