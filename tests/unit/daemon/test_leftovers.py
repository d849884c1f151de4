"""Nodes that have left something are looked after until nothing of them is there, across restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from skep.daemon import leftovers
from skep.daemon.leftovers import FORMER_MAX, Leftovers
from skep.daemon.state import FORMER, StateDir
from skep.model.mesh import Mesh
from skep.network.applied import Applied

A, B = "a" * 25, "b" * 25


class Executor:
    """Has something of some nodes; notes who was cleared, and whether all that is unused went."""

    def __init__(self, stubborn: set[str]) -> None:
        self.stubborn = stubborn
        self.fails = False
        self.cleared: list[tuple[str, bool]] = []

    async def clear(self, node_id: str, sweeps: bool) -> list[str]:
        self.cleared.append((node_id, sweeps))
        if self.fails:
            raise RuntimeError("nobody thought of it")
        return ["container x: busy"] if node_id in self.stubborn else []

    async def close(self) -> None:
        pass


class Plane:
    """Has the mesh of this host."""

    def __init__(self) -> None:
        self.cleared = 0

    def apply(self, mesh: Mesh, look: bool = True, gone: Collection[str] = ()) -> Applied:
        return Applied()

    def forget(self) -> None: ...

    def clear(self) -> tuple[str, ...]:
        self.cleared += 1
        return ("bridge x",)

    def close(self) -> None:
        pass

    def why_not_encrypted(self) -> str:
        return "no IPsec"

    def may_have_ipvs(self) -> bool:
        return False


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Leftovers]:
    monkeypatch.setattr(leftovers, "AGAIN_S", 0.01)

    def made(executor: Executor, is_in_swarm: bool = False, plane: Plane | None = None) -> Leftovers:
        state = StateDir(tmp_path)
        makers = SimpleNamespace(make_executor=lambda: executor, make_plane=lambda node_id: plane)
        found = Leftovers(state, makers, lambda: is_in_swarm)
        state.close()
        return found

    return made


async def test_what_is_left_is_looked_after_until_it_is_gone(
    make: Callable[..., Leftovers], tmp_path: Path
) -> None:
    executor = Executor({B})
    before = make(executor)
    for node in (A, B, A):
        before.remember(node)
    after = make(executor, is_in_swarm=True)  # another process
    after.begin()
    await asyncio.sleep(0.05)
    assert [node for node, _ in executor.cleared].count(A) == 1
    assert not any(sweeps for _, sweeps in executor.cleared), "another node works here now"
    assert (tmp_path / FORMER).read_bytes() == f'["{B}"]'.encode()
    executor.stubborn.clear()
    await asyncio.sleep(0.05)
    assert not (tmp_path / FORMER).exists()
    await after.close()


async def test_the_next_swarm_waits_for_one_look_and_no_longer(
    make: Callable[..., Leftovers], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "AGAIN_S", 60.0)
    executor = Executor({"a"})
    made = make(executor)
    await made.clear_first()
    assert executor.cleared == [], "nothing is left"
    made.remember("a")
    made.begin()
    await asyncio.sleep(0)
    for _ in range(2):
        async with asyncio.timeout(1):
            await made.clear_first()
    assert len(executor.cleared) >= 2
    await made.close()


async def test_so_many_are_remembered(make: Callable[..., Leftovers]) -> None:
    executor = Executor(set())
    made = make(executor)
    for n in range(FORMER_MAX + 5):
        made.remember(str(n))
    await made.clear_first()
    await made.close()
    assert [node for node, _ in executor.cleared] == [str(n) for n in range(5, FORMER_MAX + 5)]


@pytest.mark.parametrize("text", [b"{", b"[1]", b'"a"', b"\xff"])
async def test_a_file_that_cannot_be_read_stops_nobody(
    make: Callable[..., Leftovers], tmp_path: Path, text: bytes
) -> None:
    (tmp_path / FORMER).write_bytes(text)
    make(Executor(set())).remember("a")
    assert (tmp_path / FORMER).read_bytes() == b'["a"]'


async def test_what_is_no_id_is_no_former_node(make: Callable[..., Leftovers], tmp_path: Path) -> None:
    (tmp_path / FORMER).write_bytes(msgspec.json.encode(["/etc", "../x", "", A.upper(), A + "a", A]))
    make(Executor(set())).remember(B)
    assert msgspec.json.decode((tmp_path / FORMER).read_bytes()) == [A, B]


async def test_who_was_not_cleared_at_once_is_looked_after_for_a_while(
    make: Callable[..., Leftovers], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The engine may have been making something: it comes when nothing is there any more."""
    monkeypatch.setattr(leftovers, "KEPT_S", 0.2)
    made = make(executor := Executor(set()))
    made.remember(A)
    made.begin()
    await asyncio.sleep(0.1)
    assert len(executor.cleared) > 1
    assert (tmp_path / FORMER).exists()
    await asyncio.sleep(0.2)
    assert not (tmp_path / FORMER).exists()
    await made.close()


async def test_whatever_fails_it_is_tried_again(make: Callable[..., Leftovers], tmp_path: Path) -> None:
    (tmp_path / FORMER).write_bytes(msgspec.json.encode([A]))
    made = make(executor := Executor(set()))
    executor.fails = True
    assert await made.clear(A) == [f"what node {A} has here: nobody thought of it"]
    made.begin()
    await asyncio.sleep(0.03)
    executor.fails = False
    await asyncio.sleep(0.03)
    assert not (tmp_path / FORMER).exists()
    await made.close()


async def test_a_node_that_was_removed_is_cleared_by_its_agent_until_it_stops(
    make: Callable[..., Leftovers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(executor := Executor({B}))
    made.remember(B)
    made.begin()
    await asyncio.sleep(0.02)
    monkeypatch.setattr(leftovers, "AGAIN_S", 60.0)  # others wait: the one that was removed does not
    await asyncio.sleep(0.02)
    calls = 0

    async def clear() -> list[str]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("nobody thought of it")
        return ["container y: busy"]

    made.take_over(A, clear)
    await asyncio.sleep(0.02)
    assert calls == 1
    made.take_over(A, clear)  # told again
    await asyncio.sleep(0.02)
    assert calls == 2
    assert A not in [node for node, _ in executor.cleared]
    await made.hand_back(A)
    await asyncio.sleep(0.02)
    assert calls == 2
    assert msgspec.json.decode((tmp_path / FORMER).read_bytes()) == [B], "a member again is not cleared"
    assert executor.cleared[-1][0] == B, "others are looked after still"
    await made.close()


@pytest.mark.parametrize("fails", [False, True])
async def test_a_node_that_leaves_without_its_agent_has_its_mesh_taken_away(
    make: Callable[..., Leftovers], fails: bool
) -> None:
    """Locked, expired, or never up: its ports would lead to tasks that are gone, for ever."""
    executor, plane = Executor(set()), Plane()
    executor.fails = fails
    left = await make(executor, plane=plane).clear(A)
    assert plane.cleared == 1
    assert left == ["bridge x"] or fails
    await make(executor, is_in_swarm=True, plane=plane).clear(A)
    assert plane.cleared == 1, "it is another node's now"
