"""Stacks by the user's own docker client: what it deploys, `docker stack ls`, `ps` and `rm` know."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from skep.runtime.entry import reason_of
from skep.runtime.errors import NotFound, Unavailable

CALL_S = 300.0  # it asks a registry for each image's digest
SAID_MAX = 1 << 20  # of what it prints: a line for each service

Say = Callable[[str], None]


async def deploy_stack(host: str, directory: Path, compose: str, name: str, resolve: str, say: Say) -> None:
    """Deploys a compose file of that directory. `resolve`: as `--resolve-image`. Services that it has no more
    are removed. Errors: `NotFound` (no docker client), `Unavailable` with what it says."""
    options = ["--prune", "--resolve-image", resolve]
    await _docker(host, ["stack", "deploy", *options, "-c", compose, name], directory, say)


async def remove_stack(host: str, name: str, say: Say) -> None:
    """Errors: as of `deploy_stack`."""
    await _docker(host, ["stack", "rm", name], Path("/"), say)


async def _docker(host: str, arguments: list[str], directory: Path, say: Say) -> None:
    say("$ " + " ".join(["docker", "-H", host, *arguments]))
    try:
        process = await asyncio.create_subprocess_exec(
            *("docker", "-H", host, *arguments),
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except FileNotFoundError as error:
        raise NotFound(
            "the docker client deploys stacks, and is not installed here (Debian: docker-cli, or docker.io)"
        ) from error
    except OSError as error:
        raise Unavailable(f"the docker client cannot be started: {reason_of(error)}") from error
    said = await _end_of(process)
    if process.returncode != 0:
        last = " / ".join(said.splitlines()[-3:])
        raise Unavailable(f"docker {' '.join(arguments[:2])}: {last or f'status {process.returncode}'}")
    for line in said.splitlines():
        # Both of what skep does on purpose, or cannot help: no news for who reads.
        if (
            line
            and "--detach=false was not specified" not in line
            and not line.startswith("In a future release")
        ):
            say(line)


async def _end_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(CALL_S):
            said = bytearray()
            while chunk := await process.stdout.read(65536):
                said += chunk[: SAID_MAX - len(said)]
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise Unavailable(f"the docker client has not ended within {CALL_S:g} s") from None
    return said.decode(errors="replace")
