"""Managers that moved: who answers at an address, and where this node itself is now."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence

from msgspec import Struct

from skep.daemon.addresses import join_address, parse_address, resolve_advertise, resolve_listen
from skep.daemon.agent_part import TlsLine
from skep.rpc.link import FrameLink
from skep.rpc.port import Connection
from skep.runtime.errors import SkepError


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


async def find_managers(line: TlsLine, addresses: Sequence[str]) -> Found:
    """Asks at all addresses at once. Errors: `Invalid` for what is no address."""
    whole = [join_address(*parse_address(address)) for address in addresses]
    answers = await asyncio.gather(*(_who(line, address) for address in whole))
    managers = {
        address: answer for address, answer in zip(whole, answers, strict=True) if isinstance(answer, str)
    }
    return Found(managers, [str(answer) for answer in answers if not isinstance(answer, str)])


async def _who(line: TlsLine, address: str) -> str | SkepError:
    try:
        connection = await line.connect(address, _Silent())
    except SkepError as error:
        return error
    assert isinstance(connection, FrameLink)
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
