"""Questions to nodes what their kernels have of the swarm's networks, and their answers."""

from __future__ import annotations

import asyncio
from typing import Protocol

from skep.model.kernel_net import KernelNet
from skep.rpc.messages import LOOK, FromManager, MeshLook, MeshSeen
from skep.runtime.errors import Unavailable

ANSWER_S = 5.0  # a look takes some 10 ms, and waits for what is being done, half a second with 1,000 services
LOOKS_MAX = 64  # under way at once: 200 kB each where a node says all that it may


class Nodes(Protocol):
    """Sessions of nodes; see `dispatcher.sessions.Sessions`."""

    def has(self, node_id: str) -> bool: ...
    def understands(self, node_id: str, feature: str) -> bool: ...
    def send(self, node_id: str, message: FromManager) -> None: ...


class Looks:
    """Of one leader."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._number = 0
        self._asked: dict[str, tuple[int, asyncio.Future[KernelNet]]] = {}

    async def ask(self, node_id: str) -> KernelNet:
        """Returns what the node finds. Errors: `Unavailable`, which says why it cannot be asked now."""
        if not self._nodes.has(node_id):
            raise Unavailable("it has no connection to this manager")
        if not self._nodes.understands(node_id, LOOK):
            raise Unavailable("its skep is too old to say, or it has no networks of the swarm's")
        try:
            async with asyncio.timeout(ANSWER_S):
                return await asyncio.shield(self._answer_of(node_id))  # others may wait for it, too
        except TimeoutError as error:
            self._asked.pop(node_id, None)
            raise Unavailable(f"it did not answer within {ANSWER_S:g} s") from error

    def seen(self, node_id: str, said: MeshSeen) -> None:
        """A node has answered; one that nobody waits for any more is not heard."""
        number, answer = self._asked.get(node_id, (-1, None))
        if answer is not None and number == said.number:
            del self._asked[node_id]
            answer.set_result(said.seen)

    def _answer_of(self, node_id: str) -> asyncio.Future[KernelNet]:
        """Errors: `Unavailable` where too many are asked."""
        if node_id in self._asked:
            return self._asked[node_id][1]
        if len(self._asked) >= LOOKS_MAX:
            raise Unavailable(f"{LOOKS_MAX} nodes are being asked already: try again")
        self._number += 1
        answer: asyncio.Future[KernelNet] = asyncio.get_running_loop().create_future()
        self._asked[node_id] = self._number, answer
        self._nodes.send(node_id, MeshLook(self._number))
        return answer
