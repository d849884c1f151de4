"""A node's standby connections: when they are opened, what becomes of them, and what a session gets."""

from __future__ import annotations

import asyncio
import random

from skep.agent.standbys import RETRY_MAX_S, RETRY_MIN_S, SIGN_S, Standbys
from skep.rpc.interfaces import Connection, Handler, Identity
from skep.rpc.messages import StandbyWish
from skep.rpc.standby import HERE
from skep.runtime.errors import SkepError, Unavailable, Unsupported

DAY_S = 86400.0
ALL = StandbyWish(each=2.0, within_s=10.0)


class Wire:
    """A connection to a manager, which says what the test has it say."""

    remote_host = local_host = ""

    def __init__(self, address: str, handler: Handler, not_after: float) -> None:
        self.identity: Identity | None = Identity(address, "manager", "c", not_after)
        self.handler = handler
        self.sent: list[bytes] = []
        self.is_open = True

    def send(self, frame: bytes) -> None:
        self.sent.append(frame)

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            asyncio.get_running_loop().call_soon(self.handler.closed, "closed")


class Managers:
    """What opens connections; `refuses` says why a manager has none that wait."""

    def __init__(self, life_s: float = DAY_S) -> None:
        self.life_s = life_s
        self.refuses: dict[str, SkepError] = {}
        self.waiting: list[Wire] = []
        self.opened: list[Wire] = []  # for sessions
        self.tried: list[tuple[float, str]] = []

    async def connect(self, address: str, handler: Handler) -> Connection:
        wire = Wire(address, handler, self.life_s)
        self.opened.append(wire)
        handler.connected(wire)
        return wire

    async def connect_standby(self, address: str, handler: Handler) -> Connection:
        self.tried.append((asyncio.get_running_loop().time(), address))
        await asyncio.sleep(0.01)
        if address in self.refuses:
            raise self.refuses[address]
        wire = Wire(address, handler, self.life_s)
        self.waiting.append(wire)
        handler.connected(wire)
        return wire

    def live(self) -> dict[str, Wire]:
        return {_name(wire): wire for wire in self.waiting if wire.is_open}


class Heard:
    """A session's end."""

    def __init__(self) -> None:
        self.said: list[object] = []

    def connected(self, connection: Connection) -> None:
        self.said.append("connected")
        connection.send(b"register")

    def frame(self, data: bytes) -> None:
        self.said.append(data)

    def closed(self, reason: str) -> None:
        self.said.append("closed")


def _name(wire: Wire) -> str:
    assert wire.identity is not None
    return wire.identity.node_id


def make(managers: Managers, seed: int = 1) -> Standbys:
    return Standbys(managers, asyncio.get_running_loop().time, random.Random(seed))


async def test_they_are_opened_one_at_a_time_and_used_without_a_new_connection() -> None:
    managers = Managers()
    standbys = make(managers)
    standbys.told(ALL, ["a", "b", "c"], "a")
    assert managers.tried == []  # not at once: all nodes are told at the same time
    await asyncio.sleep(21)
    assert set(managers.live()) == {"b", "c"}
    assert standbys.has("b")
    assert not standbys.has("a")

    heard = Heard()
    connection = await standbys.connect("b", heard)
    wire = managers.live()["b"]
    assert connection is wire
    assert wire.sent == [b"register"]
    wire.handler.frame(HERE)
    wire.handler.frame(b"registered")
    wire.handler.closed("gone")
    assert heard.said == ["connected", b"registered", "closed"]  # the sign itself is nothing to a session
    assert managers.opened == []
    assert not standbys.has("b")

    await standbys.connect("b", Heard())  # there is none left
    assert [_name(wire) for wire in managers.opened] == ["b"]
    await standbys.close()
    assert managers.live().keys() == {"b"}  # it is the session's, not ours any more


async def test_many_nodes_open_theirs_over_the_time_they_are_given() -> None:
    managers = Managers()
    all_of_them = [make(managers, seed) for seed in range(200)]
    for each in all_of_them:
        each.told(StandbyWish(2.0, 20.0), ["a", "b", "c"], "a")
    await asyncio.sleep(41)
    assert len(managers.waiting) == 400
    by_second = [0] * 42
    for at, _ in managers.tried:
        by_second[int(at - managers.tried[0][0])] += 1
    assert max(by_second) <= 25  # 10 each on average
    for each in all_of_them:
        await each.close()


