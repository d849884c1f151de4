"""What a node finds in its kernel, from the objects to who asked."""

from __future__ import annotations

import asyncio
import random
from typing import Any, get_args

import pytest

from skep.agent.looking import Looking
from skep.agent.session import Session
from skep.cli.net import _inspected, _size
from skep.manager.dispatcher import looks
from skep.manager.dispatcher.looks import LOOKS_MAX, Looks
from skep.model.kernel_net import COUNTED_MAX, NAMED_MAX, Bytes, KernelNet
from skep.network.diff import Changes
from skep.network.objects import (
    Bridge,
    Chain,
    ChainCounter,
    Gateway,
    Neighbour,
    Object,
    Port,
    PortJump,
    ReturnRoute,
    Sysctl,
    Table,
    Traffic,
    Tunnel,
    chain,
)
from skep.network.seen_kernel import KINDS, kernel_net, named
from skep.rpc import messages
from skep.rpc.checking import check
from skep.rpc.messages import LOOK, FromManager, MeshLook, MeshSeen, Registered
from skep.runtime.errors import Invalid, Unavailable

WEB = chain("tcp-8080", ["x"])


def test_what_is_there_what_is_missing_and_what_is_too_much() -> None:
    found: list[Object] = [
        Bridge("skb1", "m", 1450),
        Table(),
        ChainCounter("tcp-8080", 7, 420),
        ChainCounter("vip-10-1-0-2", 1, 60),
        Traffic("tcp", "8080", 1000, 20_000),
        Traffic("vip", "10.1.0.2", 1, 2),
        Traffic("udp", "53", 3, 4),  # nobody knows any more of what
    ]
    other = Chain("tcp-8080", None, ("another",))
    jump = PortJump("tcp", 8080, "tcp-8080")
    found += [other, Neighbour("skb1", "10.0.0.9", "m"), jump]
    changes = Changes(
        (Neighbour("skb1", "10.0.0.9", "m"), jump), (Neighbour("skb1", "10.0.0.8", "m"), WEB, jump)
    )
    seen = kernel_net(found, changes, ["it is so"])
    assert seen.objects["bridges"] == 1
    assert seen.objects["counters"] == 2
    assert seen.missing == ["neighbour 10.0.0.8 on skb1", "chain tcp-8080", "published port 8080/tcp"]
    assert seen.surplus == ["neighbour 10.0.0.9 on skb1"], "what is to be another is missing, and no more"
    assert (seen.missing_count, seen.surplus_count) == (3, 1)
    assert seen.connections == {"8080/tcp": 7, "10.1.0.2": 1}
    assert seen.bytes == {"8080/tcp": Bytes(1420, 20_000), "10.1.0.2": Bytes(61, 2)}
    assert seen.failures == ["it is so"]
    assert kernel_net([], Changes(), []) == KernelNet()


def test_no_more_is_named_than_may_be() -> None:
    many = tuple(Neighbour("skb1", f"10.0.{n // 256}.{n % 256}", "m") for n in range(NAMED_MAX + 50))
    counters: list[Object] = [ChainCounter(f"tcp-{n}", n) for n in range(COUNTED_MAX + 3)]
    counters += [Traffic("tcp", f"{n}", 1 << 40, 1 << 40) for n in range(COUNTED_MAX + 3)]
    seen = kernel_net(counters, Changes(many, many[:1]), [])
    assert seen.bytes.keys() == seen.connections.keys()
    assert len(seen.surplus) == NAMED_MAX
    assert seen.surplus_count == NAMED_MAX + 49
    assert len(seen.connections) == COUNTED_MAX
    assert "2/tcp" not in seen.connections, "the least used are left out"
    check(MeshSeen(1, seen))


def test_every_kind_has_a_name() -> None:
    assert set(KINDS) == set(get_args(Object))
    assert named(Port("veth1", "skb1")) == "container's port veth1 on skb1"
    assert named(Gateway("skb1", "10.0.0.2/24")) == "bridge's address 10.0.0.2/24 on skb1"
    assert named(Sysctl("ipv4/x", "1")) == "sysctl ipv4/x = 1"
    assert named(ReturnRoute(3, "192.0.2.2", "skb1")) == "way back to 192.0.2.2 by skb1"
    assert named(Traffic("tcp", "8080")) == "counter of bytes 8080/tcp"
    assert named(Tunnel("skv1", "skb1", 1, "192.0.2.1", 4789, 1450)) == "tunnel skv1"


