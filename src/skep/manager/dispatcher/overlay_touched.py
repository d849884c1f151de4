"""What may be another than it is known of one overlay network, and taking it as it is now. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice

from msgspec.structs import replace

from skep.model.attachment import Attachment
from skep.model.task import Task
from skep.store.view import View

from .overlay_state import OverlayState
from .overlay_views import overlay_attachment, overlay_task, overlay_words

# Networks that are known to be the routing mesh's: there is one at a time, and users may make it anew.
IGNORED_MAX = 64


class Touched:
    """`tasks` are by id, with their services, and `urgent` those that cannot wait; `services` are those of
    which more than tasks has changed; `addresses` those of all tasks of such services."""

    __slots__ = ("addresses", "attachments", "services", "tasks", "urgent")

    def __init__(self) -> None:
        self.tasks: dict[str, str] = {}
        self.urgent: dict[str, str] = {}
        self.services: dict[str, None] = {}
        self.attachments: dict[str, Attachment] = {}
        self.addresses: list[str] = []

    def __bool__(self) -> bool:
        return any((self.tasks, self.urgent, self.services, self.attachments, self.addresses))

    def take(self, state: OverlayState, most: int) -> dict[str, str]:
        """Returns tasks that are to be looked at: all that are urgent, and so many of the others."""
        taken, self.urgent = self.urgent, {}
        for task_id in list(islice(self.tasks, most)):
            taken[task_id] = self.tasks.pop(task_id)
        count = max(0, len(self.addresses) + len(taken) - most)
        taken.update((each.holder_id, each.service_id) for each in state.held(self.addresses[count:]))
        del self.addresses[count:]
        return taken


class Dirty:
    """The same of all networks, by network."""

    def __init__(self) -> None:
        self._networks: dict[str, Touched] = {}
        self._ignored: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._networks))

    def touch(self, network_id: str) -> Touched:
        """Something is to be told of the network. Returns what is touched of it so far."""
        touched = self._networks.get(network_id)
        if touched is None:
            touched = self._networks[network_id] = Touched()
        return touched

    def ignore(self, network_id: str) -> None:
        """Tasks of the network are nobody's matter from now on: it is the routing mesh's, which it stays."""
        if len(self._ignored) >= IGNORED_MAX:
            self._ignored.clear()
        self._ignored.add(network_id)

    def touch_task(self, task: Task, is_urgent: bool = False) -> bool:
        """Returns whether somebody may have to hear of it."""
        is_touched = False
        for given in task.addresses:
            if given.network_id not in self._ignored:
                touched = self.touch(given.network_id)
                (touched.urgent if is_urgent else touched.tasks)[task.id] = task.service_id
                is_touched = True
        return is_touched

    def touch_attachments(self, attachments: Iterable[Attachment]) -> None:
        for each in attachments:
            self.touch(each.address.network_id).attachments[each.id] = each

    def take(self, network_id: str) -> Touched | None:
        """Returns what is touched of the network, and is taken to be looked at; None: nothing is."""
        return self._networks.pop(network_id, None)

    def is_urgent(self, network_id: str) -> bool:
        """Returns whether something of the network cannot wait."""
        touched = self._networks.get(network_id)
        return touched is not None and bool(touched.urgent)

    def keep(self, network_id: str, touched: Touched) -> None:
        """What is left of it is looked at later."""
        self._networks[network_id] = touched


def settle(
    view: View, network_id: str, state: OverlayState, touched: Touched, deaf: Collection[str], most: int
) -> dict[str, Exception]:
    """Takes what was touched as it is now, of tasks that are not urgent at most so many; the others are left.
    Returns the services that cannot be understood, with the reason: they stay as they were, and cost nobody
    else. Cost: what was touched."""
    failed: dict[str, Exception] = {}
    for service_id in touched.services:
        try:
            _settle_service(view, network_id, state, touched, service_id)
        except Exception as error:
            failed[service_id] = error
    touched.services.clear()
    for task_id, service_id in touched.take(state, most).items():
        try:
            _settle_task(view, network_id, state, task_id, deaf)
        except Exception as error:
            failed[service_id] = error
    for attachment in touched.attachments.values():
        try:
            _settle_attachment(view, network_id, state, attachment, deaf)
        except Exception as error:
            failed[attachment.id] = error
    touched.attachments.clear()
    return failed


def _settle_service(
    view: View, network_id: str, state: OverlayState, touched: Touched, service_id: str
) -> None:
    service = state.services.get(service_id)
    if service is None:
        return  # it is looked at with its first task
    words, is_removed = overlay_words(view, service_id, network_id), service_id in view.removed
    if words.name != service.words.name or is_removed != service.is_removed:
        # Its tasks are called another name by now, or none of them takes new connections.
        for addresses in (*service.parts, service.waiting):
            touched.addresses.extend(addresses)
    state.put_words(words)
    state.set_removed(service_id, is_removed)


def _settle_task(
    view: View, network_id: str, state: OverlayState, task_id: str, deaf: Collection[str]
) -> None:
    task = view.tasks.get(task_id)
    endpoint = overlay_task(view, task, network_id, deaf) if task is not None else None
    if task is None or endpoint is None:
        state.drop(task_id)
        return
    service_id = task.service_id
    if service_id not in state.services:
        state.put_words(overlay_words(view, service_id, network_id))
        state.set_removed(service_id, service_id in view.removed)
    state.put(task_id, service_id, endpoint)


def _settle_attachment(
    view: View, network_id: str, state: OverlayState, attachment: Attachment, deaf: Collection[str]
) -> None:
    now = overlay_attachment(view, attachment, deaf)
    if now is None:
        state.drop(attachment.id)
        return
    state.put_words(replace(now, endpoints=()))
    state.put(attachment.id, attachment.id, now.endpoints[0])
