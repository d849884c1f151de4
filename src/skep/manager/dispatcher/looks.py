"""Questions to nodes what their kernels have of the swarm's networks, and their answers."""

from __future__ import annotations

import asyncio

from skep.manager.node_sessions import NodeSessions
from skep.model.kernel_net import KernelNet
from skep.rpc.messages import LOOK, MeshLook, MeshSeen
from skep.runtime.errors import Unavailable

ANSWER_S = 5.0  # a look takes some 10 ms, and waits for what is being done, half a second with 1,000 services
LOOKS_MAX = 64  # under way at once: 550 kB each where a node says all that it may, 35 MB in all


class _Question:
    """One that a node was asked, for all who want to know meanwhile. Time ends it, whoever still waits."""

    def __init__(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.answer: asyncio.Future[KernelNet | None] = loop.create_future()
        self._end = loop.call_later(ANSWER_S, self.settle, None)

    def settle(self, seen: KernelNet | None) -> None:
        self._end.cancel()
        if not self.answer.done():
            self.answer.set_result(seen)


class Looks:
    """Of one leader."""

    def __init__(self, nodes: NodeSessions) -> None:
        self._nodes = nodes
        self._number = 0
        self._asked: dict[str, _Question] = {}

    async def ask(self, node_id: str) -> KernelNet:
        """Returns what the node finds. Errors: `Unavailable`, which says why it cannot be asked now."""
        if not self._nodes.has(node_id):
            raise Unavailable("it has no connection to this manager")
        if not self._nodes.understands(node_id, LOOK):
            raise Unavailable("its skep is too old to say, or it has no networks of the swarm's")
        seen = await asyncio.shield(self._question(node_id).answer)
        if seen is None:
            raise Unavailable(f"it did not answer within {ANSWER_S:g} s")
        return seen

    def seen(self, node_id: str, said: MeshSeen) -> None:
        """A node has answered; one that nobody waits for any more is not heard."""
        question = self._asked.get(node_id)
        if question is not None and question.number == said.number:
            question.settle(said.seen)

    def ended(self, node_id: str) -> None:
        """The node's session is over: the next one has not heard the question."""
        question = self._asked.get(node_id)
        if question is not None:
            question.settle(None)

    def _question(self, node_id: str) -> _Question:
        """Errors: `Unavailable` where too many are asked."""
        self._asked = {id: each for id, each in self._asked.items() if not each.answer.done()}
        if node_id not in self._asked:
            if len(self._asked) >= LOOKS_MAX:
                raise Unavailable(f"{LOOKS_MAX} nodes are being asked already: try again")
            self._number += 1
            self._asked[node_id] = _Question(self._number)
            self._nodes.send(node_id, MeshLook(self._number))
        return self._asked[node_id]