@pytest.mark.parametrize(
    "wrong",
    [
        KernelNet(missing=["x"] * (2 * NAMED_MAX + 1)),
        KernelNet(missing=["a\x1b[2J"]),
        KernelNet(surplus=["x" * 201]),
        KernelNet(objects={"bridges": -1}),
        KernelNet(connections={"8080/tcp": 1 << 63}),
        KernelNet(connections={f"{n}/tcp": 1 for n in range(COUNTED_MAX + 1)}),
        KernelNet(bytes={"8080/tcp": Bytes(-1, 0)}),
        KernelNet(bytes={"8080/tcp": Bytes(0, 1 << 63)}),
        KernelNet(bytes={"x" * 16: Bytes()}),
        KernelNet(bytes={"a\nb": Bytes()}),
        KernelNet(bytes={f"{n}/tcp": Bytes() for n in range(COUNTED_MAX + 1)}),
        KernelNet(objects={f"kind {n}": 1 for n in range(65)}),
        KernelNet(failures=["a\nb"]),
        KernelNet(missing_count=-1),
    ],
)
def test_what_cannot_be_is_refused(wrong: KernelNet) -> None:
    with pytest.raises(Invalid):
        check(MeshSeen(1, wrong))


class Nodes:
    """Fulfils `NodeSessions`: knows who is here, and who is of an earlier skep."""

    def __init__(self) -> None:
        self.here, self.known = {"a", "b"}, {"a"}
        self.told: list[tuple[str, int]] = []

    def has(self, node_id: str) -> bool:
        return node_id in self.here

    def understands(self, node_id: str, feature: str) -> bool:
        return feature == LOOK and node_id in self.known

    def send(self, node_id: str, message: FromManager) -> None:
        assert isinstance(message, MeshLook)
        self.told.append((node_id, message.number))


async def test_a_node_is_asked_once_for_all_who_ask_meanwhile() -> None:
    nodes = Nodes()
    asking = Looks(nodes)
    first, second = (asyncio.ensure_future(asking.ask("a")) for _ in range(2))
    await asyncio.sleep(0)
    ((_, number),) = nodes.told
    first.cancel()
    await asyncio.sleep(0)
    asking.seen("b", MeshSeen(number, KernelNet(failures=["of another"])))
    asking.seen("a", MeshSeen(number + 7, KernelNet(failures=["of no question"])))
    seen = KernelNet(objects={"bridges": 2})
    asking.seen("a", MeshSeen(number, seen))
    asking.seen("a", MeshSeen(number, KernelNet()))
    assert await second == seen
    third = asyncio.ensure_future(asking.ask("a"))
    await asyncio.sleep(0)
    assert len(nodes.told) == 2
    third.cancel()


async def test_it_is_said_why_a_node_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "ANSWER_S", 0.01)
    nodes = Nodes()
    asking = Looks(nodes)
    for node_id, why in {"c": "no connection", "b": "too old to say", "a": "did not answer within"}.items():
        with pytest.raises(Unavailable, match=why):
            await asking.ask(node_id)
    with pytest.raises(Unavailable, match="did not answer"):
        await asking.ask("a")  # what was asked in vain does not count
    assert len(nodes.told) == 2
    monkeypatch.setattr(looks, "ANSWER_S", 5.0)
    nodes.here = nodes.known = {f"n{n}" for n in range(LOOKS_MAX + 1)}
    under_way = [asyncio.ensure_future(asking.ask(f"n{n}")) for n in range(LOOKS_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="are being asked already"):
        await asking.ask(f"n{LOOKS_MAX}")
    for each in under_way:
        each.cancel()


async def test_who_goes_away_leaves_no_question_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "ANSWER_S", 0.05)
    nodes = Nodes()
    nodes.here = nodes.known = {f"n{n}" for n in range(2 * LOOKS_MAX)}
    asking = Looks(nodes)
    for n in range(LOOKS_MAX):
        gone = asyncio.ensure_future(asking.ask(f"n{n}"))
        await asyncio.sleep(0)
        gone.cancel()
    await asyncio.sleep(0.1)
    monkeypatch.setattr(looks, "ANSWER_S", 5.0)
    after = asyncio.ensure_future(asking.ask("n0"))
    await asyncio.sleep(0)
    asking.seen("n0", MeshSeen(nodes.told[-1][1], KernelNet(objects={"bridges": 1})))
    assert (await after).objects == {"bridges": 1}


