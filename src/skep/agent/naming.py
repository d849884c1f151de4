"""The names of the swarm's networks, for this node's containers: what the managers tell of them, and where
containers ask.

Each container asks its engine, which asks here for what it does not know itself. The addresses to answer at
are the executor's word, the names that of `networking`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

import structlog

from skep.model.overlay import Overlay
from skep.network import iptables
from skep.network.dns_forward import may_be_asked
from skep.network.dns_server import DnsServer, Resolve, why_not
from skep.network.names import Names
from skep.runtime.errors import SkepError
from skep.runtime.supervise import cancel_and_wait, in_thread, run_forever

log = structlog.get_logger()

AGAIN_S = 10.0  # before it is looked again what keeps containers from an answer: as the kernel is looked at
_FIREWALL = ""  # no network's id


class Naming:
    """Fulfils `executor.port.NameServer` and `networking.Naming`."""

    def __init__(self, server: DnsServer | None = None, names: Names | None = None) -> None:
        self._names = names if names is not None else Names()
        self._server = server if server is not None else DnsServer(self._names)
        self._wanted: dict[str, tuple[str, bool]] = {}  # by network: its gateway, and whether it is internal
        self._failures: dict[str, str] = {}
        self._news = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._is_told = False
        self._is_over = False

    @property
    def failures(self) -> list[str]:
        """Returns why containers do not find names here, sentences for people; none where all is well."""
        return list(self._failures.values())

    def start(self) -> None:
        self._work = asyncio.ensure_future(run_forever("names", self._run))

    async def close(self) -> None:
        """Ends the answers: containers go on without. Nothing begins any more."""
        self._is_over = True
        await cancel_and_wait(self._work)
        await self._server.close()

    async def clear(self) -> list[str]:
        """Takes what is the swarm's out of the host's rules, too. Returns what is still there, for people."""
        await self.close()
        try:
            await in_thread(iptables.dismiss)
        except SkepError as error:
            return [str(error)]
        return []

    def resolve_with(self, resolve: Resolve) -> None:
        """Has this be asked of large networks what nobody has told of yet."""
        self._server.resolve_with(resolve)

    def told(self, overlays: dict[str, Overlay], vips: frozenset[str]) -> None:
        """These are the networks that this node has somebody on, as a manager knows them, and the services'
        own addresses that its kernel leads to their tasks."""
        self._names.told(overlays, vips)
        if not self._is_told:
            self._is_told = True
            for network_id in self._wanted:
                self._try(network_id)
            self._news.set()

    def serve(self, network_id: str, gateway: str, is_internal: bool) -> None:
        """Containers are about to ask at this address. What keeps them from an answer is in `failures`, soon,
        and looked at again now and then. Until a manager has told the names nobody listens there: an engine
        that is refused asks the container's next server at once, and one that hears nothing in four
        seconds."""
        if self._is_over:
            return
        if self._wanted.get(network_id) != (gateway, is_internal):
            self._wanted[network_id] = (gateway, is_internal)
            self._try(network_id)
            self._news.set()

    def stop(self, network_id: str) -> None:
        """Nobody here is on the network any more."""
        self._wanted.pop(network_id, None)
        self._failures.pop(network_id, None)
        self._server.stop(network_id)

    def ask_for(self, address: str, nameservers: Iterable[str]) -> None:
        """Has these be asked for what the container with this address does not find in the swarm, instead of
        the host's own; with none, the host's own."""
        self._server.ask_for(address, tuple(each for each in nameservers if may_be_asked(each)))

    # Inside

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S if self._wanted else None):
                    await self._news.wait()
            self._news.clear()
            if self._wanted:
                await self._admit()
            for network_id in list(self._wanted):
                await self._look(network_id)

    async def _admit(self) -> None:
        """Looked at again and again: firewalls are loaded anew at any time."""
        try:
            await in_thread(iptables.admit)
        except SkepError as error:
            self._failures[_FIREWALL] = f"containers' questions for names may not come in here: {error}"
        else:
            self._failures.pop(_FIREWALL, None)

    async def _look(self, network_id: str) -> None:
        error = self._try(network_id)
        if error is None:
            self._failures.pop(network_id, None)
            return
        said = await in_thread(why_not, self._wanted[network_id][0], error)
        if network_id in self._wanted:  # still
            if said != self._failures.get(network_id):
                log.warning("names.failed", reason=said)
            self._failures[network_id] = said

    def _try(self, network_id: str) -> OSError | None:
        """Returns why it cannot be answered there."""
        wanted = self._wanted.get(network_id)
        try:
            if wanted is not None and self._is_told:
                self._server.serve(network_id, *wanted)
        except OSError as error:
            return error
        return None
