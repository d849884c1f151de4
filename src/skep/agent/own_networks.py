"""What networks this host has of its own, told to the manager: once in each session, and when they change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from skep.agent.saying import shown
from skep.agent.session import Session
from skep.model.host_network import HOST_NETWORK_OF_MAX_BYTES, HostNetwork
from skep.rpc import messages
from skep.runtime.supervise import cancel_and_wait, in_thread, run_forever

log = structlog.get_logger()

# As often as the kernel is looked at for the rest (`agent.networking`). A look takes half a millisecond.
LOOK_S = 10.0


class OwnNetworks:
    """A subject of the session. `look` is blocking."""

    def __init__(self, session: Session, look: Callable[[], list[HostNetwork]]) -> None:
        self._session = session
        self._look = look
        self._found: list[HostNetwork] | None = None
        self._said: list[HostNetwork] | None = None  # in this session
        self._work: asyncio.Task[None] | None = None
        session.on(messages.Registered, lambda said: self._session_began())

    def start(self) -> None:
        self._work = asyncio.ensure_future(run_forever("own-networks", self._run))

    async def close(self) -> None:
        await cancel_and_wait(self._work)

    async def _run(self) -> None:
        while True:
            found = [_sayable(each) for each in await in_thread(self._look)]
            if found != self._found:
                log.info("host.networks", networks=[str(each) for each in found])
                self._found = found
            self._say()
            await asyncio.sleep(LOOK_S)

    def _session_began(self) -> None:
        self._said = None
        self._say()

    def _say(self) -> None:
        is_news = self._found is not None and self._found != self._said
        if is_news and self._session.manager_knows(messages.HOST_NETWORKS):
            assert self._found is not None
            self._session.send(messages.HostNetworks(self._found))
            self._said = self._found


def _sayable(network: HostNetwork) -> HostNetwork:
    """A device's name is anybody's."""
    return HostNetwork(network.prefix, shown(network.of, HOST_NETWORK_OF_MAX_BYTES))
