"""What a node answers who wants to know what its kernel has of the swarm's networks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from skep.agent.saying import in_words, shown
from skep.agent.session import Session
from skep.model.kernel_net import KernelNet
from skep.rpc import messages
from skep.rpc.checking import COUNTED_OF_MAX_BYTES, FAILURES_MAX, OBJECT_MAX_BYTES
from skep.runtime.supervise import cancel_and_wait


class Looking:
    """`look` looks at the kernel. One look at a time: who asks meanwhile has another one after it, the last
    who did: a manager asks once at a time."""

    def __init__(self, session: Session, look: Callable[[], Awaitable[KernelNet]]) -> None:
        self._session = session
        self._look = look
        self._number: int | None = None  # of the question that is to be answered
        self._work: asyncio.Task[None] | None = None
        session.on(messages.MeshLook, self._asked, messages.LOOK)

    async def close(self) -> None:
        await cancel_and_wait(self._work)

    def _asked(self, asked: messages.MeshLook) -> None:
        self._number = asked.number
        if self._work is None or self._work.done():
            self._work = asyncio.ensure_future(self._answer())

    async def _answer(self) -> None:
        while (number := self._number) is not None:
            self._number = None
            try:
                seen = await self._look()
            except Exception as error:
                seen = KernelNet(failures=[in_words(error)])
            if self._session.manager_knows(messages.LOOK):  # the leader may be another by now
                self._session.send(messages.MeshSeen(number, _sayable(seen)))


def _sayable(seen: KernelNet) -> KernelNet:
    """Returns it with texts that may be said: names of devices and rules are anybody's."""
    return replace(
        seen,
        missing=[shown(text, OBJECT_MAX_BYTES) for text in seen.missing],
        surplus=[shown(text, OBJECT_MAX_BYTES) for text in seen.surplus],
        connections={shown(name, OBJECT_MAX_BYTES): count for name, count in seen.connections.items()},
        failures=[shown(text) for text in seen.failures[:FAILURES_MAX]],
        bytes={shown(name, COUNTED_OF_MAX_BYTES): each for name, each in seen.bytes.items()},
    )
