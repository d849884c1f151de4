"""What the mesh is now: its network, and published services as nodes are to be told of them.

A service is looked at when something of it has changed, and when somebody wants to know; of one that is told
in parts only those tasks that have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from itertools import islice

import structlog
from msgspec import Struct
from msgspec.structs import replace

from skep.model.data_path import NFTABLES
from skep.model.mesh import ENDPOINTS_MAX, MeshService
from skep.model.overlay import OverlayNetwork
from skep.model.task import Task
from skep.store.view import View

from .mesh import is_published, mesh_endpoint, mesh_network, mesh_service, mesh_words
from .mesh_cut import parts_of
from .mesh_parted import PartedService
from .mesh_teller import PartsTeller
from .overlay_views import replicas_wanted

log = structlog.get_logger()


class Settled(Struct, frozen=True):
    """What is otherwise than when it was settled before: these services, and whether the network and the
    data path are; nodes that `came` have tasks in the mesh now, those that `left` have none any more."""

    services: set[str]
    is_network: bool
    is_data_path: bool
    came: set[str]
    left: set[str]


class MeshServices:
    """Services that are told in parts are kept in `parts`. `deaf` are nodes of an earlier skep, or without a
    mesh, `earlier` those that know the mesh, and no parts: by the latest word of each."""

    def __init__(self, view: View, parts: PartsTeller, deaf: Set[str], earlier: Set[str]) -> None:
        self._view = view
        self._parts = parts
        self._deaf = deaf
        self._earlier = earlier
        self._network: OverlayNetwork | None = None
        self._data_path = NFTABLES
        self._services: dict[str, MeshService] = {}
        self._hosts: Counter[str] = Counter()  # nodes that have tasks in the mesh: how many
        self._over: set[str] = set()  # services in parts of which earlier agents hear some tasks only
        self._dirty: set[str] = set()
        self._dirty_words: set[str] = set()  # of these more than tasks has changed
        self._dirty_tasks: dict[str, dict[str, None]] = {}  # by service: of the others, in parts
        self._urgent_tasks: dict[str, dict[str, None]] = {}  # the same of those that are to end
        self._most: int | None = None

    # As it was settled last

    @property
    def network(self) -> OverlayNetwork | None:
        """Returns the network that the mesh is on; None: there is none."""
        return self._network

    @property
    def data_path(self) -> str:
        return self._data_path

    @property
    def whole(self) -> Mapping[str, MeshService]:
        """Returns services that are told whole, to somebody at least."""
        return self._services

    @property
    def hosts(self) -> Set[str]:
        """Returns the nodes that have tasks of those."""
        return self._hosts.keys()

    @property
    def is_empty(self) -> bool:
        """Returns whether there is nothing to tell, whole or in parts."""
        return not self._services and not self._parts.services

    @property
    def is_dirty(self) -> bool:
        """Returns whether something may have changed since."""
        return bool(self._dirty)

    @property
    def is_other_data_path(self) -> bool:
        """Returns whether the swarm's settings say another data path since."""
        return _data_path(self._view) != self._data_path

    def concerns(self, service_id: str) -> bool:
        """Returns whether nodes hear, or may have heard, of the service."""
        is_known = service_id in self._services or service_id in self._parts.services
        return is_known or is_published(self._view, service_id)

    def count_of(self, service: PartedService) -> int:
        """Returns in how many parts the service is to be told."""
        tasks = max(service.size, replicas_wanted(self._view, service.words.id))
        return parts_of(tasks, len(self._view.nodes), service.cut.count)

    # What may have changed

    def touch_task(self, task: Task, is_urgent: bool = False) -> None:
        """A task may be otherwise. `is_urgent`: it is to end, and is looked at the next time in any case."""
        self._dirty.add(task.service_id)
        if task.service_id in self._parts.services:
            found = self._urgent_tasks if is_urgent else self._dirty_tasks
            found.setdefault(task.service_id, {})[task.id] = None

    def touch_service(self, service_id: str) -> None:
        """More of a service than tasks may be otherwise."""
        self._dirty.add(service_id)
        self._dirty_words.add(service_id)

    def touch_parted(self) -> None:
        """Services told in parts may be otherwise for earlier agents."""
        self._dirty.update(self._parts.services)

    # Settling

    def settle(self, most: int | None = None) -> Settled:
        """Takes all that has changed as it is now; of tasks of services that are told in parts no more than
        so many, and those that cannot wait."""
        dirty, self._dirty, self._most = self._dirty, set(), most
        network, data_path = mesh_network(self._view), _data_path(self._view)
        is_network, is_data_path = network != self._network, data_path != self._data_path
        self._network, self._data_path = network, data_path
        if is_network:
            dirty.update(self._services)
            dirty.update(self._parts.services)
            self._dirty_words.update(self._parts.services)
        before = set(self._hosts)
        services = {each for each in sorted(dirty) if self._is_news(each)}
        now = set(self._hosts)
        return Settled(services, is_network, is_data_path, now - before, before - now)

    def _is_news(self, service_id: str) -> bool:
        """Takes a service as it is now. One that cannot be understood costs nobody else his."""
        try:
            return self._settle(service_id)
        except Exception:
            log.exception("mesh.service_failed", service_id=service_id)
            self._dirty_words.add(service_id)  # of which tasks something is new nobody knows any more
            return False

    def _settle(self, service_id: str) -> bool:
        before, was_parted = self._services.get(service_id), service_id in self._parts.services
        now = self._now(service_id)
        if now == before and was_parted == (service_id in self._parts.services):
            return False
        if now is None:
            self._services.pop(service_id, None)
        else:
            self._services[service_id] = now
        self._hosts.subtract(each.node_id for each in (before.endpoints if before is not None else ()))
        self._hosts.update(each.node_id for each in (now.endpoints if now is not None else ()))
        self._hosts = +self._hosts  # without those that have none any more
        return True

    def _now(self, service_id: str) -> MeshService | None:
        """Returns a service as all nodes are told of it; of one that is told in parts, what those are that
        know no parts. None: nothing."""
        is_other = service_id in self._dirty_words
        self._dirty_words.discard(service_id)
        if self._network is None:
            if service_id in self._parts.services:
                self._parts.remove(service_id)
            return None
        service, whole = self._parts.services.get(service_id), None
        if service is None:
            wanted = replicas_wanted(self._view, service_id)
            count = self._count(service_id, wanted)
            if count == 1:
                whole = mesh_service(self._view, service_id, self._network.id, self._deaf)
                count = self._count(service_id, len(whole.endpoints) if whole is not None else 0)
            if count == 1:
                return whole
            service, is_other = self._parts.add(mesh_words(self._view, service_id), count), True
            self._most = None  # it was told whole, and is to be so
        self._settle_tasks(service, is_other)
        is_nobodys = not service.size and not service.words.ports
        is_known = service_id not in self._dirty_tasks  # else more of it comes
        if is_known and (is_nobodys or self.count_of(service) == 1):
            self._parts.remove(service_id)
            self._over.discard(service_id)
        elif not self._earlier:
            return None
        return mesh_service(self._view, service_id, self._network.id, self._deaf)

    def _count(self, service_id: str, tasks: int) -> int:
        """Returns in how many parts a service is to be told of which nobody knows here."""
        return parts_of(tasks, len(self._view.nodes), self._parts.count_before(service_id))

    def _settle_tasks(self, service: PartedService, is_other: bool) -> None:
        """Takes tasks of the service as they are now that may be others; `is_other`: all of them."""
        id = service.words.id
        assert self._network is not None
        # Tasks of nodes that know no parts, and which are not among those that they hear of, are led to by
        # nobody: such a node knows no way back for them.
        is_over = bool(self._earlier) and max(service.size, replicas_wanted(self._view, id)) > ENDPOINTS_MAX
        if is_over != (id in self._over):
            self._over ^= {id}
            is_other = True
        deaf = self._deaf | self._earlier if is_over else self._deaf
        if is_other:
            service.put_words(mesh_words(self._view, id))
            touched = self._dirty_tasks.setdefault(id, {})
            touched.update(dict.fromkeys(service.tasks()))
            touched.update((each.id, None) for each in self._view.tasks_of_service(id))
        view, network_id, versions = self._view, self._network.id, set[int]()
        for task_id in self._take_tasks(id):
            task = view.tasks.get(task_id)
            endpoint = mesh_endpoint(view, task, network_id, deaf) if task is not None else None
            if task is None or endpoint is None:
                service.drop(task_id)
                continue
            if task.spec_version not in versions and not service.has(task_id):
                versions.add(task.spec_version)
                is_alone = service.words.is_alone and len(view.demand(id, task.spec_version).networks) <= 1
                service.put_words(replace(service.words, is_alone=is_alone))
            service.put(task_id, endpoint)

    def _take_tasks(self, service_id: str) -> dict[str, None]:
        """Returns which tasks of the service are to be looked at now; what is left is dirty still."""
        taken, left = self._urgent_tasks.pop(service_id, {}), self._dirty_tasks.pop(service_id, {})
        if self._most is None or len(left) <= self._most:
            return {**taken, **left}
        for task_id in list(islice(left, self._most)):
            taken[task_id] = left.pop(task_id)
        self._dirty_tasks[service_id] = left
        self._dirty.add(service_id)
        return taken


def _data_path(view: View) -> str:
    return view.cluster.data_path if view.cluster is not None else NFTABLES