async def test_a_session_that_ends_ends_its_question() -> None:
    """The node has another one soon, which has not heard it."""
    nodes = Nodes()
    asking = Looks(nodes)
    before = asyncio.ensure_future(asking.ask("a"))
    await asyncio.sleep(0)
    asking.ended("a")
    asking.ended("b")
    with pytest.raises(Unavailable, match="did not answer"):
        await before
    after = asyncio.ensure_future(asking.ask("a"))
    await asyncio.sleep(0)
    asking.seen("a", MeshSeen(nodes.told[0][1], KernelNet(failures=["of before"])))
    asking.seen("a", MeshSeen(nodes.told[1][1], KernelNet()))
    assert await after == KernelNet()


async def test_a_node_looks_once_at_a_time_and_says_what_fails() -> None:
    async def connect(address: str, handler: Any) -> Any:
        raise Unavailable("there is none")

    session = Session(connect=connect, managers=["m:1"], rng=random.Random(1))
    said: list[MeshSeen] = []
    session.send = said.append  # type: ignore[method-assign,assignment]
    answers: asyncio.Queue[KernelNet | Exception] = asyncio.Queue()
    under_way = 0

    async def look() -> KernelNet:
        nonlocal under_way
        under_way += 1
        assert under_way == 1
        found = await answers.get()
        under_way -= 1
        if isinstance(found, Exception):
            raise found
        return found

    looking = Looking(session, look)
    session.received(messages.encode(Registered(5.0, [], features=[LOOK])))
    for number in (1, 2, 3):
        session.received(messages.encode(MeshLook(number)))
        await asyncio.sleep(0)
    long = KernelNet(missing=["bridge a\x1bb"], surplus=[f"chain {'x' * 300}"], connections={"é" * 300: 1})
    answers.put_nowait(long)
    answers.put_nowait(Unavailable("nothing can be looked at"))
    await asyncio.sleep(0.01)
    assert said == [
        MeshSeen(
            1,
            KernelNet(missing=["bridge a b"], surplus=[f"chain {'x' * 194}"], connections={"é" * 100: 1}),
        ),
        MeshSeen(3, KernelNet(failures=["nothing can be looked at"])),
    ]
    for each in said:
        check(each)
    session.received(messages.encode(Registered(5.0, [], features=[])))
    session.received(messages.encode(MeshLook(4)))
    answers.put_nowait(KernelNet())
    await asyncio.sleep(0.01)
    assert len(said) == 2, "the leader is one of an earlier skep now"
    await looking.close()


def test_what_a_leader_of_an_earlier_skep_says_is_shown() -> None:
    network = {"Name": "n", "Subnet": "s", "Bridge": "b", "Tunnel": "t", "Here": {}}
    said = {"Node": "w", "State": "ready", "TunnelsEndAt": "", "Networks": [network], "Ports": [], "Says": []}
    assert list(_inspected(said))[-1] == (
        "  what its kernel has is not known: the leader's skep is too old to ask"
    )


def test_bytes_are_shown_with_their_unit() -> None:
    shown = {0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_960: "1.0 MB", 5_300_000_000: "5.3 GB"}
    assert {octets: _size(octets) for octets in shown} == shown
    assert _size((1 << 63) - 1) == "9223.4 PB"


def test_what_is_shown() -> None:
    kernel = {
        "Objects": {"bridges": 1, "chains": 9},
        "Missing": ["tunnel skv1"],
        "MissingCount": 3,
        "Surplus": [],
        "SurplusCount": 0,
        "Connections": {"8080/tcp": 1, "10.1.0.2": 7},
        "Failures": ["it is so"],
        "Bytes": {"8080/tcp": {"Received": 999, "Sent": 1_250_000}},
    }
    network = {"Name": "n", "Subnet": "10.1.0.0/24", "Bridge": "b", "Tunnel": "t", "Here": {}}
    network["Services"] = {"web": "10.1.0.2", "unused": "10.1.0.3"}
    port = {"Port": "8080/tcp", "Service": "web", "Target": 80, "Running": 2}
    said = {
        "Node": "w",
        "State": "ready",
        "TunnelsEndAt": "192.0.2.1",
        "Networks": [network],
        "Ports": [port],
    }
    assert list(_inspected({**said, "Says": [], "Kernel": kernel, "Unknown": ""}))[2:] == [
        "    10.1.0.2           service web; 7 connections from here",
        "  port 8080/tcp: service web, its port 80; 2 tasks run; 1 connection from here, 999 B received,"
        " 1.2 MB sent",
        "  its kernel has: bridges 1, chains 9",
        "  missing there: tunnel skv1",
        "  missing there: 2 more",
        "  it finds: it is so",
    ]
