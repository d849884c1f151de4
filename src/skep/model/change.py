"""Decisions as data: what a decider returns and the reconcile loop commits."""

from __future__ import annotations

from msgspec import Struct

from .service import RemovedService, Service
from .states import RUNNING
from .task import PendingTask, Task


class PutTask(Struct, frozen=True, gc=False):
    """Create or change a task."""

    task: Task


class DropTask(Struct, frozen=True, gc=False):
    """Forget a task (its node has let go of it, or history is full)."""

    task: Task


class PutService(Struct, frozen=True):
    """Change a service's own record (update status, templates); `service.version` is compared."""

    service: Service


class DropRemoved(Struct, frozen=True):
    """The last task of a removed service is gone."""

    service: RemovedService


Change = PutTask | DropTask | PutService | DropRemoved


class NewTask(Struct, frozen=True, gc=False):
    """A task that is wanted and has no node yet: the scheduler turns it into `PutTask` or a pending task.

    `id` is kept from the pending task where there was one. `node_id` is given for global services.
    """

    id: str
    service_id: str
    slot: int
    spec_version: int
    created_at: float
    run_at: float = 0.0
    node_id: str = ""
    attempt: int = 0
    avoid_node_id: str = ""  # where the slot's last task failed: taken only if nothing else suits
    desired_state: int = RUNNING  # READY: it waits for its turn (a restart delay, its predecessor's end)


class Plan(Struct, frozen=True):
    """What is to change, what is to be placed, and when to look again (epoch seconds; None: on change)."""

    changes: tuple[Change, ...] = ()
    wanted: tuple[NewTask, ...] = ()
    wake_at: float | None = None


class PlacementResult(Struct, frozen=True):
    """What the scheduler answers: tasks with a node, and tasks that must wait, with the reason."""

    placed: tuple[Task, ...] = ()
    pending: tuple[PendingTask, ...] = ()
