"""The socket of skepd's that containers get which bind Docker's (`model.docker_socket`).

It is another than those for users: it outlives skepd and a restart of the machine, so that the engine finds
something there whenever it starts a container again; else it would make a directory there, or refuse.
"""

from __future__ import annotations

import socket
from pathlib import Path

import structlog

from skep.agent.executor.engine import EngineClient
from skep.agent.executor.socket_mounts import SocketMounts
from skep.api.server import share
from skep.daemon.engine_view import why_unseen
from skep.daemon.socket_dir import SocketDir
from skep.model.docker_socket import DockerSocket, clean_path
from skep.runtime.errors import Invalid, Unavailable
from skep.runtime.settings import Settings
from skep.runtime.supervise import run_forever

log = structlog.get_logger()

NAME = "docker.sock"  # in the state directory's `run`
ENGINE_RETRY_S = 2.0  # an engine that is not there yet


def given_socket(settings: Settings) -> DockerSocket | None:
    """Returns what containers get that bind Docker's socket; None for the engine's, or nothing."""
    if settings.docker_socket != "swarm" or settings.engine_socket is None:
        return None
    if not settings.unix_hosts:
        # Whoever serves no unix socket wants clients to have certificates.
        log.warning(
            "docker_socket.not_served",
            advice="no --host is a unix socket: containers that bind /var/run/docker.sock get the engine's,"
            " which is in no swarm",
        )
        return None
    path = Path(settings.state_dir) / "run" / NAME
    served = frozenset(clean_path(each) for each in settings.unix_hosts) - {""}
    return DockerSocket(clean_path(str(path)), served)


class GivenSocket:
    """What containers get that bind Docker's socket, as far as the engine can mount it."""

    def __init__(self, settings: Settings) -> None:
        self._engine_socket = settings.engine_socket or ""
        self._socket = given_socket(settings)
        self._is_shown = False  # that the engine sees it

    def current(self) -> DockerSocket | None:
        """Returns it; None where containers get what the engine has there. Logs once why."""
        if self._socket is None or self._is_shown:
            return self._socket
        try:
            why = why_unseen(self._engine_socket, self._socket.path)
        except Unavailable:
            return self._socket  # no container is made now: it is looked at again
        self._is_shown = not why
        if why:
            self._give_up(why, "let both see the same files, or say --docker-socket engine")
        return self._socket

    def bind(self, sockets: SocketDir) -> socket.socket | None:
        """Returns the socket that containers are given, in place of an earlier skepd's; None where there is
        none to give."""
        if self._socket is None:
            return None
        try:
            bound = sockets.replace(NAME)
        except Invalid as error:
            self._give_up(str(error), f"remove what is at {self._socket.path} and restart skepd")
            return None
        try:
            share(Path(self._socket.path))
        except OSError as error:
            bound.close()
            self._give_up(str(error), "give skepd a state directory of its own")
            return None
        self.current()  # says at the start what is to be said
        return bound

    async def renew_mounts(self) -> None:
        """Gives the containers that have an earlier skepd's socket this one's."""
        if self._socket is None:
            return
        client = EngineClient(self._engine_socket)
        try:
            await run_forever("docker_socket", SocketMounts(client, self._socket.path).renew, ENGINE_RETRY_S)
        finally:
            await client.close()

    def _give_up(self, why: str, what: str) -> None:
        self._socket = None
        log.warning(
            "docker_socket.not_given",
            error=why,
            advice="containers that bind /var/run/docker.sock get the engine's, which is in no swarm:"
            f" {what}",
        )
