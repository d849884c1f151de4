"""The user's own docker client, asked what takes it no time: whose files are in ~/.docker, it knows."""

from __future__ import annotations

import asyncio

from skep.runtime.errors import NotFound, Unavailable

CLIENT_S = 30.0  # it reads some files


class ClientRefused(Unavailable):
    """It ran, and ended with an error, which is the text."""


async def run_docker(*arguments: str) -> bytes:
    """Returns what the docker client prints, asked nothing meanwhile. The first two of `arguments` are its
    command. Errors: `NotFound` (no docker client), `ClientRefused`, `Unavailable`."""
    command = " ".join(["docker", *arguments[:2]])
    try:
        process = await asyncio.create_subprocess_exec(
            "docker",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise NotFound("no docker client is installed here") from error
    except OSError as error:
        raise Unavailable(f"the docker client cannot be run: {error.strerror}") from error
    try:
        async with asyncio.timeout(CLIENT_S):
            out, err = await process.communicate()
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise Unavailable(f"{command} takes longer than {CLIENT_S:g} s") from error
    if process.returncode != 0:
        raise ClientRefused(f"{command}: {err.decode(errors='replace').strip()}")
    return out
