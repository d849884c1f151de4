"""What the kernel says of a connection, read."""

from __future__ import annotations

import socket

from skep.network.conntrack import Flow, read
from skep.network.netlink_wire import attribute

HEAD = bytes([socket.AF_INET, 0, 0, 0])


def _way(src: str, dst: str) -> bytes:
    ends = b"".join(attribute(n, socket.inet_aton(each)) for n, each in enumerate((src, dst), 1))
    return attribute(0x8001, ends) + attribute(0x8002, attribute(1, b"\x06"))


def test_of_ipv4() -> None:
    reply = _way("10.0.0.7", "192.0.2.9")
    said = HEAD + attribute(0x8001, _way("192.0.2.9", "192.0.2.1")) + attribute(0x8002, reply)
    assert read(said) == Flow("192.0.2.1", "10.0.0.7", reply)


def test_of_other_kinds_there_is_nothing() -> None:
    six = attribute(0x8001, attribute(0x8001, attribute(3, bytes(16)) + attribute(4, bytes(16))))
    assert read(HEAD + six + six.replace(b"\x01\x80", b"\x02\x80", 1)) is None
    assert read(HEAD) is None
    assert read(b"") is None
