"""Managers that moved: who answers at an address, and where this node itself is now."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from skep.api.interfaces import ReconnectRequest
from skep.daemon import error_texts
from skep.daemon.addresses import join_address, parse_address, resolve_advertise, resolve_listen
from skep.daemon.agent_runner import Line
from skep.daemon.node_runner import NodeRunner
from skep.daemon.node_state import Running
from skep.rpc.interfaces import Connection
from skep.runtime.errors import Invalid, SkepError, Unavailable

SESSION_S = 20.0  # as Docker waits for a node that joins


class Found(Struct, frozen=True):
    """Which manager answers at which address, in order; `failures` say why others do not."""

    managers: dict[str, str]
    failures: list[str]


class _Silent:
    """Says nothing and hears nothing: the handshake has said who the peer is."""

    def connected(self, connection: Connection) -> None:
        """Nothing to do."""

    def frame(self, data: bytes) -> None:
        """What it says does not matter."""

    def closed(self, reason: str) -> None:
        """Nothing is kept of it."""


async def find_managers(line: Line, addresses: Sequence[str]) -> Found:
    """Asks at all addresses at once. Errors: `Invalid` for what is no address."""
    whole = [join_address(*parse_address(address)) for address in addresses]
    answers = await asyncio.gather(*(_who(line, address) for address in whole))
    managers = {
        address: answer for address, answer in zip(whole, answers, strict=True) if isinstance(answer, str)
    }
    return Found(managers, [str(answer) for answer in answers if not isinstance(answer, str)])


async def _who(line: Line, address: str) -> str | SkepError:
    try:
        connection = await line.connect(address, _Silent())
    except SkepError as error:
        return error
    assert connection.identity is not None
    connection.close()
    return connection.identity.node_id


def new_place(listen: str, advertise: str, listen_before: str) -> tuple[tuple[str, int], str]:
    """Returns where a manager that moved listens, and the address it tells. Who listened at every address
    goes on to; else the address that is told is the one to listen at. Errors: `Invalid`."""
    before = parse_address(listen_before)
    if listen:
        at = resolve_listen(listen)
        return at, join_address(*resolve_advertise(advertise, at))
    told = resolve_advertise(advertise, before)
    at = (before[0], told[1]) if ipaddress.ip_address(before[0]).is_unspecified else told
    return at, join_address(*told)


class Mover:
    """Works for one node."""

    def __init__(self, node: NodeRunner) -> None:
        self._node = node

    async def reconnect(self, request: ReconnectRequest, running: Running) -> list[str]:
        """Takes in where managers are, and where this node is itself. Returns what did not go well.

        Errors: `Invalid`; `Unavailable` where no manager of this swarm answers at any of the addresses. Then
        all is as before.
        """
        if not (request.remote_addrs or request.advertise_addr):
            raise Invalid("at least one address of a manager is needed, or this one's own")
        node, manager = self._node, running.manager
        found = await find_managers(running.line, request.remote_addrs)
        known, warnings = dict(found.managers), list(found.failures)
        if manager is not None:
            strangers = {at: node_id for at, node_id in known.items() if node_id not in manager.members}
            known = {at: node_id for at, node_id in known.items() if at not in strangers}
            warnings += (error_texts.stranger(at, node_id) for at, node_id in strangers.items())
        if request.remote_addrs and not known:
            raise Unavailable("; ".join(warnings))
        if request.advertise_addr or request.listen_addr:
            await self._move(request)
            manager = node.running_manager
        if manager is not None:
            for address, node_id in known.items():
                if node_id in manager.members:
                    manager.peers.learn(node_id, address)
        own = [node.membership.advertise] if node.membership.role == "manager" else []
        node.agent.session.use_managers([*own, *known] or list(node.membership.managers))
        return warnings + await self._not_connected()

    async def _move(self, request: ReconnectRequest) -> None:
        node, before, manager = self._node, self._node.membership, self._node.running_manager
        is_manager = before.role == "manager"
        advertise_addr = request.advertise_addr or before.advertise
        listen, advertise = new_place(request.listen_addr, advertise_addr, before.listen)
        if manager is not None:
            await manager.move(listen, advertise)
        peers = {**before.peers, before.node_id: advertise} if is_manager else {}
        node.remember(replace(before, listen=join_address(*listen), advertise=advertise, peers=peers))
        if is_manager:
            node.agent.session.advertise(advertise)
        if node.is_misplaced:
            await node.begin_manager()

    async def _not_connected(self) -> list[str]:
        """Returns what keeps a worker from its leader, after some patience."""
        if self._node.membership.role == "manager":
            return []
        try:
            async with asyncio.timeout(SESSION_S):
                await self._node.agent.session.ready.wait()
        except TimeoutError:
            return ["no manager has taken this node's session yet; it goes on trying"]
        return []
