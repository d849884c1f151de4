"""Published ports are held: a socket of ours has each, so that nobody else on the host takes it unnoticed.

Nothing is ever read of them: connections are led elsewhere before they come so far. Where somebody has a port
already, it stays his, and it is said who he is. Connections are nobody in this: one that has ended keeps its
port for a minute, and a client has one as long as it is connected. What comes for that is known to the
kernel, and led nowhere else.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Collection, Iterable
from typing import Any

import psutil

from skep.model.mesh import UDP

PortKey = tuple[str, int]
Connection = Any  # psutil names no type
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


class HeldPorts:
    """The sockets, as long as this object, or the process, is there."""

    def __init__(self) -> None:
        self._sockets: dict[PortKey, socket.socket] = {}

    def hold(self, wanted: Collection[PortKey]) -> dict[PortKey, str]:
        """Holds these ports and lets go of others. Returns those that cannot be had, and who has them."""
        for key in self._sockets.keys() - set(wanted):
            self._sockets.pop(key).close()
        refused: dict[PortKey, str] = {}
        for key in wanted:
            if key in self._sockets:
                continue
            try:
                self._sockets[key] = _bound(*key)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    refused[key] = f"the kernel ({error})"
                    continue
                found = _at(*key)
                if found and all(each.raddr for each in found):
                    self._hold_beside(key)
                else:
                    refused[key] = _whose(found)
        return refused

    def _hold_beside(self, key: PortKey) -> None:
        """Holds a port of which there are connections only: a server's that is gone. Beside a client's own
        the kernel gives it to nobody; it is held as soon as that has ended."""
        with contextlib.suppress(OSError):
            self._sockets[key] = _bound(*key, beside=True)

    def close(self) -> None:
        self.hold(())


def _bound(protocol: str, port: int, beside: bool = False) -> socket.socket:
    """Returns a socket that has the port on all addresses, of IPv6 too where there is any. Nobody else gets
    it, whatever options he sets; it takes no connections. `beside` those that a server has left."""
    kind = _KINDS[protocol]
    try:
        made = socket.socket(socket.AF_INET6, kind)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        address = "::"
    except OSError:
        made, address = socket.socket(socket.AF_INET, kind), "0.0.0.0"
    try:
        if protocol == UDP:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the least: nobody reads
        elif beside:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((address, port))
        except OSError as error:
            if address != "::" or error.errno != errno.EADDRNOTAVAIL:
                raise
            made.close()  # a kernel with IPv6 switched off
            made = socket.socket(socket.AF_INET, kind)
            made.bind(("0.0.0.0", port))
    except OSError:
        made.close()
        raise
    if beside:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)  # else another could have it beside us
    return made


def _at(protocol: str, port: int) -> list[Connection]:
    """Returns what can be seen of the host's sockets that have a port: none that is bound and does not
    listen, by which another skepd holds its own."""
    return [each for each in psutil.net_connections(protocol) if each.laddr and each.laddr.port == port]


def who_has(protocol: str, port: int, addresses: Collection[str] = ()) -> str:
    """Returns who has a port of this host, for people: at any address of it, or at one of these."""
    return _whose([each for each in _at(protocol, port) if not addresses or each.laddr.ip in addresses])


def _whose(found: Iterable[Connection]) -> str:
    for each in found:
        if each.raddr:
            continue
        where = f"{each.laddr.ip}:{each.laddr.port}"
        if each.pid is None:
            return f"a process of another user or namespace, at {where}"
        try:
            return f"{psutil.Process(each.pid).name()} (process {each.pid}), at {where}"
        except psutil.Error:
            return f"process {each.pid}, at {where}"
    return (
        "somebody who cannot be seen: a program that has it and does not listen yet, or a connection of its"
    )
