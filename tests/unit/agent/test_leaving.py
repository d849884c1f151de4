"""When a task that serves others is told to end."""

from __future__ import annotations

import asyncio

import pytest

from skep.agent import leaving
from skep.agent.leaving import LEAVE_MAX_S, LEAVE_S, LOOK_S, QUIET_S, WATCHED_MAX, Leaving, may_end
from skep.sim.loop import START_S, VirtualLoop


def _now() -> float:
    return asyncio.get_running_loop().time() - START_S


class Watched:
    """Connections that begin until a time. Fulfils `Arrivals`."""

    def __init__(self, until_s: float) -> None:
        self._until_s = until_s
        self.is_open = True

    def came(self) -> bool:
        return _now() < self._until_s

    def close(self) -> None:
        self.is_open = False


def _left_s(until_s: float, led_until_s: float = 0.0) -> float:
    """Returns when a task was left to which connections begin until then, and its own node leads until then."""
    loop = VirtualLoop()
    watched = Watched(until_s)

    async def leave() -> float:
        await Leaving(lambda addresses: watched).left(["10.0.0.7"], lambda: _now() < led_until_s)
        return _now()

    try:
        return loop.run_until_complete(leave())
    finally:
        assert not watched.is_open
        loop.close()


def test_after_a_second_where_no_connection_begins() -> None:
    assert LEAVE_S <= _left_s(0.0) < LEAVE_S + 2 * LOOK_S


@pytest.mark.parametrize("until_s", [0.5, 1.5, 2.5])
def test_a_while_after_the_last_connection(until_s: float) -> None:
    assert until_s + QUIET_S - LOOK_S <= _left_s(until_s) < until_s + QUIET_S + 2 * LOOK_S


def test_when_its_own_node_has_let_it_go() -> None:
    assert 4.0 <= _left_s(0.0, led_until_s=4.0) < 4.0 + 2 * LOOK_S


@pytest.mark.parametrize(("until_s", "led_until_s"), [(1e9, 0.0), (0.0, 1e9)])
def test_not_later_than_may_be(until_s: float, led_until_s: float) -> None:
    assert LEAVE_MAX_S <= _left_s(until_s, led_until_s) < LEAVE_MAX_S + 2 * LOOK_S


def test_the_one_rule() -> None:
    assert not may_end(LEAVE_S - 0.1, None, is_led=False)
    assert not may_end(LEAVE_MAX_S - 0.1, QUIET_S - 0.1, is_led=False)
    assert not may_end(LEAVE_MAX_S - 0.1, None, is_led=True)
    assert may_end(LEAVE_MAX_S, 0.0, is_led=True)


def test_how_many_are_looked_at_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = VirtualLoop()
    watched: list[Watched] = []

    def watch(addresses: list[str]) -> Watched:
        watched.append(Watched(0.0))
        return watched[-1]

    async def leave(count: int) -> None:
        all_at_once = Leaving(watch)
        for _ in range(2):
            await asyncio.gather(*(all_at_once.left(["10.0.0.7"], lambda: False) for _ in range(count)))

    try:
        loop.run_until_complete(leave(WATCHED_MAX + 5))
        assert len(watched) == 2 * WATCHED_MAX, (
            "the others go after a second, and the next ones are looked at"
        )
        assert not any(each.is_open for each in watched)
        assert loop.time() - START_S < 2 * (LEAVE_S + 2 * LOOK_S)
    finally:
        loop.close()


def test_who_looks_no_more_leaves_nothing_open() -> None:
    loop = VirtualLoop()
    watched = Watched(1e9)

    async def leave() -> None:
        waiting = asyncio.ensure_future(Leaving(lambda addresses: watched).left(["10.0.0.7"], lambda: True))
        await asyncio.sleep(leaving.LEAVE_S)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    loop.run_until_complete(leave())
    loop.close()
    assert not watched.is_open
