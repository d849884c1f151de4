"""Which addresses are asked for in vain at this node's tunnels, as the kernel says it.

Who on a bridge does not know who has an address asks by ARP: a container, or this host, which is to route an
answer to it. The question comes to the tunnel, which answers of those that it knows (`segment`), and has the
kernel say of others that they are missed: RTM_GETNEIGH, to who listens to neighbours, also without rights.

What the first packet costs: it waits where it was sent, up to a second per question and three questions long,
and goes as soon as the neighbour is put: the host's own by that, a container's by the word of ARP that is
said with it (`netlink.put_entries`). So a first packet is late by the question to the manager and by one
change of the kernel, some 50 ms, and none is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import socket
import struct
import sys
from collections.abc import Callable, Iterator

from pyroute2.netlink.rtnl import RTM_GETNEIGH

from skep.network.neighbours import read
from skep.network.netlink_wire import messages

Missed = Callable[[str, str], None]  # (a device's name, an address)

READ_MAX = 128  # words of the kernel, of 15 µs each, before others in the daemon have their turn
# After so many in a row: a container may ask for all of a network as fast as it can. What does not fit into
# the socket meanwhile is lost, and asked for again a second later.
PAUSE_S = 0.02
_GROUP = 1 << 2  # RTNLGRP_NEIGH is 3
_READ_BYTES = 4096  # one word has 60
_SO_ATTACH_FILTER = 26
_LDH, _JEQ, _RET = (
    0x28,
    0x15,
    0x06,
)  # of BPF: load two bytes, go on where they are these, say how many are taken
_TYPE_AT = 4  # of a message, behind its length


class Misses:
    """`missed` hears of each, in the loop."""

    def __init__(self, missed: Missed) -> None:
        self._missed = missed
        self._line: socket.socket | None = None
        self._pause: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Listens from now on; what does already goes on. Errors: `OSError`."""
        if self._line is None:
            self._line = _opened()
            self._go_on()

    def end(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._line is not None:
            asyncio.get_running_loop().remove_reader(self._line)
            self._line.close()
            self._line = None

    # Inside

    def _go_on(self) -> None:
        self._pause = None
        if self._line is not None:
            asyncio.get_running_loop().add_reader(self._line, self._read, self._line)

    def _read(self, line: socket.socket) -> None:
        for _ in range(READ_MAX):
            try:
                data = line.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # some were lost, and there are others
                    raise
                continue
            for device, address in _missed_in(data):
                self._missed(device, address)
        loop = asyncio.get_running_loop()
        loop.remove_reader(line)
        self._pause = loop.call_later(PAUSE_S, self._go_on)


def _missed_in(data: bytes) -> Iterator[tuple[str, str]]:
    """Yields device and address of each."""
    for kind, body in messages(data):
        found = read(body) if kind == RTM_GETNEIGH else None
        if found is not None:
            with contextlib.suppress(OSError):  # the device is gone
                yield socket.if_indextoname(found.device), found.address


def _opened() -> socket.socket:
    """Returns a socket that hears of nothing else: the thousands that this process puts would fill it."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    line = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
    try:
        _take_only(line, RTM_GETNEIGH)
        line.bind((0, _GROUP))
    except OSError:
        line.close()
        raise
    return line


def _take_only(line: socket.socket, kind: int) -> None:
    """Has the kernel hand over messages of this type only. It loads bytes as a network has them; a message's
    type is as this machine writes it."""
    is_at = int.from_bytes(kind.to_bytes(2, sys.byteorder), "big")
    steps = [(_LDH, 0, 0, _TYPE_AT), (_JEQ, 0, 1, is_at), (_RET, 0, 0, 0xFFFF_FFFF), (_RET, 0, 0, 0)]
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    kept = ctypes.create_string_buffer(code)
    program = struct.pack("@HP", len(steps), ctypes.addressof(kept))
    line.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
