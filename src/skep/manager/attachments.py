"""Single containers on the swarm's networks: addresses are given out here, and taken back.

A node asks before it makes the container, and says which addresses are in use: at the start of its session,
after each change, and when it is asked. What it does not name is free again. So nothing is lost, or kept for
ever, whichever of the two, or the line between them, fails in between.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from skep.manager.allocator import attachments
from skep.manager.control.attachments import find_network
from skep.manager.dispatcher.assignments import as_before, task_network
from skep.manager.rates import Rates
from skep.manager.signals import AttachmentsChanged
from skep.manager.term import Term
from skep.model.attachment import Attachment
from skep.model.network import Network
from skep.model.overlay_keys import ESP
from skep.rpc import messages
from skep.runtime.errors import Denied, Deposed, SkepError, Unavailable
from skep.store import codec
from skep.store.interfaces import Compare, Delete, Put
from skep.store.sizes import cut

log = structlog.get_logger()

# Of one node, each about 300 bytes of the store: a machine starts some containers a second, and a store that
# was restored is told of all of a node's within minutes.
WRITES_BURST, WRITES_PER_S = 200, 5
# Names of its containers, which all on their networks hear: all of them as a session begins.
NAMES_BURST, NAMES_PER_S = 1_000, 10
QUEUE_MAX = 10_000  # some for each node of a large swarm; a few kilobytes each at most
ASK_S = 2.0  # a node looks at its engine and answers in some milliseconds

Said = messages.Attach | messages.HasAddresses
Answer = Callable[[str, messages.FromManager], None]


class AttachmentKeeper:
    """`lock` is held by whoever writes networks; `answer` sends a node something, `understands` is true for
    a node that is there and knows what belongs to a feature."""

    def __init__(
        self,
        term: Term,
        lock: asyncio.Lock,
        answer: Answer,
        understands: Callable[[str, str], bool],
    ) -> None:
        self._term = term
        self._view = term.view
        self._lock = lock
        self._answer = answer
        self._understands = understands
        self._queue: asyncio.Queue[tuple[str, Said]] = asyncio.Queue(QUEUE_MAX)
        self._rates = Rates(WRITES_BURST, WRITES_PER_S)
        self._name_rates = Rates(NAMES_BURST, NAMES_PER_S)
        self._asked: dict[str, asyncio.Event] = {}  # node -> set when it has said what is in use

    def said(self, node_id: str, said: Said) -> None:
        """A node asks, or tells. In turn, for what one asks may be what another gives back. Errors: `Invalid`
        where it tells what cannot be."""
        if isinstance(said, messages.HasAddresses):
            attachments.check_in_use(self._view, said.in_use)
        try:
            self._queue.put_nowait((node_id, said))
        except asyncio.QueueFull:
            log.warning("attachments.too_many", node_id=node_id)
            if isinstance(said, messages.Attach):
                self._refuse(
                    node_id, said, Unavailable("the manager is asked for too many addresses at once")
                )

    async def refresh(self, network_id: str) -> None:
        """Asks the nodes that have containers on the network which of them are still there; waits a little
        for their answers."""
        asked = []
        for node_id, attached in self._view.attached.items():
            is_on = any(each.address.network_id == network_id for each in attached.values())
            if is_on and self._understands(node_id, messages.ATTACH):
                asked.append(self._asked.setdefault(node_id, asyncio.Event()))
                self._answer(node_id, messages.SayAddresses())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ASK_S):
                for each in asked:
                    await each.wait()

    async def run(self) -> None:
        """Answers one after the other. Errors: `Deposed`, where another manager leads."""
        for node_id in [each for each in self._view.attached if each not in self._view.nodes]:
            await self._recount(node_id, messages.HasAddresses([]))
        while True:
            node_id, said = await self._queue.get()
            if node_id not in self._view.nodes:
                continue
            if isinstance(said, messages.Attach):
                await self._attach(node_id, said)
            else:
                await self._recount(node_id, said)

    async def _attach(self, node_id: str, asked: messages.Attach) -> None:
        now_s = asyncio.get_running_loop().time()
        async with self._lock:
            try:
                if not self._rates.take(node_id, now_s):
                    raise Unavailable(
                        f"this node asks for more than {WRITES_PER_S} addresses a second: try again later"
                    )
                network = find_network(self._view, asked.network)
                now, attachment_id = self._term.clock.now(), self._term.new_id()
                self._check_encryption(node_id, network)
                made = attachments.attach(self._view, node_id, network, asked.address, attachment_id, now)
                await self._write(made)
            except Deposed:
                raise
            except SkepError as error:
                self._refuse(node_id, asked, error)
                return
        told = task_network(network, [], {})
        if not self._understands(node_id, messages.OVERLAY):
            told = as_before(told, self._view)
        self._answer(node_id, messages.Attached(asked.number, told, made.address))
        if node_id not in self._view.nodes:  # it was removed while this was written
            await self._recount(node_id, messages.HasAddresses([]))

    def _check_encryption(self, node_id: str, network: Network) -> None:
        """Errors: `Denied`. What the container sends there must not leave its node plainly."""
        if network.spec.is_encrypted and not self._view.nodes[node_id].description.has(ESP):
            raise Denied(f"network {network.spec.name} is encrypted, and this node cannot encrypt")

    async def _write(self, made: Attachment) -> None:
        put = Put(codec.attachment_key(made.node_id, made.id), codec.encode_object(made))
        try:
            await self._term.commit([put], [Compare(put.key, 0)])
        except SkepError:
            self._view.allocations.release(made.address, made)
            raise
        self._view.put_attachment(made)
        self._term.tell(AttachmentsChanged([made]))

    async def _recount(self, node_id: str, said: messages.HasAddresses) -> None:
        async with self._lock:
            now, now_s = self._term.clock.now(), asyncio.get_running_loop().time()
            most = int(self._rates.left(node_id, now_s))  # the node says the rest again
            unused, missing = attachments.recount(
                self._view, node_id, said.in_use, self._term.new_id, now, most
            )
            self._rates.spend(node_id, now_s, len(missing))
            ops: list[Put | Delete] = [Delete(codec.attachment_key(node_id, each.id)) for each in unused]
            ops += [
                Put(codec.attachment_key(node_id, each.id), codec.encode_object(each)) for each in missing
            ]
            try:
                for part in cut(ops):
                    await self._term.commit(part, [Compare(op.key, 0) for op in part if isinstance(op, Put)])
            except Deposed:
                raise
            except SkepError as error:
                log.warning("attachments.not_written", node_id=node_id, error=str(error))
                return  # the node's next word says it again
            for each in unused:
                self._view.drop_attachment(each)
            for each in missing:
                self._view.put_attachment(each)
            named = attachments.renamed(self._view, node_id, said.in_use, said.names)
            named = named[: int(max(0.0, self._name_rates.left(node_id, now_s)))]  # it says the rest again
            self._name_rates.spend(node_id, now_s, len(named))
            for each in named:
                self._view.put_attachment(each)
            self._term.tell(AttachmentsChanged([*unused, *missing, *named]))
        heard = self._asked.pop(node_id, None)
        if heard is not None:
            heard.set()

    def _refuse(self, node_id: str, asked: messages.Attach, error: SkepError) -> None:
        self._answer(node_id, messages.NotAttached(asked.number, type(error).__name__, str(error)))
