"""What follows from what changes in a leader's term: who hears of it, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skep.manager import quarantine, signals
from skep.manager.asides import Asides
from skep.manager.control.services import service_changes
from skep.manager.manager_roles import ManagerRoles
from skep.manager.term import Term
from skep.model.aside import NODE, SERVICE
from skep.model.node import DOWN, READY
from skep.rpc.router import Router

if TYPE_CHECKING:
    from skep.manager.leader import Leader


class Reactions:
    """Those of a leader whose parts are made. There is no other such list."""

    def __init__(self, leader: Leader, term: Term, asides: Asides) -> None:
        self._view, self._hub = term.view, term.hub
        self._asides = asides
        self._sessions = leader.sessions
        self._certificates = leader.certificates
        self._tasks = leader.tasks
        self._mesh = leader.mesh
        self._overlays = leader.overlays
        self._logs = leader.logs
        self._node_usage = leader.node_usage
        self._reconciler = leader.reconciler
        self._membership = leader.membership
        self._rotation = leader.rotation
        self._data_key = leader.data_key
        self._board = leader.board

    def watch(self, router: Router[()], roles: ManagerRoles) -> None:
        """Has all hear from now on, each in the order of its text."""
        on = router.on
        on(signals.TasksCommitted, self._committed)
        on(signals.ServiceChanged, self._service_changed)
        on(signals.ServiceDecided, self._service_decided)
        on(signals.ServiceRemoved, self._service_removed)
        on(signals.NodeChanged, self._node_changed)
        on(signals.NodeRemoved, self._node_removed)
        on(signals.ManagerMoved, roles.moved)
        on(signals.NodeDescribed, self._node_described)
        on(signals.NodeStateChanged, self._state_changed)
        on(signals.ClusterChanged, self._cluster_changed)
        on(signals.RootChanged, lambda said: self._certificates.tell())
        on(signals.MembersChanged, roles.members_changed)
        on(signals.MembersChanged, self._members_changed)
        on(signals.AttachmentsChanged, lambda said: self._overlays.attachments_changed(said.attachments))

    def _committed(self, said: signals.TasksCommitted) -> None:
        """Tells the nodes; one that cannot be told is told all of it in a new session."""
        self._board.committed(said.changed)
        self._overlays.publish(said.changed)
        self._mesh.publish(said.changed)
        for node_id, tasks in said.changed.items():
            try:
                self._tasks.publish({node_id: tasks})
            except Exception as error:
                self._asides.put(NODE, node_id, error)
                self._sessions.refuse(node_id, error)

    def _service_changed(self, said: signals.ServiceChanged) -> None:
        self._board.service_changed(said.service_id)
        self._reconciler.enqueue_service(said.service_id)
        self._mesh.service_changed(said.service_id)
        self._overlays.service_changed(said.service_id)

    def _service_decided(self, said: signals.ServiceDecided) -> None:
        before, service = said.before, said.service
        self._board.service_changed(service.id)
        self._mesh.service_changed(service.id)
        self._overlays.service_changed(service.id)
        attributes = service_changes(before or service, service)
        if len(attributes) > 1:  # more than its name
            self._hub.emit("service", "update", service.id, **attributes)
        if service.update is None or service.update.state != "updating":
            self._reconciler.enqueue_service(service.id)

    def _service_removed(self, said: signals.ServiceRemoved) -> None:
        service_id = said.service_id
        self._board.service_changed(service_id)
        self._asides.forget(SERVICE, service_id)  # what it was set aside for matters no more
        nodes = {n for n, buckets in self._view.buckets.items() if service_id in buckets}
        nodes |= self._view.half_known  # perhaps it has tasks there, too
        self._mesh.service_changed(service_id)
        self._overlays.service_changed(service_id)
        self._tasks.publish_removing(service_id, nodes)
        self._reconciler.enqueue_removed(service_id)
        self._logs.service_removed(service_id)

    def _node_changed(self, said: signals.NodeChanged) -> None:
        self._board.node_changed(said.node_id)
        self._sessions.node_added(said.node_id)
        self._sessions.tell_role(said.node_id)
        self._membership.wake()
        self._reconciler.enqueue_node(said.node_id)

    def _node_described(self, said: signals.NodeDescribed) -> None:
        self._board.node_changed(said.node_id)
        self._reconciler.enqueue_node(said.node_id)

    def _members_changed(self, said: signals.MembersChanged) -> None:
        for node_id in said.node_ids:
            self._board.node_changed(node_id)

    def _node_removed(self, said: signals.NodeRemoved) -> None:
        node_id = said.node_id
        self._board.node_changed(node_id)
        self._asides.forget(NODE, node_id)
        quarantine.forget_node(self._view, node_id)
        self._sessions.node_removed(node_id)
        self._mesh.node_removed(node_id)
        self._overlays.node_removed(node_id)
        self._rotation.look()
        self._reconciler.enqueue_node(node_id)
        self._logs.node_down(node_id)
        self._node_usage.forget(node_id)

    def _state_changed(self, said: signals.NodeStateChanged) -> None:
        node_id, before = said.node_id, said.before
        self._board.node_changed(node_id)
        name, state = self._view.nodes[node_id].description.hostname, self._view.node_state(node_id).state
        self._hub.emit("node", "update", node_id, name=name, state__old=before, state__new=state)
        self._reconciler.enqueue_node(node_id)
        self._mesh.node_changed(node_id)
        if DOWN in (before, state):
            self._overlays.node_changed(node_id)
        if state == READY:
            self._logs.node_came(node_id)
        elif not self._logs.may_come(node_id):
            self._logs.node_down(node_id)

    def _cluster_changed(self, said: signals.ClusterChanged) -> None:
        self._sessions.tell_heartbeat()
        self._certificates.tell()
        self._rotation.look()
        self._data_key.look()
        self._mesh.cluster_changed()
        self._reconciler.enqueue_everything()
