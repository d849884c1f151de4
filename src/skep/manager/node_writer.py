"""Writes of nodes, many to a transaction: 2,300 nodes that join or come back are some dozen writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from msgspec import Struct
from msgspec.structs import replace

from skep.manager.durable import commit_known
from skep.model.node import Node, NodeDescription
from skep.runtime.errors import Conflict, Deposed, OutcomeUnknown, SkepError, TooLarge, Unavailable
from skep.store import codec
from skep.store.port import Compare, Fence, Put, Store, Txn
from skep.store.sizes import cut
from skep.store.view import View

log = structlog.get_logger()

BATCH_MAX = 128  # nodes per transaction: about 100 kB; fewer where they say much: `sizes.cut`
RETRY_S = 0.2  # after etcd could not be reached


class _Said(Struct, frozen=True):
    """What a node said that is not written yet. None, or an empty text: nothing of that."""

    description: NodeDescription | None = None
    addr: str = ""
    manager_addr: str = ""

    def of(self, node: Node) -> Node:
        """Returns the node as it is by its own word."""
        return replace(
            node,
            description=self.description or node.description,
            addr=node.addr if self.description is None else self.addr,
            manager_addr=self.manager_addr or node.manager_addr,
        )


class NodeWriter:
    """`add` waits until its node is durable; what nodes say is remembered until it can be written. `moved`
    hears of managers whose address was written, `redescribed` of nodes that are not what they were."""

    def __init__(
        self,
        store: Store,
        fence: Fence,
        view: View,
        moved: Callable[[str], None],
        redescribed: Callable[[str], None] = lambda node_id: None,
    ) -> None:
        self._store = store
        self._fence = fence
        self._view = view
        self._moved = moved
        self._redescribed = redescribed
        self._new: list[tuple[Node, asyncio.Future[Node]]] = []
        self._said: dict[str, _Said] = {}
        self._batch = BATCH_MAX
        self._wake = asyncio.Event()
        self._ended = False

    async def add(self, node: Node) -> Node:
        """Returns the node as stored. Errors: `Unavailable` when the store cannot be reached, `Deposed` when
        this manager no longer leads."""
        if self._ended:
            raise Deposed()
        future: asyncio.Future[Node] = asyncio.get_running_loop().create_future()
        self._new.append((node, future))
        self._wake.set()
        return await future

    def describe(self, node_id: str, description: NodeDescription, addr: str, manager_addr: str = "") -> None:
        """What a node says of itself; the latest word is written."""
        known = self._said.get(node_id, _Said())
        self._say(node_id, _Said(description, addr, manager_addr or known.manager_addr))

    def manages(self, node_id: str, manager_addr: str) -> None:
        """Where a node's manager will be. What else the node said, perhaps a moment ago, is written too."""
        self._say(node_id, replace(self._said.get(node_id, _Said()), manager_addr=manager_addr))

    def _say(self, node_id: str, said: _Said) -> None:
        node = self._view.nodes.get(node_id)
        if node_id not in self._said and node is not None and said.of(node) == node:
            return  # most nodes of a new leader are as they are stored
        self._said[node_id] = said
        self._wake.set()

    async def run(self) -> None:
        """Runs until cancelled. Errors: `Denied` when this manager no longer leads."""
        try:
            await self._run()
        finally:
            self._ended = True
            self._refuse(self._new, Deposed())  # who waits asks the next leader

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._new or self._said:
                try:
                    await self._write_new()
                    await self._write_said()
                    self._batch = BATCH_MAX
                except TooLarge as error:
                    self._write_less(error)
                except Unavailable as error:
                    log.warning("store.retry", error=str(error), wait_s=RETRY_S)
                    await asyncio.sleep(RETRY_S)

    def _write_less(self, error: TooLarge) -> None:
        """Too much at once is written in parts; what is too much alone is not, and kept from nobody else."""
        if self._batch > 1:
            self._batch //= 2
            return
        node_id = next(iter(self._said))
        del self._said[node_id]
        log.error("store.too_large", node_id=node_id, error=str(error))

    async def _write_new(self) -> None:
        count = _fitting([node for node, _ in self._new[:BATCH_MAX]])
        batch, self._new = self._new[:count], self._new[count:]
        if not batch:
            return
        try:
            stored = await self._commit([node for node, _ in batch])
        except asyncio.CancelledError:
            self._refuse(batch, OutcomeUnknown("this manager lost the lead: the node may have been added"))
            raise
        except SkepError as error:
            self._refuse(batch, error)
            if not isinstance(error, Conflict | Unavailable | TooLarge):
                raise
            return
        for node, (_, future) in zip(stored, batch, strict=True):
            self._view.put_node(node)
            if not future.done():
                future.set_result(node)

    def _refuse(self, batch: list[tuple[Node, asyncio.Future[Node]]], error: SkepError) -> None:
        for _, future in batch:
            if not future.done():
                future.set_exception(error)

    async def _write_said(self) -> None:
        said = {node_id: self._said[node_id] for node_id in list(self._said)[: self._batch]}
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
        except Conflict:
            return  # the control API changed one meanwhile; the view has it when we come round again
        for node in stored:
            before = self._view.nodes.get(node.id)
            self._view.put_node(node)
            if before is None or before.manager_addr != node.manager_addr:
                self._moved(node.id)
            if before is not None and before.description != node.description:
                self._redescribed(node.id)
            if self._said.get(node.id) == said[node.id]:
                del self._said[node.id]

    async def _commit(self, nodes: list[Node]) -> list[Node]:
        revision = await commit_known(
            self._store,
            Txn(
                tuple(map(_put, nodes)),
                compares=tuple(Compare(codec.node_key(n.id), n.version) for n in nodes),
                fence=self._fence,
            ),
        )
        return [replace(n, version=revision) for n in nodes]


def _put(node: Node) -> Put:
    return Put(codec.node_key(node.id), codec.encode_object(node))


def _fitting(nodes: list[Node]) -> int:
    """Returns how many of them, from the first on, are one transaction."""
    return len(next(cut(map(_put, nodes)), ()))
