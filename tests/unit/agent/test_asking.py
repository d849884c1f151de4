"""What a node asks of large networks: not too much at a time, not twice, and no longer than it may take."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from skep.agent import asking
from skep.agent.asking import ADDRESS, ITEMS_MAX, MISSED_MAX, NAME, SERVICE, UNKNOWN_MAX, Asking, Item
from skep.agent.session import Session
from skep.model.overlay import Overlay, OverlayEndpoint, OverlayNetwork, OverlayService
from skep.network.misses import Misses
from skep.rpc.messages import RESOLVE, OverlayAnswered, OverlayAsk
from skep.runtime.errors import Unavailable

NET = OverlayNetwork("net", "10.1.0.0/16", 4098, 4789, "back", is_large=True)
OWN = OverlayEndpoint("10.1.0.1", "n1", "own.1.a")
WEB = OverlayService("w", "web", vip="10.1.9.9", endpoints=(OverlayEndpoint("10.1.0.2", "n2"),))
OVERLAYS = {"net": Overlay(NET, {}, {"w": WEB}, {OWN.address: OWN})}


class Manager:
    """Fulfils what `Asking` needs of a session. It knows `known`, and answers unless it is `silent`."""

    def __init__(self) -> None:
        self.asked: list[OverlayAsk] = []
        self.known: set[str] = set()
        self.is_silent = False
        self.is_lost = False
        self.knows = True
        self.features: list[str] = []
        self.under_way = self.most_under_way = 0

    def on(self, kind: type, take: Any, feature: str = "") -> None:
        self.features.append(feature)

    def manager_knows(self, feature: str) -> bool:
        return feature == RESOLVE and self.knows

    async def ask(self, asked: OverlayAsk, answer: type) -> OverlayAnswered:
        self.asked.append(asked)
        if self.is_lost:
            raise Unavailable("the line was lost")
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(3600 if self.is_silent else 0.01)
        finally:
            self.under_way -= 1
        parts = (asked.names, asked.addresses, asked.services)
        return OverlayAnswered(asked.number, *([t for t in part if t not in self.known] for part in parts))

    def items(self) -> list[str]:
        return [t for each in self.asked for t in (*each.names, *each.addresses, *each.services)]


class Node:
    def __init__(self, overlays: dict[str, Overlay] = OVERLAYS) -> None:
        self.manager = Manager()
        self.answers: list[tuple[str, OverlayAnswered]] = []
        self.asking = Asking(cast("Session", self.manager), lambda *said: self.answers.append(said))
        self.asking.told(overlays)

    async def ask(self, *items: Item) -> bool:
        return await self.asking.ask("net", items)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ASK_S", 0.2)
    monkeypatch.setattr(asking, "UNKNOWN_S", 0.3)


async def test_what_is_found_is_said_and_what_nobody_has_is_not_asked_for_again_for_a_moment() -> None:
    node = Node()
    assert node.manager.features == [RESOLVE]
    node.manager.known = {"db"}
    assert await node.ask((NAME, "x"), (NAME, "db"))
    assert not await node.ask((NAME, "x"))
    assert await node.ask((NAME, "db"))
    assert [each.names for each in node.manager.asked] == [["x", "db"], ["db"]]
    assert [(i, said.unknown_names) for i, said in node.answers] == [("net", ["x"]), ("net", [])]
    await asyncio.sleep(0.35)
    node.manager.known = {"x"}
    assert await node.ask((NAME, "x"))
    await node.asking.close()


async def test_one_question_is_under_way_and_what_comes_meanwhile_goes_with_the_next() -> None:
    node = Node()
    names = [f"n{n}" for n in range(ITEMS_MAX + 10)]
    node.manager.known = set(names)
    first = asyncio.ensure_future(node.ask((NAME, "n0")))
    await asyncio.sleep(0)
    others = [asyncio.ensure_future(node.ask((NAME, each))) for each in names]
    assert all(await asyncio.gather(first, *others))
    assert [len(each.names) for each in node.manager.asked] == [1, ITEMS_MAX, 9]
    assert node.manager.most_under_way == 1
    assert [each.number for each in node.manager.asked] == [1, 2, 3]
    await node.asking.close()


async def test_questions_of_all_networks_keep_one_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PACE_S", 0.1)
    other = OverlayNetwork("other", "10.2.0.0/16", 4099, 4789, is_large=True)
    node = Node({**OVERLAYS, "other": Overlay(other)})
    began = asyncio.get_running_loop().time()
    await asyncio.gather(*(node.asking.ask(i, [(NAME, "a")]) for i in ("net", "other")))
    await node.ask((NAME, "b"))
    assert asyncio.get_running_loop().time() - began >= 0.2
    await node.asking.close()


async def test_who_is_not_answered_goes_on_and_takes_nothing_from_others() -> None:
    node = Node()
    node.manager.is_silent = True
    gone = asyncio.ensure_future(node.ask((NAME, "db")))
    stays = asyncio.ensure_future(node.ask((NAME, "db")))
    await asyncio.sleep(0.05)
    gone.cancel()
    async with asyncio.timeout(1):
        assert not await stays
    stays = asyncio.ensure_future(node.ask((NAME, "first")))
    await asyncio.sleep(0.15)
    async with asyncio.timeout(0.22):  # also who waits for the next question
        assert not await node.ask((NAME, "second"))
    await stays
    await asyncio.sleep(0.3)
    node.manager.is_silent, node.manager.is_lost = False, True
    assert not await node.ask((NAME, "y"))
    assert node.manager.items() == ["db", "first", "second", "y"]
    await node.asking.close()


async def test_without_a_manager_that_answers_such_questions_nobody_is_asked() -> None:
    node = Node()
    node.manager.knows = False
    assert not await node.ask((NAME, "db"))
    node.asking.missed("skv4098", "10.1.0.7")
    assert not await node.asking.ask("another", [(NAME, "db")])
    await asyncio.sleep(0.05)
    assert node.manager.asked == []
    await node.asking.close()


async def test_what_is_kept_is_asked_for_until_it_is_answered() -> None:
    node = Node()
    node.manager.is_lost = True
    node.asking.ask_again("net", [(SERVICE, "w"), (ADDRESS, "10.1.0.5")])
    await asyncio.sleep(0.1)
    node.manager.is_lost = False
    await asyncio.sleep(0.4)
    assert [(each.services, each.addresses) for each in node.manager.asked] == [(["w"], ["10.1.0.5"])] * 2
    assert [said.unknown_services for _, said in node.answers] == [["w"]]
    await node.asking.close()


async def test_an_address_is_asked_for_once_unless_it_is_known_or_no_address_of_the_network() -> None:
    node = Node()
    for address in (OWN.address, "10.1.0.2", "10.1.9.9", "10.2.0.1", "10.1.0.7", "10.1.0.7", "8.8.8.8"):
        node.asking.missed("skv4098", address)
    node.asking.missed("skv4099", "10.1.0.8")
    await asyncio.sleep(0.1)
    node.asking.missed("skv4098", "10.1.0.7")
    await asyncio.sleep(0.05)
    assert node.manager.items() == ["10.1.0.7"]
    node.asking.told({"net": Overlay(NET)})  # it is known no more
    node.asking.missed("skv4098", "10.1.0.2")
    await asyncio.sleep(0.05)
    assert node.manager.items() == ["10.1.0.7", "10.1.0.2"]
    await node.asking.close()


async def test_who_misses_all_addresses_keeps_no_name_waiting() -> None:
    node = Node()
    node.manager.known = {"db"}
    for n in range(3000):
        node.asking.missed("skv4098", f"10.1.{100 + n // 250}.{n % 250}")
    assert await node.ask((NAME, "db"))
    assert len(node.manager.asked) <= 2
    await asyncio.sleep(0.5)
    assert len(node.manager.items()) == MISSED_MAX + 1
    assert max(len(each.addresses) for each in node.manager.asked) == ITEMS_MAX
    await node.asking.close()


async def test_what_is_remembered_of_what_nobody_has_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PACE_S", 0.0)
    monkeypatch.setattr(asking, "UNKNOWN_S", 3600.0)
    node = Node()
    await node.ask(*((NAME, f"n{n}") for n in range(UNKNOWN_MAX + 500)))
    async with asyncio.timeout(5):
        while f"n{UNKNOWN_MAX + 499}" not in node.manager.items() or node.manager.under_way:
            await asyncio.sleep(0.05)
    assert len(node.asking._unknown) == UNKNOWN_MAX
    node.manager.asked.clear()
    assert not await node.ask((NAME, f"n{UNKNOWN_MAX + 499}"))
    assert node.manager.asked == []
    await node.asking.close()


async def test_a_network_that_is_not_large_any_more_is_asked_nothing() -> None:
    node = Node()
    node.manager.is_silent = True
    waits = asyncio.ensure_future(node.ask((NAME, "db")))
    await asyncio.sleep(0.05)
    node.asking.told({})
    assert not await waits
    node.asking.ask_again("net", [(SERVICE, "w")])
    await asyncio.sleep(0.3)
    assert node.manager.items() == ["db"]
    await node.asking.close()


async def test_it_listens_to_the_kernel_on_large_networks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node({})
    said: list[str] = []
    monkeypatch.setattr(Misses, "begin", lambda self: said.append("begin"))
    monkeypatch.setattr(Misses, "end", lambda self: said.append("end"))
    small = {"small": Overlay(OverlayNetwork("small", "10.3.0.0/24", 4100, 4789))}
    for told in (small, OVERLAYS, small):
        node.asking.told(told)
    assert said == ["begin", "end"]

    def fails(self: Misses) -> None:
        raise OSError("no socket")

    monkeypatch.setattr(Misses, "begin", fails)
    node.asking.told(OVERLAYS)
    assert "no socket" in node.asking.failures[0]
    await node.asking.close()
