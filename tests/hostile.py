"""Hostile peers of a manager's port, in a process of their own.

    python -m tests.hostile KIND HOST:PORT CONNECTIONS [--hosts 8] [--token T] [--keys CERT+KEY.pem]

Keeps so many connections of one kind until it is ended; one that the manager closes is opened again at once.
They come from `--hosts` loopback addresses: 127.0.0.2 and those after it, or all from 127.0.0.1 (0).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from skep.cli.files import raise_file_limit
from skep.model.node import NodeDescription
from skep.rpc import enrolment_messages as wire
from skep.rpc.certificates import new_key_and_request
from skep.rpc.tls import enrolment_context

AGAIN_S = 0.02  # between the end of a connection and the next
BYTE_S = 1.0  # slow ones send a byte as often
OPENING_MAX = 256  # that are being opened at a time: more would only wait in the kernel
REQUEST_PEM = new_key_and_request()[1]


class Peer:
    """What they all need to know."""

    def __init__(self, address: str, hosts: int, token: str, keys: Path | None) -> None:
        host, _, port = address.rpartition(":")
        self._address = host, int(port)
        self._hosts = [f"127.0.0.{2 + n}" for n in range(hosts)] or ["127.0.0.1"]
        self._gate = asyncio.Semaphore(OPENING_MAX)
        self.strange = enrolment_context()
        self.member = enrolment_context.__wrapped__()
        if keys is not None:
            self.member.load_cert_chain(keys)
        self.token = token
        self.opened = self.closed = 0

    async def open(self, context: ssl.SSLContext | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with self._gate:
            made = await asyncio.open_connection(
                *self._address, ssl=context, local_addr=(random.choice(self._hosts), 0)
            )
        self.opened += 1
        return made

    async def keep(self, kind: Kind) -> None:
        while True:
            writer: asyncio.StreamWriter | None = None
            with contextlib.suppress(OSError, EOFError):
                writer = await kind(self)
            if writer is not None:
                writer.transport.abort()
                self.closed += 1
            await asyncio.sleep(AGAIN_S)


Kind = Callable[[Peer], Awaitable[asyncio.StreamWriter]]


def frame(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def hello() -> bytes:
    """The first words of a TLS client."""
    outgoing = ssl.MemoryBIO()
    tls = enrolment_context().wrap_bio(ssl.MemoryBIO(), outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


async def hold(reader: asyncio.StreamReader) -> None:
    """Reads until the manager ends it."""
    while await reader.read(1 << 16):
        pass


async def silent(peer: Peer) -> asyncio.StreamWriter:
    reader, writer = await peer.open(None)
    await hold(reader)
    return writer


async def half(peer: Peer) -> asyncio.StreamWriter:
    """Half a handshake."""
    reader, writer = await peer.open(None)
    writer.write(hello())
    await hold(reader)
    return writer


async def slow_hello(peer: Peer) -> asyncio.StreamWriter:
    """A handshake that begins a byte at a time."""
    reader, writer = await peer.open(None)
    return await trickle(reader, writer, hello())


async def slow(peer: Peer) -> asyncio.StreamWriter:
    """A frame that comes a byte at a time."""
    reader, writer = await peer.open(peer.strange)
    return await trickle(reader, writer, struct.pack(">I", 60_000) + bytes(60_000))


async def large(peer: Peer) -> asyncio.StreamWriter:
    """16 MB without end, as fast as they are taken."""
    _, writer = await peer.open(peer.strange)
    writer.write(struct.pack(">I", 16 << 20))
    for _ in range(255):
        writer.write(bytes(1 << 16))
        await writer.drain()
    await asyncio.sleep(60)
    return writer


async def questions(peer: Peer) -> asyncio.StreamWriter:
    """The same question without end; the answers are not read."""
    _, writer = await peer.open(peer.strange)
    many = frame(wire.encode(wire.GetCa())) * 1000
    while True:
        writer.write(many)
        await writer.drain()
        await asyncio.sleep(0)


async def garbage(peer: Peer) -> asyncio.StreamWriter:
    """No TLS at all."""
    reader, writer = await peer.open(None)
    writer.write(os.urandom(1000))
    await hold(reader)
    return writer


async def wrong_token(peer: Peer) -> asyncio.StreamWriter:
    """Enrols with a secret that is none."""
    reader, writer = await peer.open(peer.strange)
    token = peer.token[:-25] + "".join(random.choices("0123456789abcdefghijklmnopqrstuvwxyz", k=25))
    request = wire.Enrol(token, REQUEST_PEM, "active", NodeDescription(hostname="x" * 1000))
    writer.write(frame(wire.encode(wire.GetCa())) + frame(wire.encode(request)))
    await hold(reader)
    return writer


async def member(peer: Peer) -> asyncio.StreamWriter:
    """All with one node's certificate; each holds most of a frame."""
    reader, writer = await peer.open(peer.member)
    writer.write(struct.pack(">I", 100_000) + bytes(99_000))
    await hold(reader)
    return writer


async def trickle(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes
) -> asyncio.StreamWriter:
    async def send() -> None:
        for byte in data:
            writer.write(bytes([byte]))
            await asyncio.sleep(BYTE_S)

    sending = asyncio.ensure_future(send())
    try:
        await hold(reader)
    finally:
        sending.cancel()
    return writer


KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (silent, half, slow_hello, slow, large, questions, garbage, wrong_token, member)
}


async def attack(peer: Peer, kind: Kind, connections: int) -> None:
    async def report() -> None:
        while True:
            await asyncio.sleep(1)
            print(peer.opened, peer.closed, flush=True)

    await asyncio.gather(report(), *(peer.keep(kind) for _ in range(connections)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("address")
    parser.add_argument("connections", type=int)
    parser.add_argument("--hosts", type=int, default=8)
    parser.add_argument("--token", default="")
    parser.add_argument("--keys", type=Path)
    given = parser.parse_args()
    raise_file_limit()

    async def run() -> None:
        peer = Peer(given.address, given.hosts, given.token, given.keys)
        await attack(peer, KINDS[given.kind], given.connections)

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(run())


if __name__ == "__main__":
    main()
