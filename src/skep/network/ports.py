"""Published ports are held: a socket of ours has each, so that nobody else on the host takes it unnoticed.

Nothing is ever read of them: connections are led elsewhere before they come so far. Where somebody has a port
already, it stays his, and it is said who he is.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection

import psutil

from skep.model.mesh import UDP

PortKey = tuple[str, int]
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
                refused[key] = who_has(*key) if error.errno == errno.EADDRINUSE else f"the kernel ({error})"
        return refused

    def close(self) -> None:
        self.hold(())


def _bound(protocol: str, port: int) -> socket.socket:
    """Returns a socket that has the port on all addresses, of IPv6 too where there is any. Nobody else gets
    it, whatever options he sets; it takes no connections."""
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
    return made


def who_has(protocol: str, port: int, addresses: Collection[str] = ()) -> str:
    """Returns who has a port of this host, for people: at any address of it, or at one of these."""
    for each in psutil.net_connections(protocol):
        if addresses and each.laddr and each.laddr.ip not in addresses:
            continue
        if each.laddr and each.laddr.port == port and not each.raddr:
            where = f"{each.laddr.ip}:{port}"
            if each.pid is None:
                return f"a process of another user or namespace, at {where}"
            try:
                return f"{psutil.Process(each.pid).name()} (process {each.pid}), at {where}"
            except psutil.Error:
                return f"process {each.pid}, at {where}"
    return "nobody who can be seen: perhaps a connection that has just ended (the next minute tells)"
