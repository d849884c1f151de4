"""What a real kernel says of addresses that are missed at a tunnel, also where somebody misses very many."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from skep.network import neighbours
from skep.network.misses import READ_MAX, Misses
from skep.network.neighbours import Entry

from .dns_hosts import inside
from .mesh_hosts import Namespace, ip

pytestmark = [pytest.mark.root, pytest.mark.timeout(60), pytest.mark.alone]

TUNNEL = "skv4098"


@pytest.fixture
def host() -> Iterator[Namespace]:
    """A host whose bridge has a tunnel that says what it does not know, and another one that does not."""
    space = Namespace("misses")
    try:
        for number, words in ((4098, ("l3miss",)), (4099, ())):
            bridge, tunnel = f"skb{number}", f"skv{number}"
            ip("-n", space.name, "link", "add", bridge, "type", "bridge")
            made = ("id", str(number), "dstport", "4789", "nolearning", "proxy", *words)
            ip("-n", space.name, "link", "add", tunnel, "type", "vxlan", *made)
            ip("-n", space.name, "link", "set", tunnel, "master", bridge, "up")
            ip("-n", space.name, "link", "set", bridge, "up")
            ip("-n", space.name, "addr", "add", f"10.{number - 4097}.0.1/16", "dev", bridge)
        yield space
    finally:
        space.remove()


def _ask_for(addresses: list[str], bridge: str = "skb4098") -> None:
    """Asks by ARP who has these, as a container would."""
    own, mac = socket.inet_aton("10.1.0.9"), b"\x02\x42\x0a\x01\x00\x09"
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as line:
        line.bind((bridge, 0))
        for each in addresses:
            asked = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + own + bytes(6) + socket.inet_aton(each)
            line.send(b"\xff" * 6 + mac + b"\x08\x06" + asked)


def test_each_is_heard_of_with_its_tunnel_and_nothing_else_is(host: Namespace) -> None:
    async def hear() -> list[tuple[str, str]]:
        heard: list[tuple[str, str]] = []
        misses = Misses(lambda *each: heard.append(each))
        misses.begin()
        misses.begin()
        ip("-n", host.name, "neigh", "add", "10.1.0.3", "lladdr", "02:00:00:00:00:03", "dev", TUNNEL)
        _ask_for(["10.1.0.2", "10.1.0.3"])
        _ask_for(["10.2.0.2"], "skb4099")
        await asyncio.sleep(0.2)
        misses.end()
        misses.end()
        _ask_for(["10.1.0.4"])
        await asyncio.sleep(0.1)
        return heard

    assert inside(host, lambda: asyncio.run(hear())) == [(TUNNEL, "10.1.0.2")]


def test_this_host_itself_misses_whom_it_is_to_send_to(host: Namespace) -> None:
    async def hear() -> list[tuple[str, str]]:
        heard: list[tuple[str, str]] = []
        misses = Misses(lambda *each: heard.append(each))
        misses.begin()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.sendto(b"x", ("10.1.0.2", 80))
        await asyncio.sleep(0.2)
        misses.end()
        return heard

    assert inside(host, lambda: asyncio.run(hear())) == [(TUNNEL, "10.1.0.2")]


def test_who_misses_very_many_is_heard_of_bit_by_bit_and_what_is_lost_ends_nothing(host: Namespace) -> None:
    many = [f"10.1.{1 + n // 250}.{1 + n % 250}" for n in range(10_000)]

    async def hear() -> tuple[list[int], set[str]]:
        heard: set[str] = set()
        misses = Misses(lambda tunnel, address: heard.add(address))
        misses.begin()
        _ask_for(many)  # nobody reads meanwhile: the socket overflows
        turns = []
        for _ in range(3):
            await asyncio.sleep(0)
            turns.append(len(heard))
        until = time.monotonic() + 10
        while "10.1.0.2" not in heard and time.monotonic() < until:
            await asyncio.sleep(0.1)
            _ask_for(["10.1.0.2"])
        misses.end()
        return turns, heard

    turns, heard = inside(host, lambda: asyncio.run(hear()))
    assert 0 < max(turns) <= READ_MAX, turns
    assert "10.1.0.2" in heard
    assert READ_MAX < len(heard) < len(many), "some fitted into the socket, and some did not"


def test_what_this_process_puts_does_not_fill_it(host: Namespace) -> None:
    """Thousands of neighbours at once, of which the kernel tells who listens, too."""

    async def hear() -> list[tuple[str, str]]:
        heard: list[tuple[str, str]] = []
        misses = Misses(lambda *each: heard.append(each))
        misses.begin()
        index, mac = socket.if_nametoindex(TUNNEL), "02:00:00:00:00:03"
        own = [Entry(index, f"10.1.{1 + n // 250}.{1 + n % 250}", mac) for n in range(3000)]
        assert not any(neighbours.put(own))
        _ask_for(["10.1.0.2"])
        await asyncio.sleep(0.2)
        misses.end()
        return heard

    assert inside(host, lambda: asyncio.run(hear())) == [(TUNNEL, "10.1.0.2")]
