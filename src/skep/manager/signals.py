"""What changes in a leader's term, for all whom it concerns: they hear of it at once, in the order in which
`reactions` lists them, and when the view says it already."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from skep.model.attachment import Attachment
from skep.model.service import Service
from skep.model.task import Task

PerNode = dict[str, tuple[list[Task], list[Task]]]  # node -> (put, dropped)


class ServiceChanged(Struct, frozen=True):
    """A user's order has made it, or changed it."""

    service_id: str


class ServiceDecided(Struct, frozen=True):
    """Its updater has written its record."""

    before: Service | None
    service: Service


class ServiceRemoved(Struct, frozen=True):
    service_id: str


class TasksCommitted(Struct, frozen=True):
    """By one transaction."""

    changed: PerNode


class NodeChanged(Struct, frozen=True):
    """It was taken in, or a user's order has changed it."""

    node_id: str


class NodeRemoved(Struct, frozen=True):
    node_id: str


class NodeDescribed(Struct, frozen=True):
    """It says of itself what it did not before."""

    node_id: str


class ManagerMoved(Struct, frozen=True):
    """The node's manager has an address, or another one."""

    node_id: str


class NodeStateChanged(Struct, frozen=True):
    """It is ready, down or unknown now, and was not."""

    node_id: str
    before: str


class ClusterChanged(Struct, frozen=True):
    """A user's order has changed the swarm's own record."""


class RootChanged(Struct, frozen=True):
    """The swarm's root of certificates is another."""


class MembersChanged(Struct, frozen=True):
    """These nodes came to hold the store, let go of it, answer again or do not."""

    node_ids: frozenset[str]


class AttachmentsChanged(Struct, frozen=True):
    """Single containers came, went, or have other names; their nodes are not told yet."""

    attachments: Sequence[Attachment]
