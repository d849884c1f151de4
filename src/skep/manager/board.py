"""The swarm at a glance (`model.board`), kept from the view as it changes. Pure.

What may be other is marked, once however often it changes; `work` looks at what is marked, and `change` says
what of it is other. A task costs a look into three dicts a second, at most; the rows that it touches are
encoded once, for the change and for all snapshots after it.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from skep.manager.board_rows import BoardRows, list_of, pairs_of
from skep.model.board import (
    AVAILABILITIES,
    CODES,
    NODE_STATES,
    REMOVING,
    ROLES,
    STATES,
    BoardSwarm,
    NodeRow,
    ServiceRow,
    board_id,
)
from skep.model.node import Node
from skep.model.service import Service
from skep.model.spec import TaskSpec
from skep.model.states import ASSIGNED, COMPLETE, is_terminal
from skep.store.view import View

STEP = 2_000  # tasks, or rows, that are looked at before others have their turn: 3 ms
IMAGE_MAX = 256  # characters of an image's name: longer ones have a digest at their end
_ORPHANED = len(STATES) - 1  # what a task is in whose state an earlier skep stored
_CODE_BITS = 4
_SERVICE_BITS = 28  # of a service's place: etcd is full long before there are so many
_SERVICE_MASK, _CODE_MASK = (1 << _SERVICE_BITS) - 1, (1 << _CODE_BITS) - 1
_encode = msgspec.json.Encoder().encode


class SwarmBoard:
    """Of a new one everything is marked."""

    def __init__(self, view: View, epoch: str, swarm: BoardSwarm) -> None:
        self.epoch = epoch
        self.seq = 0
        self._view = view
        self._swarm = swarm
        self._nodes = BoardRows()
        self._services = BoardRows()
        self._counts: list[dict[int, int]] = []  # by node's place: service's place and code -> tasks
        self._told: list[bytes] = []  # the same, as it was told last
        self._totals: dict[int, int] = {}  # by service's place: tasks
        self._by_node: set[str] = set()  # services of which nodes say how many tasks they want
        self._counted: dict[str, int] = {}  # task -> what it is counted as
        self._pending: dict[str, int] = {}  # service -> tasks without a node
        self._told_pending = b"[]"
        self._touched: set[int] = set()  # nodes' places, where counts may be other
        self._tasks = set(view.tasks)
        self._marked_nodes = set(view.nodes)
        self._marked_services = {*view.services, *view.removed}

    # Marking

    def mark_task(self, task_id: str) -> None:
        self._tasks.add(task_id)

    def mark_node(self, node_id: str) -> None:
        self._marked_nodes.add(node_id)

    def mark_service(self, service_id: str) -> None:
        self._marked_services.add(service_id)

    # Looking

    def work(self) -> Iterator[None]:
        """Looks at all that is marked by now, and stops now and then."""
        tasks, self._tasks = self._tasks, set()
        for number, task_id in enumerate(tasks, 1):
            self._look(task_id)
            if number % STEP == 0:
                yield
        self._look_at_pending()
        services, self._marked_services = self._marked_services, set()
        for number, service_id in enumerate(services, 1):
            self._look_at_service(service_id)
            if number % STEP == 0:
                yield
        nodes, self._marked_nodes = self._marked_nodes, set()
        for number, node_id in enumerate(nodes, 1):
            self._look_at_node(node_id)
            if number % STEP == 0:
                yield

    def _look(self, task_id: str) -> None:
        now, before = self._count_as(task_id), self._counted.get(task_id, -1)
        if now == before:
            return
        if before >= 0:
            self._count(before, -1)
        if now >= 0:
            self._counted[task_id] = now
            self._count(now, +1)
        else:
            del self._counted[task_id]

    def _count_as(self, task_id: str) -> int:
        """Returns node's place, service's place and code in one; -1 for what does not count."""
        task = self._view.tasks.get(task_id)
        if task is None:
            return -1
        status = task.result or self._view.status.get(task_id)
        state = status.state if status is not None else ASSIGNED
        if task.service_id in self._by_node:
            self._marked_services.add(task.service_id)
        if is_terminal(state) and task.desired_state > COMPLETE:
            return -1
        of = self._place_of_node(task.node_id) << _SERVICE_BITS | self._services.index(task.service_id)
        return of << _CODE_BITS | CODES.get(state, _ORPHANED)

    def _count(self, counted: int, sign: int) -> None:
        node, kind = counted >> (_SERVICE_BITS + _CODE_BITS), counted & (_SERVICE_MASK << 4 | _CODE_MASK)
        self._touched.add(node)
        counts = self._counts[node]
        count = counts.get(kind, 0) + sign
        if count:
            counts[kind] = count
        else:
            del counts[kind]
            if not counts:
                self._marked_nodes.add(self._nodes.names[node])  # it may be gone, and now its place is free
        service = kind >> _CODE_BITS
        total = self._totals.get(service, 0) + sign
        self._totals[service] = total
        name = self._services.names[service]
        if total < 2 or name in self._by_node:
            self._marked_services.add(name)  # it may be gone, as its node

    def _look_at_pending(self) -> None:
        pending = {service_id: len(slots) for service_id, slots in self._view.pending.items() if slots}
        for service_id, _ in pending.items() ^ self._pending.items():
            self._marked_services.add(service_id)
        self._pending = pending

    def _look_at_service(self, service_id: str) -> None:
        service = self._view.services.get(service_id)
        if service is None and service_id not in self._services:
            return
        place = self._services.index(service_id)
        is_by_node = service is not None and service.spec.is_everywhere
        (self._by_node.add if is_by_node else self._by_node.discard)(service_id)
        if service is not None:
            self._services.put(service_id, self._service_row(service))
        elif self._totals.get(place):
            self._services.put(service_id, self._removed_row(service_id))
        else:
            self._totals.pop(place, None)
            self._services.drop(service_id)

    def _service_row(self, service: Service) -> ServiceRow:
        spec, update = service.spec, service.update
        image = _image_of(service.template.spec)
        return (
            service.id,
            spec.name,
            spec.mode_name,
            self._wanted(service),
            image,
            update.state if update is not None else "",
        )

    def _wanted(self, service: Service) -> int:
        """Returns how many tasks the service is to have, as Docker counts."""
        job = service.spec.mode.replicated_job
        if job is not None:
            return job.max_concurrent or 0
        replicas = service.spec.replicas
        if replicas is not None:
            return replicas
        return len(self._view.live.get(service.id, ())) + self._pending.get(service.id, 0)

    def _removed_row(self, service_id: str) -> ServiceRow:
        removed = self._view.removed.get(service_id)
        if removed is None:
            return (service_id, service_id, "", 0, "", REMOVING)
        image = _image_of(removed.templates[-1].spec) if removed.templates else ""
        return (service_id, removed.name, "", 0, image, REMOVING)

    def _place_of_node(self, node_id: str) -> int:
        place = self._nodes.index(node_id)
        if place == len(self._counts):
            self._counts.append({})
            self._told.append(b"[]")
        return place

    def _look_at_node(self, node_id: str) -> None:
        node = self._view.nodes.get(node_id)
        if node is None and node_id not in self._nodes:
            return
        place = self._place_of_node(node_id)
        if node is not None:
            self._nodes.put(node_id, self._node_row(node))
        elif self._counts[place]:
            self._nodes.put(node_id, None)
        else:
            self._nodes.drop(node_id)

    def _node_row(self, node: Node) -> NodeRow:
        return (
            node.id,
            node.description.hostname,
            ROLES.index(self._view.role_of(node)),
            NODE_STATES.index(self._view.node_state(node.id).state),
            AVAILABILITIES.index(node.spec.availability),
        )

    # Telling

    @property
    def id(self) -> str:
        """Returns what names the state that was told last."""
        return board_id(self.epoch, self.seq)

    def settle(self) -> None:
        """What was looked at so far is no news: it is what snapshots begin with."""
        self._counts_news()
        self._nodes.news()
        self._services.news()
        self._told_pending = self._flat_pending()

    def change(self, at: float) -> bytes | None:
        """Returns what is other than when this was asked last (`BoardChange`), as JSON; None where nothing
        is. `at` is now, in seconds since the epoch."""
        tasks = self._counts_news()
        nodes, services, pending = self._nodes.news(), self._services.news(), self._flat_pending()
        if not (tasks or nodes or services or pending != self._told_pending):
            return None
        self._told_pending = pending
        self.seq += 1
        return b'{"seq":%d,"at":%.3f,"nodes":%b,"services":%b,"tasks":%b,"pending":%b,"leader":%b}' % (
            self.seq,
            at,
            pairs_of(nodes),
            pairs_of(services),
            pairs_of(tasks),
            pending,
            _encode(self._swarm.leader),
        )

    def snapshot(self, at: float) -> bytes:
        """Returns all as it was told last (`BoardSnapshot`), as JSON."""
        return (
            b'{"epoch":%b,"seq":%d,"at":%.3f,"swarm":%b,"states":%b,"nodes":%b,"services":%b,"tasks":%b,"pending":%b}'
            % (
                _encode(self.epoch),
                self.seq,
                at,
                _encode(self._swarm),
                _encode(STATES),
                list_of(self._nodes.rows),
                list_of(self._services.rows),
                list_of(self._told),
                self._told_pending,
            )
        )

    def _counts_news(self) -> dict[int, bytes]:
        touched, self._touched = self._touched, set()
        news = {}
        for place in touched:
            flat: list[int] = []
            for kind, count in sorted(self._counts[place].items()):
                flat += (kind >> _CODE_BITS, kind & _CODE_MASK, count)
            told = _encode(flat)
            if told != self._told[place]:
                self._told[place] = news[place] = told
        return news

    def _flat_pending(self) -> bytes:
        flat: list[int] = []
        for place, count in sorted((self._services.index(each), n) for each, n in self._pending.items()):
            flat += (place, count)
        return _encode(flat)


def _image_of(spec: TaskSpec) -> str:
    container = spec.container_spec
    return "" if container is None else container.image[:IMAGE_MAX]
