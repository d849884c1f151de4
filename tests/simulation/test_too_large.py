"""A store that takes no more than so much at once: what is too much keeps nothing else from being written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from msgspec.structs import replace
from structlog.testing import capture_logs

from skep.manager.commits import Committer
from skep.manager.dispatcher.reports import bounded
from skep.manager.node_writer import NodeWriter
from skep.model.bounds import STATUS_ERROR_MAX_BYTES, TXN_CUT_BYTES
from skep.model.change import PutTask
from skep.model.node import Node, NodeDescription, NodeSpec
from skep.model.states import FAILED
from skep.model.task import Task, TaskStatus
from skep.runtime.errors import TooLarge
from skep.sim.loop import VirtualLoop
from skep.store import codec
from skep.store.election import Campaign
from skep.store.interfaces import Fence, Put, Txn
from skep.store.memory import MemoryState, MemoryStore
from skep.store.sizes import txn_bytes
from skep.store.view import View
from tests.terms import term_of

MAX_BYTES = 10_000


class SmallStore(MemoryStore):
    async def commit(self, txn: Txn) -> int:
        if sum(len(op.value) for op in txn.ops if isinstance(op, Put)) > MAX_BYTES:
            raise TooLarge("request is too large")
        return await super().commit(txn)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(asyncio.wait_for(scenario(), 60))  # type: ignore[arg-type]


def task(name: str, node_id: str, error: str = "") -> PutTask:
    ended = TaskStatus(FAILED, 1.0, "started", error)
    made = Task(
        id=name,
        service_id="s",
        slot=1,
        node_id=node_id,
        spec_version=1,
        desired_state=640,
        created_at=0,
        updated_at=0,
        result=ended,
    )
    return PutTask(made)


def test_tasks_that_are_too_many_for_one_value_keep_no_others_from_being_written() -> None:
    """All decisions waited for one write that was tried again for ever."""

    async def scenario() -> None:
        state, view = MemoryState(), View()
        committer = Committer(
            term_of(SmallStore(state), await fence_of(state), view),
        )
        changes = [
            task("a", "n1"),
            task("b", "n2", "E" * 20_000),
            task("c", "n3"),
            task("d", "n4", "E" * 9_500),
        ]
        await committer.commit(changes)
        assert sorted(view.tasks) == ["a", "c", "d"]
        assert codec.bucket_key("n2", "s") not in {p.key for p in (await MemoryStore(state).load("/"))[0]}
        await committer.commit([task("b", "n2")])
        assert "b" in view.tasks

    with capture_logs() as said:
        run(scenario)
    assert [line["node_id"] for line in said if line["event"] == "store.too_large"] == ["n2"]


def test_nodes_that_say_too_much_keep_no_others_from_being_written() -> None:
    async def scenario() -> None:
        state, view = MemoryState(), View()
        writer = NodeWriter(term_of(SmallStore(state), await fence_of(state), view))
        running = asyncio.ensure_future(writer.run())
        for n in range(20):
            await writer.add(new_node(f"n{n}"))
        for n in range(20):
            length = 20_000 if n in (0, 7) else 1000
            writer.describe(f"n{n}", NodeDescription(hostname="h" * length), "")
        await asyncio.sleep(5)
        lengths = {int(name[1:]): len(node.description.hostname) for name, node in view.nodes.items()}
        assert lengths == {n: 0 if n in (0, 7) else 1000 for n in range(20)}
        writer.describe("n7", NodeDescription(hostname="short"), "")
        await asyncio.sleep(1)
        assert view.nodes["n7"].description.hostname == "short"
        running.cancel()

    run(scenario)


class Measured(MemoryStore):
    """Notes how much each transaction is."""

    sizes: list[int]

    async def commit(self, txn: Txn) -> int:
        self.sizes.append(txn_bytes(txn))
        return await super().commit(txn)


def test_tasks_are_written_in_transactions_of_so_many_bytes() -> None:
    """They were cut by the number of tasks: some with long errors were more than etcd can read again."""

    async def scenario() -> None:
        state, view = MemoryState(), View()
        store = Measured(state)
        store.sizes = []
        committer = Committer(term_of(store, await fence_of(state), view))
        await committer.commit([task(f"t{n}", f"n{n % 100}", "E" * 8000) for n in range(600)])
        assert len(view.tasks) == 600
        assert len(store.sizes) == 5
        assert max(store.sizes) <= TXN_CUT_BYTES

    run(scenario)


def test_nodes_that_come_together_and_say_much_are_all_taken_in() -> None:
    """Those of one transaction were refused together."""

    async def scenario() -> None:
        state, view = MemoryState(), View()
        store = Measured(state)
        store.sizes = []
        writer = NodeWriter(term_of(store, await fence_of(state), view))
        running = asyncio.ensure_future(writer.run())
        large = NodeDescription(hostname="h" * 30_000)
        await asyncio.gather(*(writer.add(replace(new_node(f"n{n}"), description=large)) for n in range(128)))
        for n in range(128):
            writer.describe(f"n{n}", NodeDescription(hostname="i" * 30_000), "")
        await asyncio.sleep(5)
        assert {node.description.hostname[0] for node in view.nodes.values()} == {"i"}
        assert len(view.nodes) == 128
        assert max(store.sizes) < 1.05 * TXN_CUT_BYTES  # compares come beside
        running.cancel()

    run(scenario)


def new_node(node_id: str) -> Node:
    return Node(id=node_id, spec=NodeSpec(), description=NodeDescription(), created_at=0, updated_at=0)


async def fence_of(state: MemoryState) -> Fence:
    return (await Campaign(MemoryStore(state), codec.LEADER_KEY, "b").win()).fence


def test_what_a_node_reports_is_kept_up_to_a_length() -> None:
    usual = TaskStatus(FAILED, 1.0, "started", "exit 1", "c" * 64, 7, 1)
    assert bounded(usual) is usual
    long = replace(usual, error="E" * 9_000_000, message="M" * 9_000_000, container_id="c" * 9_000_000)
    kept = bounded(long)
    assert len(codec.encode_bucket([replace(task("a", "n").task, result=kept)])) < 3 * STATUS_ERROR_MAX_BYTES
    assert kept.error.startswith("EEE")
    assert (kept.state, kept.exit_code) == (FAILED, 1)
