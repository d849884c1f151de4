"""What guards a pass of the reconciler: a service that fails is left out of it, with all that was decided for
it, and so is what belongs to a node that is set aside."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

import structlog

from skep.manager.asides import Asides, costs_lead
from skep.manager.blame import failing_nodes, failure_of
from skep.manager.scheduler import explain
from skep.manager.scheduler.place import pending_of
from skep.model.aside import NODE, SERVICE
from skep.model.change import Change, DropTask, NewTask, PutService, PutTask
from skep.store.view import SlotKey, View

log = structlog.get_logger()


class Guard:
    """`again` marks a whole service to be looked at once more."""

    def __init__(self, view: View, asides: Asides, again: Callable[[str], None]) -> None:
        self._view = view
        self._asides = asides
        self._again = again
        self._failed: set[str] = set()  # services, in this pass
        self._is_examined = False  # the nodes, in this pass
        self._is_node = False  # one of them was to blame

    def begin(self) -> None:
        """A pass begins."""
        self._failed.clear()
        self._is_examined = self._is_node = False

    def end(self) -> None:
        """The pass is over: nodes are examined anew where something fails."""
        self._is_examined = self._is_node = False

    @contextlib.contextmanager
    def of(self, service_id: str) -> Iterator[None]:
        """Whatever fails within is that service's failure. Errors: what costs the lead."""
        try:
            yield
        except Exception as error:
            self.failed(service_id, error)

    def failed(self, service_id: str, error: Exception) -> None:
        """A decider failed on a service. A node that fails by itself is to blame; the service is then decided
        about again, without that node. Errors: what costs the lead."""
        if costs_lead(error):
            raise error
        self._failed.add(service_id)
        if not self._is_examined:
            self._is_examined = True
            for node_id, why in failing_nodes(self._view):
                self._asides.put(NODE, node_id, why)
                self._is_node = True
        if self._is_node:
            self._again(service_id)
        else:
            self._asides.put(SERVICE, service_id, error)

    def try_node(self, node_id: str) -> bool:
        """Looks at a node again that was set aside; returns whether it is well."""
        node = self._view.nodes.get(node_id)
        error = failure_of(self._view, node) if node is not None else None
        if error is not None:
            self._asides.put(NODE, node_id, error)
        return error is None

    def leaves_alone(self, service_id: str, key: SlotKey) -> bool:
        """True for a slot that nothing is to be decided about."""
        view = self._view
        if not view.asides:
            return False
        if view.is_aside(SERVICE, service_id) or (isinstance(key, str) and view.is_aside(NODE, key)):
            return True
        return any(view.is_aside(NODE, task.node_id) for task in view.slot(service_id, key))

    def show_waiting(self, wanted: Iterable[NewTask], reason: str) -> None:
        """Shows tasks that nobody could place."""
        for new in wanted:
            self._view.put_pending(pending_of(new, reason, explain.FAILED))

    def release(self, ids: set[str]) -> None:
        """Tasks that will not be have no addresses: the allocator failed in the middle."""
        for book in self._view.allocations.books.values():
            for address, holder in list(book.holders.items()):
                if holder in ids:
                    book.release(address, holder)

    def sift(self, changes: list[Change]) -> None:
        """Takes out what was decided for services before they failed: it may be half of a decision."""
        if not self._failed:
            return
        kept: list[Change] = []
        for change in changes:
            if _service_of(change) not in self._failed:
                kept.append(change)
            elif isinstance(change, PutTask) and change.task.id not in self._view.tasks:
                for address in change.task.addresses:
                    self._view.allocations.release(address, change.task)
            elif isinstance(change, PutService):
                self._settle_claims(change.service.id)
        changes[:] = kept

    def _settle_claims(self, service_id: str) -> None:
        service = self._view.services.get(service_id)
        self._view.allocations.settle(service_id, service.endpoint if service is not None else None)


def _service_of(change: Change) -> str:
    return change.task.service_id if isinstance(change, PutTask | DropTask) else change.service.id
