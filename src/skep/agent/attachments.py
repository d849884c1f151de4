"""Single containers of this node on the swarm's networks: the manager is asked for an address first.

The engine says which addresses are in use, and what it says is told to the manager: after each change, at the
start of a session, and when the manager asks. One change at a time: an address that was given and whose
container is not made yet must not be taken for unused.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog
from msgspec import Struct

from skep.agent.executor.interfaces import Containers
from skep.agent.session import Session
from skep.rpc import messages
from skep.runtime.errors import Conflict, SkepError, Unavailable

log = structlog.get_logger()

GIVE_UP_S = 10.0  # until who is being attached is done: a commit takes milliseconds, a container seconds
TURN_S = 60.0  # until those who came before are done: each makes a container or two


class ContainerPlace(Struct, frozen=True):
    """Where a container is to be: the name of the engine's network, and its address there, without a prefix
    length; `nameservers` as in `Prepared`."""

    network: str
    address: str
    node_id: str
    nameservers: tuple[str, ...] = ()


class Attachments:
    """`containers` is None where there is no engine, and nothing to attach."""

    def __init__(self, node_id: str, session: Session, containers: Containers | None) -> None:
        self._node_id = node_id
        self._session = session
        self._containers = containers
        self._turn = asyncio.Lock()
        self._number = 0
        self._telling: asyncio.Task[None] | None = None
        self._tell_again = False
        self._is_over = False
        self._has_any = False  # as was told last
        if containers is not None:
            session.on(messages.Registered, lambda said: self.tell_soon())
            session.on(messages.SayAddresses, lambda said: self.tell_soon(), messages.ATTACH)

    @property
    def has_engine(self) -> bool:
        return self._containers is not None

    @contextlib.asynccontextmanager
    async def change(self) -> AsyncIterator[None]:
        """While a container is put on a network, or taken off. Afterwards the manager is told what is in use.

        Errors: `Unavailable`, where others take too long.
        """
        try:
            async with asyncio.timeout(TURN_S):
                await self._turn.acquire()
        except TimeoutError as error:
            raise Unavailable("other containers are still being attached to networks: try again") from error
        try:
            yield
        finally:
            try:
                await self._tell()
            finally:
                self._turn.release()

    async def attach(self, network: str, address: str) -> ContainerPlace:
        """Returns where a container may be, within `change`. `network` is a name or an id, `address` the one
        that it is to have, or an empty text.

        Errors: `NotFound` (no such network in the swarm), `Denied` (not attachable), `Conflict` (no address
        free), `Invalid`, `Unsupported`, `Unavailable`, `EngineError`.
        """
        assert self._containers is not None
        assert self._turn.locked()
        self._require_going_on(network)
        if not self._session.manager_knows(messages.ATTACH):
            raise Unavailable(
                f"network {network} is not known here, and no manager that could give an address of it is in"
                " reach: docker info lists the managers that this node knows"
            )
        try:
            given = await self._ask(network, address)
        except Conflict:
            if not self._has_any:
                raise
            await self._tell()  # a container that has just gone may have had it
            given = await self._ask(network, address)
        self._require_going_on(network)
        prepared = await self._containers.prepare(given.network, given.address)
        self._require_going_on(network)
        address = given.address.address.partition("/")[0]
        return ContainerPlace(prepared.name, address, self._node_id, prepared.nameservers)

    async def give_up(self) -> list[str]:
        """The swarm is over for this node: who is being attached is done first, nobody is any more. Returns
        what is still under way, for people."""
        self._is_over = True
        try:
            async with asyncio.timeout(GIVE_UP_S), self._turn:
                return []
        except TimeoutError:
            return [f"a container that was still being put on a network after {GIVE_UP_S:.0f} s"]

    def tell_soon(self) -> None:
        """The manager wants to know what is in use, or must be told again."""
        if self._telling is None:
            self._telling = asyncio.ensure_future(self._tell_in_turn())
        else:
            self._tell_again = True

    def look_again(self) -> None:
        """Some time has passed: a container may be gone, and nobody said so."""
        if self._has_any:
            self.tell_soon()

    async def close(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)

    # Inside

    def _require_going_on(self, network: str) -> None:
        if self._is_over:
            raise Unavailable(f"network {network} is not known here any more: this node leaves its swarm")

    async def _ask(self, network: str, address: str) -> messages.Attached:
        """Who does not wait for the answer any more gives the address back with the next word: it is not in
        use."""
        self._number += 1
        asked = messages.Attach(self._number, network, address)
        return await self._session.ask(asked, messages.Attached, messages.NotAttached)

    async def _tell_in_turn(self) -> None:
        try:
            while True:
                self._tell_again = False
                async with self._turn:
                    await self._tell()
                if not self._tell_again:
                    return
        finally:
            self._telling = None

    async def _tell(self) -> None:
        """Says what is in use. Where it cannot be found out or said, the next session begins with it."""
        assert self._containers is not None
        try:
            in_use = await self._containers.in_use()
            self._has_any = bool(in_use)
            addresses = [each.address for each in in_use]
            self._containers.hold(frozenset(each.network_id for each in addresses))
            if self._session.manager_knows(messages.ATTACH):
                self._session.send(messages.HasAddresses(addresses, [each.names for each in in_use]))
        except SkepError as error:
            log.warning("attachments.not_told", error=str(error))
