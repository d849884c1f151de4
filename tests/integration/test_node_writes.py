"""How much of etcd one node can fill that says new things as fast as it can."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from skep.model.node import EngineDescription, NodeDescription
from skep.model.task import TaskAddress
from skep.rpc.messages import Attach, Attached, Described, HasAddresses, Manage
from skep.runtime.errors import SkepError
from skep.store.etcd.client import EtcdStore
from skep.store.etcd.supervisor import EtcdProcess
from skep.store.interfaces import KeyValue, Put, Txn

from .node_port import Node, running_port, until
from .test_node_port import network

pytestmark = pytest.mark.timeout(60)

FLOOD_S = 4.0
LABEL_BYTES = 12_000  # with its name: near to what a description may have
# A burst of five descriptions and one more each ten seconds; 182 MB in 25 s were seen.
WRITTEN_MAX_BYTES = 8 * 16_000


class Counting:
    """An etcd that counts what is put into it (fulfils `store.interfaces.Store`)."""

    def __init__(self, store: EtcdStore) -> None:
        self._store = store
        self.written = 0

    async def load(self, prefix: str) -> tuple[list[KeyValue], int]:
        return await self._store.load(prefix)

    async def commit(self, txn: Txn) -> int:
        self.written += sum(len(op.value) for op in txn.ops if isinstance(op, Put))
        return await self._store.commit(txn)

    async def close(self) -> None:
        await self._store.close()


@pytest.fixture
async def counting(tmp_path: Path) -> AsyncIterator[Counting]:
    etcd = EtcdProcess(tmp_path)
    await etcd.start()
    store = EtcdStore(etcd.target)
    try:
        yield Counting(store)
    finally:
        await store.close()
        await etcd.stop()


async def flood(node: Node, say: Callable[[], Awaitable[None]]) -> None:
    """Says it again and again, and comes again whenever the manager ends the session."""
    ends_at = time.monotonic() + FLOOD_S
    while time.monotonic() < ends_at:
        if node.is_closed:
            try:
                await node.connect()
            except SkepError:
                continue
        await say()
        await asyncio.sleep(0)


def a_description() -> NodeDescription:
    label = random.randbytes(LABEL_BYTES // 2).hex()
    return NodeDescription(hostname="w", engine=EngineDescription(labels={"a": label}))


@pytest.mark.parametrize("pause_s", [0.0, 0.06], ids=["as fast as it can", "as often as it may"])
async def test_descriptions(counting: Counting, pause_s: float) -> None:
    async with running_port(counting) as port:
        node = await (await port.enrolled()).register()
        before = counting.written

        async def say() -> None:
            node.say(Described(a_description()))
            await asyncio.sleep(pause_s)

        await flood(node, say)
        assert counting.written - before < WRITTEN_MAX_BYTES
        if pause_s:
            assert counting.written - before > LABEL_BYTES, "some of it is written"
        await port.check_unharmed()


async def test_the_last_word_is_written_when_its_turn_comes(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skep.manager.node_writer.WRITES_BURST", 2)
    monkeypatch.setattr("skep.manager.node_writer.WRITES_PER_S", 0.3)
    async with running_port(counting) as port:
        node, nodes = await (await port.enrolled()).register(), port.api.leader.view.nodes
        first, *others = [a_description() for _ in range(4)]
        node.say(Described(first))
        await until(lambda: nodes[node.id].description == first, "its second word is written")
        for each in others:
            node.say(Described(each))
        await asyncio.sleep(0.2)
        assert nodes[node.id].description == first
        await until(lambda: nodes[node.id].description == others[-1], "its last one is written, once")


async def test_managers_addresses(counting: Counting) -> None:
    """Of a node that is none: nothing is kept."""
    async with running_port(counting) as port:
        node = await (await port.enrolled()).register()
        before = counting.written

        async def say() -> None:
            node.say(Manage(f"10.0.0.1:{random.randrange(1, 65536)}"))

        await flood(node, say)
        assert counting.written - before < WRITTEN_MAX_BYTES
        assert port.api.leader.view.nodes[node.id].manager_addr == ""
        await port.check_unharmed()


@pytest.mark.parametrize("asks", [True, False], ids=["asked for", "said to be in use"])
async def test_addresses_of_single_containers(
    counting: Counting, asks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Had and let go, again and again."""
    monkeypatch.setattr("skep.manager.attachments.WRITES_BURST", 20)  # it may say no more at once
    async with running_port(counting) as port:
        network_id = await network(port, "n", "10.9.0.0/16")
        node = await (await port.enrolled()).register()
        before, had = counting.written, 0

        async def say() -> None:
            nonlocal had
            had += 1
            if asks:
                node.say(Attach(had % 1000, "n"))
            else:
                in_use = [
                    TaskAddress(network_id, f"10.9.{had % 200}.{n}/16", "10.9.0.2/16") for n in range(3, 250)
                ]
                node.say(HasAddresses(in_use))
            node.say(HasAddresses([]))
            await asyncio.sleep(0.11)

        await flood(node, say)
        assert not node.is_closed, "it says no more than it may"
        assert counting.written - before < (20 + 6 * FLOOD_S) * 300
        if asks:
            assert sum(isinstance(each, Attached) for each in node.heard) >= 20, "some are given"
        await port.check_unharmed()
