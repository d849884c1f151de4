"""Questions that nothing is known of here go to others: the host's resolvers, or those that a user named.

Who wants to put an answer in another's place has to guess a number and a port, each random and of one
question only; and what comes from elsewhere than the server that was asked, the kernel does not hand over.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import secrets
from collections.abc import Callable, Collection
from pathlib import Path

from skep.network import dns
from skep.network.host import RESOLV_CONF, nameservers
from skep.network.quota import Quota

PORT = 53
# In all: an engine waits for four seconds, and programs for five (resolv.conf(5)); they are to hear of it.
FORWARD_S = 3.0
SERVERS_MAX = 3  # as many as resolvers take of resolv.conf
LOOK_S = 1.0  # how soon another resolv.conf is noticed
LOCAL = "127.0.0.1"  # whom the C library asks where the file names nobody
# Each is a socket, and a process has 1,024 where nobody has raised that. At 5 ms for an answer it is 50,000
# in a second.
UNDER_WAY_MAX = 256
LISTENER_UNDER_WAY_MAX = 64  # so that one network whose containers ask silent servers does not have all
ASKER_UNDER_WAY_MAX = 32  # nor one container what its network has

Ask = Callable[[dns.DnsQuestion, str], "asyncio.Future[bytes]"]


class Forwarder:
    """Asks servers in turn. `resolv_conf` is the host's."""

    def __init__(self, resolv_conf: Path = RESOLV_CONF) -> None:
        self._resolvers = Resolvers(resolv_conf)
        self._under_way = Quota(UNDER_WAY_MAX, LISTENER_UNDER_WAY_MAX, ASKER_UNDER_WAY_MAX)

    async def ask(
        self,
        question: dns.DnsQuestion,
        at: str,
        asker: str,
        servers: tuple[str, ...],
        never: Collection[str],
        over_tcp: bool,
    ) -> bytes:
        """Returns the answer for who asks, `at` this address; that there is none, where nobody gave one in
        time. `servers` are asked, or else the host's, `never` are ourselves."""
        if not self._under_way.take(at, asker):
            return dns.refused(question, dns.SERVFAIL)
        try:
            wanted = servers or self._resolvers.now()
            answer = await _first(question, [each for each in wanted if each not in never], over_tcp)
        finally:
            self._under_way.give_back(at, asker)
        if answer is None:
            return dns.refused(question, dns.SERVFAIL)
        max_bytes = dns.MESSAGE_MAX_BYTES if over_tcp else question.udp_max_bytes
        number = dns.number_of(question.wire)
        return dns.numbered(dns.fitting(answer, question, max_bytes), number)


class Resolvers:
    """Whom the host asks, in its order, as its file says at the moment."""

    def __init__(self, resolv_conf: Path) -> None:
        self._path = resolv_conf
        self._looked_at = -LOOK_S
        self._seen: tuple[int, ...] = ()
        self._found: tuple[str, ...] = (LOCAL,)

    def now(self) -> tuple[str, ...]:
        """Reads it in the loop: a few lines, on every host's own disk, once after each change."""
        at = asyncio.get_running_loop().time()
        if at - self._looked_at >= LOOK_S:
            self._looked_at = at
            try:
                status = os.stat(self._path)
                seen = (status.st_mtime_ns, status.st_size, status.st_ino)
                if seen != self._seen:
                    self._found = nameservers(self._path) or (LOCAL,)
                    self._seen = seen
            except OSError:  # somebody is just writing it anew, or it never was
                self._seen = ()
        return self._found


async def _first(question: dns.DnsQuestion, servers: list[str], over_tcp: bool) -> bytes | None:
    """Returns the first answer that is one; else what one of them said instead; None where none spoke."""
    servers = servers[:SERVERS_MAX]
    tries = servers * 2 if len(servers) == 1 else servers  # a packet may be lost
    said = None
    for server in tries:
        try:
            async with asyncio.timeout(FORWARD_S / len(tries)):
                answer = await _over_udp(question, server)
                if over_tcp and dns.is_cut(answer):
                    answer = await _over_tcp(question, server)
        except (OSError, EOFError):  # nobody there, cut off, or too late
            continue
        if not dns.failed(answer):
            return answer
        said = said or answer
    return said


async def _over_udp(question: dns.DnsQuestion, server: str) -> bytes:
    """Returns the server's answer. Errors: `OSError`."""
    loop = asyncio.get_running_loop()
    number = secrets.randbits(16)
    # Connected: the kernel gives it a random port, and no packets but the server's.
    transport, heard = await loop.create_datagram_endpoint(
        lambda: _Heard(question, number), remote_addr=(server, PORT)
    )
    try:
        transport.sendto(dns.numbered(question.wire, number))
        return await heard.answer
    finally:
        transport.close()


class _Heard(asyncio.DatagramProtocol):
    """Waits for the answer; anything else that comes may be somebody's guess."""

    def __init__(self, question: dns.DnsQuestion, number: int) -> None:
        self._question = question
        self._number = number
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self.answer.done() and dns.is_answer(data, self._question, self._number):
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _over_tcp(question: dns.DnsQuestion, server: str) -> bytes:
    """Returns the server's answer. Errors: `OSError`, `EOFError`."""
    number = secrets.randbits(16)
    reader, writer = await asyncio.open_connection(server, PORT)
    try:
        writer.write(framed(dns.numbered(question.wire, number)))
        answer = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
        if not dns.is_answer(answer, question, number):
            raise ConnectionAbortedError(f"{server} answers what nobody asked")
        return answer
    finally:
        writer.close()


def framed(wire: bytes) -> bytes:
    """Returns a message as it goes over TCP: its length first."""
    return len(wire).to_bytes(2) + wire


def may_be_asked(text: str) -> bool:
    """False for a name, and for an address that leads to who asks, in whatever way it is written: the
    container itself is meant, and here it is the host."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    meant = getattr(address, "ipv4_mapped", None) or address
    return not (meant.is_loopback or meant.is_unspecified)
