"""What the dispatcher needs of those who decide. `manager.leader` fulfils it."""

from __future__ import annotations

from typing import Protocol

from skep.model.node import NodeDescription
from skep.model.task import Task, TaskStatus
from skep.rpc import messages


class Listener(Protocol):
    """Who decides about what the nodes say."""

    def node_changed(self, node_id: str, before: str) -> None:
        """A node became ready or down; `before` is the state it was in."""

    def node_described(
        self, node_id: str, description: NodeDescription, remote_host: str, manager_addr: str
    ) -> None:
        """A node told what it is. An empty `manager_addr`: it does not say whether it is a manager."""

    def asked_to_manage(self, node_id: str, manager_addr: str) -> None:
        """A node that is to be a manager asks for a copy of the store; `Dispatcher.answer` it."""

    def renewed_certificate(self, node_id: str, request_pem: bytes) -> messages.Renewed:
        """Signs a node's new certificate. Errors: `SkepError`."""

    def wanted_tls(self) -> messages.WantedTls | None:
        """Returns what nodes' certificates should be; None where there are none (simulation)."""

    def has_tls(self, node_id: str, has: messages.HasTls) -> None:
        """A node told what its certificate is."""

    def about_attachments(self, node_id: str, said: messages.Attach | messages.HasAddresses) -> None:
        """A node asks for an address for a single container, or told which are in use. Errors: `Invalid`
        where those cannot be."""

    def node_registered(self, node_id: str) -> None:
        """A node has a session, a new one."""

    def task_reported(self, task: Task, status: TaskStatus, news: bool) -> None:
        """A task's observed state changed; `news` where its slot must be looked at."""
