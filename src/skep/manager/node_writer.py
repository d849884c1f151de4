"""Writes of nodes, many to a transaction: 2,300 nodes that join or come back are some dozen writes."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

import structlog
from msgspec import Struct
from msgspec.structs import replace

from skep.manager.confirmed_commit import check_picture
from skep.manager.rates import Rates
from skep.manager.signals import ManagerMoved, NodeDescribed
from skep.manager.term import Term, put_of
from skep.model.aside import reason_of
from skep.model.node import Node, NodeDescription
from skep.runtime.errors import Conflict, Deposed, Invalid, OutcomeUnknown, SkepError, TooLarge, Unavailable
from skep.store import codec
from skep.store.interfaces import Compare
from skep.store.sizes import cut

log = structlog.get_logger()

BATCH_MAX = 128  # nodes per transaction: about 100 kB; fewer where they say much: `sizes.cut`
RETRY_S = 0.2  # after etcd could not be reached
# Of one node: an engine that is set up is started some times, one that runs is not. What is said in between
# is written when its turn comes; one that says as much as it may writes 3 kB a second.
WRITES_BURST, WRITES_PER_S = 5, 0.1


class _Said(Struct, frozen=True):
    """What a node said that is not written yet. None, or an empty text: nothing of that."""

    description: NodeDescription | None = None
    addr: str = ""
    manager_addr: str = ""
    data_addr: str = ""

    def of(self, node: Node) -> Node:
        """Returns the node as it is by its own word."""
        return replace(
            node,
            description=self.description or node.description,
            addr=node.addr if self.description is None else self.addr,
            manager_addr=self.manager_addr or node.manager_addr,
            data_addr=self.data_addr or node.data_addr,
        )


class NodeWriter:
    """`add` waits until its node is durable; what nodes say is remembered until it can be written."""

    def __init__(
        self,
        term: Term,
    ) -> None:
        self._term = term
        self._view = term.view
        self._new: list[tuple[Node, asyncio.Future[Node]]] = []
        self._said: dict[str, _Said] = {}
        self._tried: list[str] = []  # nodes whose words were to be written last
        self._rates = Rates(WRITES_BURST, WRITES_PER_S)
        self._batch = BATCH_MAX
        self._wake = asyncio.Event()
        self._ended: SkepError | None = None

    def refuse(self, why: SkepError) -> None:
        """No node is taken in: `run` is not to be called."""
        self._ended = why

    async def add(self, node: Node) -> Node:
        """Returns the node as stored. Errors: `Unavailable` when the store cannot be reached, `Deposed` when
        this manager no longer leads; what was given to `refuse`."""
        if self._ended is not None:
            raise self._ended
        future: asyncio.Future[Node] = asyncio.get_running_loop().create_future()
        self._new.append((node, future))
        self._wake.set()
        return await future

    def describe(
        self,
        node_id: str,
        description: NodeDescription,
        addr: str,
        manager_addr: str = "",
        data_addr: str = "",
    ) -> None:
        """What a node says of itself; the latest word is written."""
        known = self._said.get(node_id, _Said())
        manager_addr, data_addr = manager_addr or known.manager_addr, data_addr or known.data_addr
        self._say(node_id, _Said(description, addr, manager_addr, data_addr))

    def manages(self, node_id: str, manager_addr: str) -> None:
        """Where a node's manager will be. What else the node said, perhaps a moment ago, is written too."""
        self._say(node_id, replace(self._said.get(node_id, _Said()), manager_addr=manager_addr))

    def _say(self, node_id: str, said: _Said) -> None:
        if codec.node_key(node_id) in self._view.quarantine:
            return  # what is stored of it stays as it is until somebody has looked at it
        node = self._view.nodes.get(node_id)
        if node_id not in self._said and node is not None and said.of(node) == node:
            return  # most nodes of a new leader are as they are stored
        self._said[node_id] = said
        self._wake.set()

    async def run(self) -> None:
        """Runs until cancelled. Errors: `Denied` when this manager no longer leads."""
        self._ended = None
        try:
            await self._run()
        finally:
            self._ended = Deposed()
            self._refuse(self._new, Deposed())  # who waits asks the next leader

    async def _run(self) -> None:
        while True:
            await self._wait()
            while self._new or self._due():
                try:
                    await self._write_new()
                    await self._write_said()
                    self._batch = BATCH_MAX
                except Exception as error:
                    if isinstance(error, SkepError) and not isinstance(error, TooLarge | Unavailable):
                        raise
                    if not isinstance(error, Unavailable):
                        self._write_less(error)
                        continue
                    log.warning("store.retry", error=str(error), wait_s=RETRY_S)
                    await asyncio.sleep(RETRY_S)

    async def _wait(self) -> None:
        """Returns when there is something to write, or the turn comes of a node that wrote too often."""
        now = asyncio.get_running_loop().time()
        waits = [self._rates.wait_s(node_id, now) for node_id in self._said]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(waits, default=None)):
                await self._wake.wait()
        self._wake.clear()

    def _due(self) -> list[str]:
        """Returns the nodes that said something and may write now."""
        now = asyncio.get_running_loop().time()
        return [node_id for node_id in self._said if self._rates.left(node_id, now) >= 1.0]

    def _write_less(self, error: Exception) -> None:
        """What is too much at once, or fails, is written in parts; what does so alone is not, and kept from
        nobody else."""
        if self._batch > 1:
            self._batch //= 2
            return
        node_id = next(iter(self._tried), "")
        self._said.pop(node_id, None)
        event = "store.too_large" if isinstance(error, TooLarge) else "node.not_written"
        log.error(event, node_id=node_id, error=reason_of(error))

    async def _write_new(self) -> None:
        count = _fitting([node for node, _ in self._new[:BATCH_MAX]])
        batch, self._new = self._new[:count], self._new[count:]
        if batch:
            await self._write_batch(batch)

    async def _write_batch(self, batch: list[tuple[Node, asyncio.Future[Node]]]) -> None:
        try:
            stored = await self._commit([node for node, _ in batch])
        except asyncio.CancelledError:
            self._refuse(batch, OutcomeUnknown("this manager lost the lead: the node may have been added"))
            raise
        except Exception as error:
            if not isinstance(error, SkepError):  # one of them cannot be written: they are asked one by one
                await self._write_apart(batch, error)
                return
            self._refuse(batch, error)
            if not isinstance(error, Conflict | Unavailable | TooLarge):
                raise
            return
        for node, (_, future) in zip(stored, batch, strict=True):
            self._view.put_node(node)
            if not future.done():
                future.set_result(node)

    async def _write_apart(self, batch: list[tuple[Node, asyncio.Future[Node]]], error: Exception) -> None:
        """Refuses the one that cannot be written; the others are written, each alone."""
        if len(batch) == 1:
            log.error("node.not_written", node_id=batch[0][0].id, error=reason_of(error))
            self._refuse(batch, Invalid("what the node says of itself cannot be stored"))
            return
        try:
            for each in batch:
                await self._write_batch([each])
        finally:
            self._refuse(batch, OutcomeUnknown("this manager lost the lead: the node may have been added"))

    def _refuse(self, batch: list[tuple[Node, asyncio.Future[Node]]], error: SkepError) -> None:
        for _, future in batch:
            if not future.done():
                future.set_exception(error)

    async def _write_said(self) -> None:
        self._tried = self._due()[: self._batch]
        said = {node_id: self._said[node_id] for node_id in self._tried}
        nodes: list[Node] = []
        for node_id, each in said.items():
            node = self._view.nodes.get(node_id)
            if node is None or each.of(node) == node:
                del self._said[node_id]
            else:
                nodes.append(each.of(node))
        if not nodes:
            return
        try:
            stored = await self._commit(nodes[: _fitting(nodes)])
        except Conflict:  # the control API changed one meanwhile; the view has it when we come round again
            for node in nodes:
                await check_picture(
                    self._term.store, codec.node_key(node.id), partial(self._version_of, node.id)
                )
            return
        now = asyncio.get_running_loop().time()
        for node in stored:
            self._rates.spend(node.id, now)
            before = self._view.nodes.get(node.id)
            self._view.put_node(node)
            if before is None or before.manager_addr != node.manager_addr:
                self._term.tell(ManagerMoved(node.id))
            if before is not None and before.description != node.description:
                self._term.tell(NodeDescribed(node.id))
            if self._said.get(node.id) == said[node.id]:
                del self._said[node.id]

    def _version_of(self, node_id: str) -> int:
        node = self._view.nodes.get(node_id)
        return node.version if node is not None else 0

    async def _commit(self, nodes: list[Node]) -> list[Node]:
        compares = [Compare(codec.node_key(n.id), n.version) for n in nodes]
        revision = await self._term.commit([put_of(each) for each in nodes], compares)
        return [replace(n, version=revision) for n in nodes]


def _fitting(nodes: list[Node]) -> int:
    """Returns how many of them, from the first on, are one transaction: one, where some cannot be encoded."""
    try:
        return len(next(cut(map(put_of, nodes)), ()))
    except Exception:  # who it is turns out when each is written alone
        return 1
