"""Containers' questions for names, at the addresses of the bridges that they are on: UDP and TCP, port 53.

What is known here is answered at once, the rest by others: of large networks a manager is asked first.
Nothing is logged of single questions: they are containers', and any container may ask as much as it likes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Collection, Coroutine
from pathlib import Path

from skep.network import dns
from skep.network.dns_forward import (
    ASKER_UNDER_WAY_MAX,
    LISTENER_UNDER_WAY_MAX,
    PORT,
    UNDER_WAY_MAX,
    Forwarder,
    framed,
)
from skep.network.host import RESOLV_CONF
from skep.network.names import NameAnswer, Names, Unknown, find, unknown
from skep.network.network_names import NetworkNames
from skep.network.ports import who_has
from skep.network.quota import Quota

# Of the questions in a slice of time, others are dropped unread: a thousand in a second of one container, two
# thousand at one address, and four in all, which take the daemon a third of it. Who asks more often should
# keep answers for the second that they hold.
SLICE_S, SLICE_MAX, LISTENER_SLICE_MAX, ASKER_SLICE_MAX = 0.1, 400, 200, 100
READ_S = 0.005  # of reading questions before others in the daemon have their turn
# Over TCP comes what does not fit, one question a connection: an engine does not keep them.
CONNECTIONS_MAX, LISTENER_CONNECTIONS_MAX, ASKER_CONNECTIONS_MAX = 64, 16, 8
NAMED_MAX = 4096  # containers with nameservers of their own: a node has some hundreds, a bridge 1,024 ports
IDLE_S = 5.0  # until a connection that says nothing, or reads nothing, is closed
BACKLOG = 32
_ELSEWHERE = ""  # no listener's address
_FREEBIND = 15  # IP_FREEBIND, which Python does not name

OnSocket = Callable[[socket.socket, str], None]  # the listener's, at this address
# Has what a manager knows of these be known to `Names`; it takes some seconds at most.
Resolve = Callable[[Collection[Unknown]], Awaitable[None]]


class DnsServer:
    """`names` are others' to change: until they are known, nothing is to be served."""

    def __init__(self, names: Names, resolv_conf: Path = RESOLV_CONF) -> None:
        self._names = names
        self._forwarder = Forwarder(resolv_conf)
        self._listeners: dict[str, _Listener] = {}  # by network
        self._servers: dict[str, tuple[str, ...]] = {}  # that users named for a container, by its address
        self._slice_began = 0.0
        self._asked = Quota(SLICE_MAX, LISTENER_SLICE_MAX, ASKER_SLICE_MAX)  # in this slice
        self._connections = Quota(CONNECTIONS_MAX, LISTENER_CONNECTIONS_MAX, ASKER_CONNECTIONS_MAX)
        self._resolve: Resolve | None = None
        # Beside those that wait for servers elsewhere: either may be silent.
        self._resolving = Quota(UNDER_WAY_MAX, LISTENER_UNDER_WAY_MAX, ASKER_UNDER_WAY_MAX)
        self._works: set[asyncio.Task[None]] = set()
        self._turn = 0

    def serve(self, network_id: str, gateway: str, is_internal: bool) -> None:
        """Answers at this address, which need not be there yet, who is on the network: and on an internal one
        of nothing but the swarm's names. Errors: `OSError`; see `why_not`."""
        known = self._listeners.get(network_id)
        if known is not None and (known.address, known.is_internal) == (gateway, is_internal):
            return
        self.stop(network_id)
        made = self._listeners[network_id] = _Listener(gateway, is_internal)
        made.begin(self._read, self._accept)

    def stop(self, network_id: str) -> None:
        """Nobody here asks at the network's gateway any more."""
        known = self._listeners.pop(network_id, None)
        if known is not None:
            known.close()

    def ask_for(self, asker: str, servers: tuple[str, ...]) -> None:
        """Has what the container with this address asks for be asked of these servers, not of the host's;
        with none, of the host's."""
        self._servers.pop(asker, None)
        if servers:
            self._servers[asker] = servers
            while len(self._servers) > NAMED_MAX:  # of containers that are gone long ago
                del self._servers[next(iter(self._servers))]

    def resolve_with(self, resolve: Resolve) -> None:
        """Has this be asked of large networks what is not known here."""
        self._resolve = resolve

    async def close(self) -> None:
        for network_id in list(self._listeners):
            self.stop(network_id)
        for work in list(self._works):
            work.cancel()
        await asyncio.gather(*self._works, return_exceptions=True)

    # Inside

    def _read(self, udp: socket.socket, at: str) -> None:
        now = asyncio.get_running_loop().time
        until = now() + READ_S
        while now() < until:
            try:
                wire, (asker, port) = udp.recvfrom(dns.QUESTION_MAX_BYTES + 1)
            except OSError:  # there are no more
                return
            own = self._at_own(at, asker)
            if self._may_ask(own, asker) and len(wire) <= dns.QUESTION_MAX_BYTES:
                self._answer_datagram(udp, own, wire, asker, port)

    def _answer_datagram(self, udp: socket.socket, at: str, wire: bytes, asker: str, port: int) -> None:
        said = self._known(wire, asker, over_tcp=False)
        if isinstance(said, bytes):
            _send(udp, said, asker, port)
        elif said is not None:
            self._begin(self._ask_for_datagram(udp, at, said, asker, port))

    async def _ask_for_datagram(
        self, udp: socket.socket, at: str, question: dns.DnsQuestion, asker: str, port: int
    ) -> None:
        _send(udp, await self._ask_others(question, at, asker, over_tcp=False), asker, port)

    def _accept(self, tcp: socket.socket, at: str) -> None:
        try:
            made, (asker, _) = tcp.accept()
        except OSError:  # gone again
            return
        at = self._at_own(at, asker)
        if not self._connections.take(at, asker):
            made.close()
            return
        made.setblocking(False)
        self._begin(self._converse(made, at, asker))

    async def _converse(self, made: socket.socket, at: str, asker: str) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=made, limit=dns.QUESTION_MAX_BYTES)
            writer.transport.set_write_buffer_limits(0)  # the kernel has all before the next one is read
            try:
                await self._answer_stream(reader, writer, at, asker)
            finally:
                writer.transport.abort()  # who does not read what is his is not waited for
        except (OSError, EOFError):  # silent, or gone
            made.close()
        finally:
            self._connections.give_back(at, asker)

    async def _answer_stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, at: str, asker: str
    ) -> None:
        while True:
            async with asyncio.timeout(IDLE_S):
                length = int.from_bytes(await reader.readexactly(2))
                if length > dns.QUESTION_MAX_BYTES:
                    return
                wire = await reader.readexactly(length)
            said = self._known(wire, asker, over_tcp=True) if self._may_ask(at, asker) else None
            if isinstance(said, dns.DnsQuestion):
                said = await self._ask_others(said, at, asker, over_tcp=True)
            if said is None:
                return
            async with asyncio.timeout(IDLE_S):
                writer.write(framed(said))
                await writer.drain()

    def _known(self, wire: bytes, asker: str, over_tcp: bool) -> bytes | dns.DnsQuestion | None:
        """Returns what is answered at once; the question, where others are to be asked; None: not a word."""
        networks = self._names.networks_of(asker)
        if not networks:
            return dns.refused_unread(wire)
        question = dns.read(wire)
        if not isinstance(question, dns.DnsQuestion):
            return question
        if question.is_wrong:
            return question.empty
        answer = self._found(networks, question)
        if answer is not None:
            return _answered(question, answer, over_tcp)
        if not self._leads_outside(networks, asker) and not self._unknown(networks, question):
            return dns.refused(question, dns.REFUSED)
        return question

    def _found(self, networks: tuple[NetworkNames, ...], question: dns.DnsQuestion) -> NameAnswer | None:
        self._turn += 1
        return find(networks, question.name, question.kind, self._turn)

    def _unknown(self, networks: tuple[NetworkNames, ...], question: dns.DnsQuestion) -> tuple[Unknown, ...]:
        return unknown(networks, question.name) if self._resolve is not None else ()

    async def _ask_others(self, question: dns.DnsQuestion, at: str, asker: str, over_tcp: bool) -> bytes:
        """Returns what others say to what is not known here: a manager, then servers elsewhere."""
        networks = self._names.networks_of(asker)
        if asked := self._unknown(networks, question):
            if not self._resolving.take(at, asker):
                return dns.refused(question, dns.SERVFAIL)
            try:
                assert self._resolve is not None
                await self._resolve(asked)
            finally:
                self._resolving.give_back(at, asker)
            networks = self._names.networks_of(asker)
            answer = self._found(networks, question)
            if answer is not None:
                return _answered(question, answer, over_tcp)
        if not self._leads_outside(networks, asker):
            return dns.refused(question, dns.REFUSED)
        return await self._forwarded(question, at, asker, over_tcp)

    def _leads_outside(self, networks: tuple[NetworkNames, ...], asker: str) -> bool:
        """False for who is on internal networks only: with names that he makes up he could tell the world
        what he likes. Of a network where nobody is served it is not known whether it is internal. And for
        this host itself, which has no reason to ask here: it may be a loop."""
        outside = {network_id for network_id, each in self._listeners.items() if not each.is_internal}
        return asker not in self._own() and any(each.id in outside for each in networks)

    async def _forwarded(self, question: dns.DnsQuestion, at: str, asker: str, over_tcp: bool) -> bytes:
        servers = self._servers.get(asker, ())
        return await self._forwarder.ask(question, at, asker, servers, self._own(), over_tcp)

    def _own(self) -> set[str]:
        return {each.address for each in self._listeners.values()}

    def _at_own(self, at: str, asker: str) -> str:
        """Returns where what is asked counts: at this address where the asker is of its network. All who
        reach it from elsewhere have as much together, and take nothing from that network."""
        networks = self._names.networks_of(asker)
        return at if networks and networks[0].may_have(at) else _ELSEWHERE

    def _may_ask(self, at: str, asker: str) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._slice_began >= SLICE_S:
            self._slice_began = now
            self._asked.begin_anew()
        return self._asked.take(at, asker)

    def _begin(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.ensure_future(work)
        self._works.add(task)
        task.add_done_callback(self._works.discard)


def _answered(question: dns.DnsQuestion, answer: NameAnswer, over_tcp: bool) -> bytes:
    return dns.answered(question, answer, dns.MESSAGE_MAX_BYTES if over_tcp else question.udp_max_bytes)


class _Listener:
    """The sockets at one address. Errors of making it: `OSError`."""

    def __init__(self, address: str, is_internal: bool) -> None:
        self.address = address
        self.is_internal = is_internal
        self._udp = _bound(address, socket.SOCK_DGRAM)
        try:
            self._tcp = _bound(address, socket.SOCK_STREAM)
        except OSError:
            self._udp.close()
            raise

    def begin(self, read: OnSocket, accept: OnSocket) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._udp, read, self._udp, self.address)
        loop.add_reader(self._tcp, accept, self._tcp, self.address)

    def close(self) -> None:
        for each in (self._udp, self._tcp):
            asyncio.get_running_loop().remove_reader(each)
            each.close()


