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
from skep.daemon.socket_dir import SocketDir
from skep.model.docker_socket import DockerSocket, clean_path
from skep.runtime.errors import Invalid
from skep.runtime.settings import Settings
from skep.runtime.works import lasting

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


def bind_given(sockets: SocketDir, given: DockerSocket) -> socket.socket:
    """Returns the socket that containers are given, in place of an earlier skepd's. Errors: `Invalid`."""
    bound = sockets.replace(NAME)
    try:
        share(Path(given.path))
    except OSError as error:
        raise Invalid(f"the state directory cannot be used: {error}") from error
    return bound


async def renew_mounts(engine_socket: str, given: DockerSocket) -> None:
    """Gives the containers that have an earlier skepd's socket this one's."""
    client = EngineClient(engine_socket)
    try:
        await lasting("docker_socket", SocketMounts(client, given.path).renew, ENGINE_RETRY_S)
    finally:
        await client.close()
