"""Whether connections still begin to some addresses, as this host's devices see them: TCP's first packets.
Nothing here blocks.

A socket that the kernel gives them, and nothing else: it filters, and what is more than a few it drops before
anybody reads it. UDP has no first packets.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import threading
from collections.abc import Collection

import structlog

from skep.model.ipv4 import is_ipv4, number_of

log = structlog.get_logger()

ADDRESSES_MAX = 64  # of one task, which has one for each network: a jump in a filter reaches 255 instructions
_BUFFER_BYTES = 2048  # the kernel takes twice that: that one came is all that matters
_READ_MAX = 64  # what a buffer has, several times: others may come while it is read
_ETH_P_ALL, _SO_ATTACH_FILTER = 0x0003, 26
# Classic BPF: load a half word, word, byte, byte behind the header's length; that length; jumps; and; return.
_LDH, _LD, _LDB, _LDB_X, _LDX_IHL = 0x28, 0x20, 0x30, 0x50, 0xB1
_JEQ, _JSET, _AND, _RET = 0x15, 0x45, 0x54, 0x06
_PROTOCOL = 0xFFFFF000  # where the kernel has the frame's, for filters
_SYN, _SYN_ACK = 0x02, 0x12


class Arrivals:
    """Connections to these addresses from now on. Without the right to look nothing is seen of them."""

    def __init__(self, addresses: Collection[str]) -> None:
        self._socket: socket.socket | None = None
        found = sorted({number_of(each) for each in addresses if is_ipv4(each)})[:ADDRESSES_MAX]
        if not found:
            return
        try:
            self._socket = _opened(found)
        except OSError as error:
            log.warning("arrivals.not_seen", error=str(error))

    def came(self) -> bool:
        """Returns whether one has begun since this was asked last."""
        return self._socket is not None and _has_read(self._socket)

    def close(self) -> None:
        """Looks no more. The kernel closes such a socket when all its processors have let go of it, some
        12 ms on a quiet machine: nobody waits for that."""
        if self._socket is not None:
            threading.Thread(target=self._socket.close, name="arrivals-close", daemon=True).start()
            self._socket = None


def _opened(addresses: Collection[int]) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        program = b"".join(struct.pack("HBBI", *each) for each in first_packets(addresses))
        text = ctypes.create_string_buffer(program, len(program))
        attached = struct.pack("@HP", len(program) // 8, ctypes.addressof(text))
        made.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, attached)
        _has_read(made)  # what came before there was a filter
    except BaseException:
        made.close()
        raise
    return made


def _has_read(opened: socket.socket) -> bool:
    """Reads what waits, and returns whether there was something."""
    count = 0
    with contextlib.suppress(OSError):  # there is nothing more; or a device went, which the kernel says once
        while count < _READ_MAX:
            opened.recv(1)
            count += 1
    return bool(count)


def first_packets(addresses: Collection[int]) -> list[tuple[int, int, int, int]]:
    """Returns the filter as instructions (code, jump if so, if not, operand): IPv4 to one of these, TCP, no
    later fragment, SYN and not ACK."""
    count = len(addresses)
    matched = [(_JEQ, count - n - 1, 0, each) for n, each in enumerate(addresses)]
    rest = [
        (_LDB, 0, 0, 9),
        (_JEQ, 0, 7, socket.IPPROTO_TCP),
        (_LDH, 0, 0, 6),
        (_JSET, 5, 0, 0x1FFF),
        (_LDX_IHL, 0, 0, 0),
        (_LDB_X, 0, 0, 13),
        (_AND, 0, 0, _SYN_ACK),
        (_JEQ, 0, 1, _SYN),
        (_RET, 0, 0, 1),
        (_RET, 0, 0, 0),
    ]
    code, if_so, _, last = matched[-1]
    matched[-1] = code, if_so, len(rest) - 1, last
    to_none = 1 + count + len(rest) - 1
    return [(_LDH, 0, 0, _PROTOCOL), (_JEQ, 0, to_none, 0x0800), (_LD, 0, 0, 16), *matched, *rest]
