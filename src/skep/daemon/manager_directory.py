"""Who the managers of this swarm are, as far as one of them knows; only they get streams from it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from skep.daemon.platform import Links, Streams
from skep.model.node import Node
from skep.rpc.checking import check_manager_address
from skep.rpc.link import FrameLink
from skep.rpc.streams import RAFT, OpenStream
from skep.runtime.errors import Corrupt, SkepError
from skep.store import codec
from skep.store.interfaces import ClusterStore


class ManagerDirectory:
    """`known` are those of before; `store` gives the store once it is open."""

    def __init__(
        self,
        node_id: str,
        known: Iterable[str],
        peers: Links,
        streams: Streams,
        store: Callable[[], ClusterStore | None],
    ) -> None:
        self._node_id = node_id
        self._peers = peers
        self._streams = streams
        self._store = store
        self._members = frozenset(known)
        self._has_looked = False  # until then they are those of before, of whom some may be none any more
        self._admitting: set[asyncio.Task[None]] = set()

    @property
    def members(self) -> frozenset[str]:
        """Node ids of all managers, as far as this one knows."""
        return self._members | {self._node_id}

    async def look(self, store: ClusterStore) -> None:
        """Learns who the managers are; a learner knows who it was told of. Errors: `Unavailable`."""
        if await store.cluster.is_learner():
            self._has_looked = True
            return
        members = {member.node_id for member in await store.cluster.members()}
        self._members = frozenset(members)
        for node_id in members - set(self._peers.addresses) - {self._node_id}:
            for pair in (await store.load(codec.node_key(node_id)))[0]:
                with contextlib.suppress(Corrupt):  # the others are still to be learned of
                    node = codec.decode_object(Node, pair.key, pair.value, pair.revision)
                    self._peers.learn(node_id, node.manager_addr)
        await self._peers.open_doors(members)
        self._has_looked = True
        self._peers.keep(members)
        self._streams.close_others(members)

    def stream(self, link: FrameLink, asked: OpenStream) -> None:
        """A manager, or who was one, asks for a stream. Errors: `Invalid` for an address that is none."""
        assert link.identity is not None
        check_manager_address(asked.address)
        work = asyncio.ensure_future(self._admit(link, link.identity.node_id, asked))
        self._admitting.add(work)
        work.add_done_callback(self._admitting.discard)

    def close(self) -> list[asyncio.Task[None]]:
        """Ends what it does; returns what to wait for."""
        for work in self._admitting:
            work.cancel()
        return list(self._admitting)

    async def _admit(self, link: FrameLink, node_id: str, asked: OpenStream) -> None:
        """Lets managers in, and nobody who only was one."""
        store = self._store()
        if (node_id not in self.members or not self._has_looked) and store is not None:
            with contextlib.suppress(SkepError):
                await self.look(store)  # it may just have become one
        # etcd comes to a quorum by what its peers say: those of before may speak with it, and it knows them.
        if node_id not in self.members or not (self._has_looked or asked.kind == RAFT):
            refused = f"node {node_id} is not a manager of this swarm"
            self._streams.refuse(link, refused, is_no_manager=self._has_looked)
            return
        self._peers.learn(node_id, asked.address)
        self._streams.serve(link, asked)
