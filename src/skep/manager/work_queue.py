"""What the reconciler is to look at: services, slots, updates. What is marked twice is decided once."""

from __future__ import annotations

import asyncio

from skep.manager.asides import Asides
from skep.manager.guard import Guard
from skep.manager.rollouts import Rollouts
from skep.model.aside import NODE, SERVICE
from skep.model.service import Service
from skep.store.view import SlotKey, View, slot_key

PASS_MAX = 120_000  # new tasks per pass: bounds a plan's memory; a larger service takes several passes


class WorkQueue:
    """Marking costs what it names, and never waits."""

    def __init__(self, view: View, updating: Rollouts, asides: Asides) -> None:
        self._view = view
        self._updating = updating
        self._wake = asyncio.Event()
        self._asides = asides
        self._asides.wakes(self._wake.set)
        self._guard = Guard(view, asides, self._enqueue_whole)
        self._services: dict[str, None] = {}  # ordered sets: first marked, first decided
        self._steps: dict[str, None] = {}  # services of which only the update or the job may go on
        self._slots: dict[tuple[str, SlotKey], None] = {}
        self._retry_pending = False

    def enqueue_service(self, service_id: str) -> None:
        """The service's own record changed: count, mode, version."""
        if self._asides.try_again(SERVICE, service_id):
            self._enqueue_slots(service_id)
        self._updating.service_changed(service_id)
        self._services[service_id] = None
        for key in self._view.pending.get(service_id, ()):  # what they wait for may be asked no more
            self._slots[service_id, key] = None
        self._wake.set()

    def enqueue_removed(self, service_id: str) -> None:
        """The service is no more: all its slots are to be emptied."""
        self._enqueue_whole(service_id)
        self._updating.service_removed(service_id)

    def _enqueue_whole(self, service_id: str) -> None:
        """The service and each slot of it are to be looked at."""
        self._enqueue_slots(service_id)
        self.enqueue_service(service_id)

    def _enqueue_slots(self, service_id: str) -> None:
        self._slots.update(dict.fromkeys((service_id, key) for key in self._view.slots.get(service_id, ())))

    def enqueue_slot(self, service_id: str, key: SlotKey) -> None:
        self._slots[service_id, key] = None
        self._touch(service_id, key)
        self._wake.set()

    def _touch(self, service_id: str, key: SlotKey) -> None:
        """Something happened in a slot: an update or a job may go on."""
        if self._updating.touch(service_id, key):
            self._steps[service_id] = None

    def enqueue_node(self, node_id: str) -> None:
        """The node became ready, down, drained, relabelled, or is gone."""
        for task in self._view.tasks_of_node(node_id):
            self._slots[task.service_id, slot_key(task)] = None
        self._asides.try_again(NODE, node_id)
        for service in self._view.services.values():
            try:
                self._enqueue_on_node(service, node_id)
            except Exception as error:
                self._guard.failed(service.id, error)
        self.enqueue_room()

    def _enqueue_on_node(self, service: Service, node_id: str) -> None:
        if service.spec.is_everywhere:
            self._slots[service.id, node_id] = None
            if any(self._view.is_outdated(service, t) for t in self._view.slot(service.id, node_id)):
                self._services[service.id] = None  # a node that was paused has not been updated
        if any(template.kin for template in service.templates):
            self._services[service.id] = None  # tasks that a change of placement left alone may have to go

    def enqueue_room(self) -> None:
        """Tasks that wait for a node may fit now."""
        self._retry_pending = True
        self._wake.set()

    def enqueue_everything(self) -> None:
        """A new leader looks at all there is."""
        for service_id, slots in self._view.slots.items():
            for key in slots:
                self._slots[service_id, key] = None
        for service_id in (*self._view.services, *self._view.removed):
            self._services[service_id] = None
        self._wake.set()

    def is_updating(self, service_id: str) -> bool:
        return self._updating.is_updating(service_id)

    def _take_slots(self) -> list[tuple[str, SlotKey]]:
        """Takes the marked slots; a pass with too many leaves the rest for the next."""
        if len(self._slots) <= PASS_MAX:
            slots, self._slots = list(self._slots), {}
            return slots
        slots = list(self._slots)[:PASS_MAX]
        for key in slots:
            del self._slots[key]
        self._wake.set()
        return slots