def _bound(address: str, kind: int) -> socket.socket:
    """Returns a socket at the address, which the bridge may get later. Several daemons may share an engine,
    and so a bridge: each of them knows the names, and any may answer."""
    made = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.SOL_IP, _FREEBIND, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((address, PORT))
        if kind == socket.SOCK_STREAM:
            made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def _send(udp: socket.socket, wire: bytes, asker: str, port: int) -> None:
    with contextlib.suppress(OSError, OverflowError):  # closed meanwhile, or no way there: he asks again
        udp.sendto(wire, (asker, port))


def why_not(gateway: str, error: OSError) -> str:
    """Returns why nothing is answered at an address, for people. Blocking: it looks who has the port."""
    said = f"containers here do not find the names of others on their networks, as they ask at {gateway}"
    if error.errno != errno.EADDRINUSE:
        return f"{said}: port {PORT} there cannot be had ({error.strerror})"
    who = who_has("udp", PORT, (gateway, "0.0.0.0", "::"))
    if f"(process {os.getpid()})" in who:  # held for the routing mesh (`network.ports`)
        return f"{said}: a service of the swarm publishes port {PORT}. Have it publish another one"
    return (
        f"{said}: port {PORT} there is taken by {who}. Have it answer at addresses of its own only"
        " (dnsmasq: bind-dynamic; unbound: interface); skepd tries again by itself"
    )
