"""What a node is told of its tasks: the whole set at the start of a session, then differences."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from skep.model.cluster import TaskDefaults
from skep.model.mesh import bridge_name
from skep.model.network import Network
from skep.model.service import RegistryAuth, TaskTemplate
from skep.model.states import is_terminal
from skep.model.task import Task
from skep.rpc.interfaces import FRAME_MAX_BYTES
from skep.rpc.messages import Assign, AssignedTask, ServiceTemplate, TaskNetwork, encode
from skep.store.view import View

from .mesh import vni_of

AHEAD_MAX_BYTES = FRAME_MAX_BYTES // 2  # of templates in one frame; the largest has 2 MB, as the API takes it
PRUNE_MIN = 64  # templates a node keeps before it is looked which of them are still in use


class Sent:
    """What the agent of one session has: templates, (service, version), the swarm's defaults, secrets.
    `has_overlays`: it knows how networks reach across hosts."""

    __slots__ = ("defaults", "has_overlays", "keys", "materials", "prune_at")

    def __init__(self, has_overlays: bool = True) -> None:
        self.has_overlays = has_overlays
        self.keys: dict[tuple[str, int], RegistryAuth | None] = {}
        self.prune_at = PRUNE_MIN
        self.materials: set[str] = set()  # secrets and configs
        self.defaults: TaskDefaults | None = None

    def take_defaults(self, view: View) -> TaskDefaults | None:
        """Returns the defaults where they are not what the agent has."""
        now = view.cluster.spec.task_defaults if view.cluster is not None else TaskDefaults()
        if now == self.defaults:
            return None
        self.defaults = now
        return now

    def take_outdated(self, view: View, node_id: str) -> list[tuple[str, int]]:
        """Returns templates that no task of the node uses, and forgets them; looks only now and then."""
        if len(self.keys) < self.prune_at:
            return []
        used = {(task.service_id, task.spec_version) for task in view.tasks_of_node(node_id)}
        outdated = sorted(self.keys.keys() - used)
        for key in outdated:
            del self.keys[key]
        self.prune_at = max(PRUNE_MIN, 2 * len(self.keys))
        return outdated


def complete(view: View, node_id: str, sent: Sent) -> Assign:
    """Returns everything the node is to run, and the finished tasks whose containers it keeps. Where not all
    of that can be read from the store, it is not said to be all: the node would end the rest."""
    tasks: list[AssignedTask] = []
    kept: list[str] = []
    templates: list[ServiceTemplate] = []
    is_whole = not view.is_half_known(node_id)
    for task in view.tasks_of_node(node_id):
        if not is_whole and view.template_of(task) is None:
            continue
        status = view.status_of(task)
        # Also where the end was only heard of so far: a node that has lost everything must not begin again.
        if status is not None and is_terminal(status.state):
            kept.append(task.id)
            continue
        tasks.append(_assigned(view, task))
        _add_template(view, task, sent, templates)
    defaults = sent.take_defaults(view)
    held = sorted(sent.materials)
    return Assign(
        complete=is_whole, templates=templates, tasks=tasks, kept=kept, defaults=defaults, held=held
    )


def difference(
    view: View, node_id: str, put: Iterable[Task], dropped: Iterable[Task], sent: Sent
) -> Assign | None:
    """Returns what one commit changed for one node; None where the node knows it already."""
    tasks: list[AssignedTask] = []
    templates: list[ServiceTemplate] = []
    for task in put:
        if task.result is None:
            tasks.append(_assigned(view, task))
            _add_template(view, task, sent, templates)
    ids = [task.id for task in dropped]
    if not tasks and not ids:
        return None
    outdated = sent.take_outdated(view, node_id)
    defaults = sent.take_defaults(view)
    return Assign(templates=templates, tasks=tasks, dropped=ids, outdated=outdated, defaults=defaults)


def frames(assign: Assign) -> list[bytes]:
    """Returns a message as it is sent: one frame, or several where one cannot have all its templates."""
    whole = encode(assign)
    if len(whole) <= FRAME_MAX_BYTES:
        return [whole]  # nearly always: nothing was measured for it
    return [encode(part) for part in (*_ahead(assign), replace(assign, templates=[]))]


def _ahead(assign: Assign) -> list[Assign]:
    """Returns the templates in parts, each template with a task that uses it: others an agent would let go
    when the complete set comes. The task is named again there, which changes nothing."""
    users = {(task.service_id, task.spec_version): task for task in assign.tasks}
    parts: list[list[ServiceTemplate]] = [[]]
    size = 0
    for template in assign.templates:
        length = len(encode(template))
        if parts[-1] and size + length > AHEAD_MAX_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(template)
        size += length
    return [
        Assign(
            templates=part,
            tasks=[users[t.service_id, t.version] for t in part],
            defaults=assign.defaults,
            lead=assign.lead,
        )
        for part in parts
    ]


def _assigned(view: View, task: Task) -> AssignedTask:
    return AssignedTask(
        task.id,
        task.service_id,
        task.spec_version,
        view.shown_slot(task),
        view.desired_of(task),
        task.generic,
        task.addresses,
    )


def _add_template(view: View, task: Task, sent: Sent, templates: list[ServiceTemplate]) -> None:
    key = (task.service_id, task.spec_version)
    service = view.services.get(task.service_id)
    auth = service.registry_auth if service is not None else None
    if key in sent.keys and (service is None or sent.keys[key] == auth):
        return
    template = view.template_of(task)
    if template is None:
        return
    sent.keys[key] = auth
    if service is None:
        name, labels = view.removed[task.service_id].name, {}
    else:
        name, labels = service.spec.name, service.spec.labels
    ports = [p for p in template.endpoint.ports if p.publish_mode == "host"]  # of its own version
    networks = _networks(view, task, template, name)
    if not sent.has_overlays:
        networks = [as_before(each, view) for each in networks]
    templates.append(
        ServiceTemplate(
            task.service_id,
            task.spec_version,
            name,
            labels,
            template.spec,
            ports,
            auth,
            template.access,
            networks,
        )
    )


def _networks(view: View, task: Task, template: TaskTemplate, name: str) -> list[TaskNetwork]:
    """Returns the networks of a service's tasks in the order of its spec, the routing mesh's last."""
    found: list[TaskNetwork] = []
    for attached in template.spec.networks or template.networks:
        network = view.networks.get(attached.target)
        if network is not None and all(each.id != network.id for each in found):
            # As long as no DNS of the swarm's answers: the engine's knows the tasks of its own host.
            aliases = list(dict.fromkeys([name, f"tasks.{name}", *attached.aliases]))
            found.append(task_network(network, aliases, attached.driver_opts))
    for network_id in view.demand(task.service_id, task.spec_version).networks:
        network = view.networks.get(network_id)
        if network is not None and network.spec.ingress:
            found.append(task_network(network, [], {}))
    return found


def task_network(network: Network, aliases: list[str], driver_opts: dict[str, str]) -> TaskNetwork:
    spec = network.spec
    return TaskNetwork(
        id=network.id,
        name=spec.name,
        driver=spec.driver,
        subnet=network.pools[0].subnet if network.pools else "",
        is_internal=spec.internal,
        is_ipv6=spec.enable_ipv6,
        aliases=aliases if network.is_overlay else [],
        driver_opts=driver_opts,
        options=spec.options,
        config_from=spec.config_from.network if spec.config_from is not None else "",
        bridge=bridge_name(vni_of(network)) if network.is_overlay and vni_of(network) else "",
    )


def as_before(network: TaskNetwork, view: View) -> TaskNetwork:
    """Returns a network as an agent of an earlier skep is told of it: that one looks after the bridge of the
    routing mesh, and would take others away."""
    known = view.networks.get(network.id)
    return network if known is not None and known.spec.ingress else replace(network, bridge="")


def is_news(view: View, task: Task, state: int) -> bool:
    """True where a report makes somebody decide: a task ended, or others in its slot wait for it."""
    if is_terminal(state):
        return True
    slot = view.slot(task.service_id, task.slot or task.node_id)
    return len(slot) > 1
