"""A simulated manager's own calls to others: each opens a stream; the product's manager there answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.structs import replace

from skep.daemon.leader_client import CALL_S, KNOCK_S, EnrolFor
from skep.daemon.manager_links import ManagerLinks
from skep.daemon.manager_runner import ManagerRunner
from skep.model.event import Event
from skep.rpc.enrolment_messages import Enrolled
from skep.rpc.streams import API, Pipe
from skep.runtime.errors import NoLeader, SkepError, Unavailable

if TYPE_CHECKING:
    from skep.sim.hosts import Host
    from skep.sim.world import World

T = TypeVar("T")


class SimLeaderLine:
    """Calls of one manager to another: each opens a stream to its API; fulfils `platform.LeaderLine`."""

    def __init__(
        self, host: Host, world: World, links: ManagerLinks, leader_socket: Callable[[], str | None]
    ) -> None:
        self._host = host
        self._world = world
        self._links = links
        self._leader_socket = leader_socket

    async def is_well(self, socket: str) -> bool:
        try:
            async with asyncio.timeout(KNOCK_S):
                await self._call(socket, lambda manager: manager.check_health())
        except (SkepError, TimeoutError):
            return False
        return True

    async def seen(self, socket: str) -> list[str]:
        async def seen(manager: ManagerRunner) -> list[str]:
            return manager.seen()

        return await self._call(socket, seen)

    async def demote(self, node_id: str) -> None:
        async def demote(manager: ManagerRunner) -> None:
            leader = manager.leader
            if leader is None:
                raise NoLeader("no manager leads at the moment")
            node = leader.view.nodes[node_id]
            await leader.nodes.update(node.id, node.version, replace(node.spec, role="worker"))

        socket = self._leader_socket()
        if socket is None:
            raise NoLeader("the swarm has no leader at the moment; try again")
        await self._call(socket, demote)

    async def swarm(self) -> dict[str, Any]:
        raise Unavailable("nobody asks here")

    async def enrol(self, asked: EnrolFor) -> Enrolled:
        raise Unavailable("nobody joins here")

    async def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        raise Unavailable("nobody asks here")

    async def events(self, tasks: bool) -> AsyncIterator[Event]:
        """Nobody listens to events here."""
        await asyncio.Event().wait()
        yield Event("", "", "", {}, 0.0)

    async def close(self) -> None: ...

    async def _call(self, node_id: str, ask: Callable[[ManagerRunner], Awaitable[T]]) -> T:
        """Errors: as the other's, `Unavailable`."""
        pipe, other = Pipe(), self._world.host(node_id)
        await self._links.stream(node_id, API, pipe)
        try:
            manager = other.manager
            if manager is None:
                raise Unavailable("the manager does not answer")
            async with asyncio.timeout(CALL_S):
                answer = await asyncio.shield(other.do(_asked(ask, manager)))
                await asyncio.sleep(self._world.network.latency_s())
                if not self._world.network.linked(self._host.ip, other.ip):
                    await asyncio.Event().wait()  # it is lost on its way
        except TimeoutError as error:
            raise Unavailable("the manager does not answer: timeout") from error
        finally:
            pipe.close()
        return answer


async def _asked(ask: Callable[[ManagerRunner], Awaitable[T]], manager: ManagerRunner) -> T:
    return await ask(manager)
