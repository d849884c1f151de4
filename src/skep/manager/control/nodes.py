"""Change and remove nodes; take in new ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from skep.manager.control.validate_size import check_size
from skep.manager.node_writer import NodeWriter
from skep.manager.quorum import is_to_manage, keeps_quorum_without, voters
from skep.manager.scheduler.explain_nodes import NAMES_MAX, names_text
from skep.manager.signals import NodeChanged, NodeRemoved
from skep.manager.term import Term, put_of
from skep.model.bounds import LABELS_MAX_BYTES
from skep.model.cluster import Cluster
from skep.model.node import DOWN, Node, NodeDescription, NodeSpec
from skep.runtime.errors import Conflict, Invalid, NotFound, StaleVersion
from skep.store import codec
from skep.store.interfaces import Delete, Put

CLUSTER_TRIES = 20  # where others of this leader write the cluster's record: a second
CLUSTER_RETRY_S = 0.05
_ROLES = ("worker", "manager")
_AVAILABILITIES = ("active", "pause", "drain")


class NodeControl:
    def __init__(
        self,
        term: Term,
        writer: NodeWriter,
    ) -> None:
        self._term = term
        self._view = term.view
        self._writer = writer

    async def add(
        self, node_id: str, role: str, availability: str, description: NodeDescription, addr: str
    ) -> Node:
        """Takes in an enrolled node. Errors: `Invalid`, `Unavailable`."""
        if availability not in _AVAILABILITIES:
            raise Invalid(f"invalid availability: '{availability}' (active, pause or drain)")
        now = self._term.clock.now()
        node = Node(
            id=node_id,
            spec=NodeSpec(role=role, availability=availability),
            description=description,
            created_at=now,
            updated_at=now,
            addr=addr,
        )
        node = await self._writer.add(node)
        self._term.hub.emit("node", "create", node_id, name=description.hostname)
        self._term.tell(NodeChanged(node_id))
        return node

    async def update(self, node_id: str, version: int, spec: NodeSpec) -> Node:
        """Changes a node's spec; a new role is begun at once and takes some seconds (`manager.quorum`).

        Errors: `Invalid`, also where a demotion would cost the quorum; `NotFound`, `StaleVersion`.
        """
        node = self._known(node_id)
        if codec.node_key(node_id) in self._view.quarantine:
            raise Conflict(
                f"node {node_id}'s record in the store cannot be read, and is left as it is: remove the node"
                " (docker node rm --force), or restore a backup"
            )
        if node.version != version:
            raise StaleVersion()
        if spec.role not in _ROLES:
            raise Invalid(f'invalid Role: "{spec.role}"')
        if spec.availability not in _AVAILABILITIES:
            raise Invalid(f'invalid Availability: "{spec.availability}"')
        check_size("the node's spec", spec, LABELS_MAX_BYTES, node.spec)
        is_demotion = node.spec.role == "manager" and spec.role == "worker"
        if is_demotion:
            self._check_demotion(node)
        after = await self._write(node, replace(node, spec=spec, updated_at=self._term.clock.now()))
        attributes = {"name": node.description.hostname}
        if spec.availability != node.spec.availability:
            attributes.update(availability__old=node.spec.availability, availability__new=spec.availability)
        if spec.role != node.spec.role:
            attributes.update(role__old=node.spec.role, role__new=spec.role)
        self._term.hub.emit("node", "update", node_id, **attributes)
        self._term.tell(NodeChanged(node_id))
        return after

    async def _write(self, before: Node, after: Node) -> Node:
        """Returns the node as stored. Who was a manager knows the data key: that another is wanted is written
        with the role, for it must not be handed to the node, nor be forgotten. Not while it is upgraded: the
        lead would end with each manager of the upgrade."""
        is_let_go = before.spec.may_know_data_key and not after.spec.may_know_data_key
        if not is_let_go or self._view.cluster is None:
            return await self._term.update(before, after)

        def check() -> None:
            known = self._known(before.id)
            if known.version != before.version:
                raise StaleVersion()
            if known.spec.role == "manager":
                self._check_demotion(known)

        cluster = await self._want_data_key(check, (put_of(after), before.version))
        after = replace(after, version=cluster.version)  # written with it
        self._view.put_node(after)
        return after

    async def _want_data_key(self, check: Callable[[], object], *also: tuple[Put, int]) -> Cluster:
        """Writes that another data key is wanted, and `also` with it (`Term.update`). The cluster's record
        is written by other parts too: it is tried again as long as `check`, which raises, lets it. Returns
        the record. Errors: `StaleVersion` where it is written without end; as `Term.update`."""
        for _ in range(CLUSTER_TRIES):
            check()
            cluster = self._view.cluster
            assert cluster is not None
            try:
                return await self._term.update(cluster, cluster.wanting_data_key(), *also)
            except StaleVersion:
                await asyncio.sleep(CLUSTER_RETRY_S)
        raise StaleVersion()

    def _check_demotion(self, node: Node) -> None:
        """Errors: `Invalid`, in SwarmKit's words (manager/controlapi/node.go)."""
        # One that is on its way out does not count.
        if not any(m.node_id != node.id and is_to_manage(self._view, m.node_id) for m in voters(self._view)):
            raise Invalid(
                "rpc error: code = FailedPrecondition desc = attempting to demote the last manager of the"
                f" swarm{self._why_others_do_not_count(node.id)}"
            )
        if self._view.is_member(node.id) and not keeps_quorum_without(self._view, node.id):
            raise Invalid(
                "rpc error: code = FailedPrecondition desc = can't remove member from the raft: this would"
                " result in a loss of quorum"
            )

    def _why_others_do_not_count(self, node_id: str) -> str:
        """Returns what there is to say of others that `docker node ls` shows as managers, or that are to
        become some."""
        others = [n for n in self._view.nodes.values() if n.id != node_id]
        coming = [n for n in others if n.spec.role == "manager"]
        going = [n for n in others if n.spec.role != "manager" and self._view.is_member(n.id)]
        said = f", of those that stay: {_names(going)} demoted already" if going else ""
        if coming:
            said += f"; {_names(coming)} to be a manager and not one yet: try again in some seconds"
        return said

    def _known(self, node_id: str) -> Node:
        """Errors: `NotFound`."""
        node = self._view.nodes.get(node_id)
        if node is None:
            raise NotFound(f"node {node_id} not found")
        return node

    async def remove(self, node_id: str, force: bool) -> None:
        """Removes a node. One that is held is not heard of either: whoever knows that its machine is gone
        need not wait for the leader to be sure.

        Errors: `NotFound`, `Invalid` for a manager, or a node that is up and not forced.
        """
        node = self._known(node_id)
        if self._view.is_member(node_id):
            raise Invalid(
                f"rpc error: code = FailedPrecondition desc = node {node_id} is a cluster manager and is a"
                " member of the raft cluster. It must be demoted to worker before removal"
            )
        status = self._view.node_state(node_id)
        if not (force or status.state == DOWN or status.is_held):
            raise Invalid(
                f"rpc error: code = FailedPrecondition desc = node {node_id} is not down and can't be removed"
            )
        if node.spec.may_know_data_key and self._view.cluster is not None:
            # It lost its copy of the store, not the data key.
            await self._want_data_key(lambda: self._known(node_id))
        key = codec.node_key(node_id)
        attached = self._view.attached.get(node_id, ())
        gone = (Delete(key), *(Delete(codec.attachment_key(node_id, each)) for each in attached))
        await self._term.remove(key, lambda: self._known(node_id), lambda _: gone)
        self._view.drop_node(node_id)
        self._term.hub.emit("node", "remove", node_id, name=node.description.hostname)
        self._term.tell(NodeRemoved(node_id))


def _names(nodes: list[Node]) -> str:
    names = sorted(node.description.hostname or node.id for node in nodes)
    return f"{names_text(names[:NAMES_MAX], len(names))} {'is' if len(names) == 1 else 'are'}"
