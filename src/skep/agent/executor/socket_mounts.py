"""Containers that hold skepd's socket go on having it when skepd is another: restarted, upgraded, rebooted.

A bind mount of a socket holds the inode that was there when the container started, and a new skepd has a new
one: the container would be cut off for as long as it lives. So a new skepd puts its own in the old one's
place (`remount`), in every container that runs with it (docs/adr/0014-the-docker-socket-is-skepds.md).
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import structlog
from msgspec import Struct

from skep.agent.executor.engine import EngineClient, Json
from skep.runtime.errors import Unavailable

log = structlog.get_logger()

# After the start. One look finds what ran then; the others what the engine was just starting with the old
# socket, which may take it as long as it is busy.
LOOKS_S = (0.0, 2.0, 10.0, 60.0, 180.0)
REMOUNT_S = 30.0  # for some milliseconds' work per container
PLACES_MAX = 100  # in one process: its arguments are a path of 4 KiB each, and execve takes 2 MiB
_REMOUNT = Path(__file__).with_name("remount.py")


class SocketPlace(Struct, frozen=True):
    """Where a container has the socket: its whole id, its first process, the path in it."""

    container: str
    pid: int
    target: str


class SocketMounts:
    """`path` is the socket that containers are given."""

    def __init__(self, engine: EngineClient, path: str) -> None:
        self._engine = engine
        self._path = path
        self._failed: set[SocketPlace] = set()

    async def renew(self) -> None:
        """Looks after all containers until none can have the socket of before. Errors: `Unavailable`."""
        began = asyncio.get_running_loop().time()
        for at_s in LOOKS_S:
            await asyncio.sleep(began + at_s - asyncio.get_running_loop().time())
            await self.look()

    async def look(self) -> None:
        """Gives each running container the present socket. Errors: `Unavailable`."""
        places = [place for place in await self._places() if place not in self._failed]
        for first in range(0, len(places), PLACES_MAX):
            part = places[first : first + PLACES_MAX]
            for place, said in zip(part, await self._remount(part), strict=False):
                self._tell(place, said)

    def _tell(self, place: SocketPlace, said: str) -> None:
        if said == "renewed":
            log.info("docker_socket.renewed", container=place.container[:12], path=place.target)
        elif said not in ("same", "ended"):
            self._failed.add(place)
            log.warning(
                "docker_socket.stale",
                container=place.container[:12],
                path=place.target,
                error=said,
                advice="it has no connection to skepd any more: restart it",
            )

    async def _places(self) -> list[SocketPlace]:
        found = []
        for listed in await self._engine.containers_with(self._path):
            targets = [target for target in _targets(listed, self._path) if "\n" not in target]
            inspected = await self._engine.inspect(str(listed["Id"])) if targets else None
            state = inspected["State"] if inspected is not None else {}
            if state.get("Running") and state.get("Pid"):
                found += [SocketPlace(str(listed["Id"]), int(state["Pid"]), target) for target in targets]
        return found

    async def _remount(self, places: list[SocketPlace]) -> list[str]:
        """Returns what became of each. Errors: `Unavailable`."""
        # A process of its own: which mounts it sees is a thread's, and ours must stay what they are.
        arguments = [part for place in places for part in (place.container, str(place.pid), place.target)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(_REMOUNT), self._path, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd="/",
            env={"PATH": os.defpath},
        )
        try:
            async with asyncio.timeout(REMOUNT_S):
                said, complaint = await process.communicate()
        except TimeoutError as error:
            process.kill()
            await process.wait()
            raise Unavailable("mounting skepd's socket into running containers takes too long") from error
        lines = said.decode(errors="replace").splitlines()
        if len(lines) != len(places):
            last = complaint.decode(errors="replace").strip().splitlines()[-1:]
            lines += ["".join(last) or "the mounting ended"] * (len(places) - len(lines))
        return lines


def _targets(listed: Json, path: str) -> list[str]:
    return [str(mount["Destination"]) for mount in listed.get("Mounts") or [] if mount.get("Source") == path]
