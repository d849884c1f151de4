"""Who manages, as nodes hear of it: who may hold the store, where managers are, which of them answer."""

from __future__ import annotations

import asyncio

from skep.manager.dispatcher.sessions import Sessions
from skep.manager.membership import MembershipKeeper
from skep.manager.node_writer import NodeWriter
from skep.manager.quorum import is_to_manage
from skep.manager.reachability import Reachability
from skep.manager.signals import ManagerMoved, MembersChanged
from skep.manager.term import Term
from skep.rpc.messages import Manage


class ManagerRoles:
    """`own_id` is the node of this manager."""

    def __init__(
        self, term: Term, sessions: Sessions, membership: MembershipKeeper, writer: NodeWriter, own_id: str
    ) -> None:
        self._view = term.view
        self._sessions = sessions
        self._membership = membership
        self._writer = writer
        self._own_id = own_id
        self._reachability = Reachability(term.view, term.hub)
        self._asking: dict[str, asyncio.Task[None]] = {}  # nodes that ask for a copy of the store

    def asked(self, node_id: str, asked: Manage) -> None:
        """A node asks for a copy of the store, to manage with."""
        known = self._asking.get(node_id)
        if known is not None and not known.done():
            return  # it is answered soon, and asks again where its address is another meanwhile
        self._asking[node_id] = asyncio.ensure_future(self._let_manage(node_id, asked.manager_addr))

    async def stop(self) -> None:
        for work in self._asking.values():
            work.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    def moved(self, said: ManagerMoved) -> None:
        self._tell_managers()

    def members_changed(self, said: MembersChanged) -> None:
        for node_id in sorted(said.node_ids):
            if node_id in self._view.nodes:
                self._sessions.tell_role(node_id)
        self._reachability.tell()
        self._tell_managers()

    def forgetful(self, feature: str) -> list[str]:
        """Returns the other managers that do not say that they keep this of the cluster."""
        others = (member.node_id for member in self._view.members if member.node_id != self._own_id)
        return sorted(node_id for node_id in others if not self._sessions.understands(node_id, feature))

    async def _let_manage(self, node_id: str, manager_addr: str) -> None:
        node = self._view.nodes.get(node_id)
        if node is not None and is_to_manage(self._view, node_id) and node.manager_addr != manager_addr:
            self._writer.manages(node_id, manager_addr)
        self._sessions.send(node_id, await self._membership.add(node_id))

    def _tell_managers(self) -> None:
        self._sessions.set_managers(self._view.manager_addresses(self._own_id))