async def test_nothing_is_opened_while_a_session_is_looked_for_nor_in_a_crowd() -> None:
    managers = Managers()
    standbys = make(managers)
    standbys.told(StandbyWish(2.0, 10.0, is_crowded=True), ["a", "b", "c"], "a")
    await asyncio.sleep(60)
    assert managers.tried == []
    standbys.told(ALL, ["a", "b", "c"], "a")
    await standbys.connect("a", Heard())  # the session was lost
    await asyncio.sleep(60)
    assert managers.tried == []
    standbys.told(ALL, ["a", "b", "c"], "a")
    await asyncio.sleep(21)
    assert set(managers.live()) == {"b", "c"}
    standbys.told(StandbyWish(2.0, 10.0, is_crowded=True), ["a", "b", "c"], "a")
    assert set(managers.live()) == {"b", "c"}  # what there is stays
    await standbys.close()
    assert not managers.live()


async def test_a_new_certificate_ends_those_of_before() -> None:
    managers = Managers()
    standbys = make(managers)
    standbys.told(ALL, ["a", "b", "c"], "a")
    await asyncio.sleep(21)
    before = managers.live()
    standbys.renew()
    assert not standbys.has("b")
    assert not managers.live()
    await asyncio.sleep(21)
    assert set(managers.live()) == {"b", "c"}
    assert not set(before.values()) & set(managers.live().values())
    await standbys.close()


async def test_one_that_was_being_opened_with_the_certificate_of_before_is_let_go() -> None:
    managers = Managers()
    standbys = make(managers)
    standbys.told(ALL, ["a", "b"], "a")
    while not managers.tried:
        await asyncio.sleep(0.005)
    standbys.renew()
    await asyncio.sleep(0.02)
    assert not managers.live()
    assert not standbys.has("b")
    await standbys.close()


async def test_one_whose_managers_certificate_has_expired_is_not_used() -> None:
    managers = Managers(life_s=100.0)
    standbys = make(managers)
    standbys.told(ALL, ["a", "b"], "a")
    await asyncio.sleep(100)
    assert standbys.has("b")
    await standbys.connect("b", Heard())
    assert not managers.live()
    assert [_name(wire) for wire in managers.opened] == ["b"]
    await standbys.close()


async def test_a_manager_that_says_nothing_is_given_up() -> None:
    managers = Managers()
    standbys = make(managers)
    standbys.told(ALL, ["a", "b"], "a")
    await asyncio.sleep(21)
    heard = Heard()
    await standbys.connect("b", heard)
    await asyncio.sleep(SIGN_S - 0.1)
    assert heard.said == ["connected"]
    await asyncio.sleep(0.2)
    assert heard.said == ["connected", "closed"]
    await standbys.close()


async def test_one_that_ends_is_opened_again_and_ever_later() -> None:
    managers = Managers()
    standbys = make(managers)
    standbys.told(StandbyWish(1.0, 1.0), ["a", "b"], "a")
    await asyncio.sleep(2)
    managers.live()["b"].close()
    await asyncio.sleep(0.1)
    assert not standbys.has("b")
    managers.refuses["b"] = Unavailable("b: connection refused")
    await asyncio.sleep(2000)
    gaps = [
        later - sooner for (sooner, _), (later, _) in zip(managers.tried, managers.tried[1:], strict=False)
    ]
    assert gaps[0] >= RETRY_MIN_S / 2
    assert len(managers.tried) <= 12
    del managers.refuses["b"]
    await asyncio.sleep(1.5 * RETRY_MAX_S + 2)
    assert standbys.has("b")
    await standbys.close()


async def test_an_earlier_manager_is_not_tried_again_for_a_while() -> None:
    managers = Managers()
    managers.refuses["b"] = Unsupported("b is a manager of an earlier skep")
    standbys = make(managers)
    standbys.told(ALL, ["a", "b", "c"], "a")
    await asyncio.sleep(RETRY_MAX_S / 2)
    assert [address for _, address in managers.tried].count("b") == 1
    assert set(managers.live()) == {"c"}
    await standbys.close()


async def test_an_earlier_leader_wants_none() -> None:
    managers = Managers()
    standbys = make(managers)
    standbys.told(ALL, ["a", "b", "c"], "a")
    await asyncio.sleep(21)
    standbys.told(None, ["a", "b", "c"], "a")
    assert not managers.live()
    await asyncio.sleep(60)
    assert not managers.live()
    await standbys.close()


async def test_those_to_managers_that_are_none_any_more_are_closed() -> None:
    managers = Managers()
    standbys = make(managers)
    standbys.told(ALL, ["a", "b", "c"], "a")
    await asyncio.sleep(21)
    standbys.told(ALL, ["a", "c"], "a")
    assert set(managers.live()) == {"c"}
    await standbys.close()


async def test_a_manager_that_speaks_without_being_asked_is_let_go() -> None:
    managers = Managers()
    standbys = make(managers)
    standbys.told(ALL, ["a", "b"], "a")
    await asyncio.sleep(21)
    managers.live()["b"].handler.frame(b"hello")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not standbys.has("b")
    await standbys.close()
