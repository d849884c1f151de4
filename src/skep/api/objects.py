"""Tasks in Docker's JSON (Engine API 1.51), as structs: listing 100,000 is fast. And what all share."""

from __future__ import annotations

import functools
import time

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from skep.model.container import GenericResource
from skep.model.generic import wire_of
from skep.model.network import IPAMConfig, Network
from skep.model.node import ENGINE_SILENT
from skep.model.service import TaskTemplate, iteration_of
from skep.model.spec import TaskSpec
from skep.model.states import RUNNING, STATE_NAMES, is_terminal
from skep.model.task import PendingTask, Task, TaskStatus, assigned_status, known_time
from skep.model.wire import Wire, always_empty_map
from skep.store.view import View

encode = msgspec.json.Encoder().encode
ZERO_TIME = "0001-01-01T00:00:00Z"  # Go's zero time, as Docker writes it


@functools.lru_cache(maxsize=65536)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def reply_time(at: float) -> str:
    """Returns epoch seconds in RFC 3339 with nanoseconds; 0 is Go's zero time."""
    at = known_time(at)
    if not at:
        return ZERO_TIME
    seconds = int(at)
    return f"{_second(seconds)}.{int((at - seconds) * 1e6):06d}000Z"


class AttachedSpecJson(Wire, frozen=True, kw_only=True):
    name: str
    labels: dict[str, str] = field(default_factory=always_empty_map)
    driver_configuration: DriverJson
    ipv6_enabled: bool = field(name="IPv6Enabled", default=False)
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    ipam_options: IpamOptionsJson | None = field(name="IPAMOptions", default=None)
    scope: str = ""


class AttachedNetworkJson(Wire, frozen=True, kw_only=True):
    """A network inside a task, in the swarm's own shape (Engine API 1.51, `NetworkAttachment`)."""

    id: str = field(name="ID")
    version: Version
    created_at: str
    updated_at: str
    spec: AttachedSpecJson
    driver_state: DriverJson
    ipam_options: IpamOptionsJson = field(name="IPAMOptions")


class DriverJson(Wire, frozen=True, kw_only=True):
    name: str = ""
    options: dict[str, str] = {}


class IpamOptionsJson(Wire, frozen=True, kw_only=True):
    driver: DriverJson = field(default_factory=DriverJson)
    configs: list[IPAMConfig] = []


def attached_network(network: Network) -> AttachedNetworkJson:
    """Returns a network as a task shows it."""
    spec, asked = network.spec, network.spec.ipam
    given = IpamOptionsJson()
    if network.is_overlay:
        given = IpamOptionsJson(driver=DriverJson(name="default"), configs=network.pools)
    # Docker completes what was asked for by what was given: the gateway.
    configs = network.pools if asked is not None and asked.config else []
    wanted = IpamOptionsJson(driver=DriverJson(name="default"), configs=configs)
    return AttachedNetworkJson(
        id=network.id,
        version=Version(network.version),
        created_at=reply_time(network.created_at),
        updated_at=reply_time(network.updated_at),
        spec=AttachedSpecJson(
            name=spec.name,
            labels=spec.labels,
            driver_configuration=DriverJson(name=spec.driver, options=spec.options),
            ipv6_enabled=spec.enable_ipv6,
            internal=spec.internal,
            attachable=spec.attachable,
            ingress=spec.ingress,
            ipam_options=wanted if network.is_overlay else None,
            scope="swarm",
        ),
        driver_state=DriverJson(name=spec.driver, options=network.options),
        ipam_options=given,
    )


class Version(Struct, rename="pascal"):
    index: int


class ContainerStatusJson(Struct, rename="pascal"):
    container_id: str = field(name="ContainerID")
    pid: int = field(name="PID")
    exit_code: int


class PortJson(Struct, rename="pascal"):
    protocol: str
    target_port: int
    published_port: int
    publish_mode: str = "host"


class PortStatusJson(Struct, rename="pascal", omit_defaults=True, frozen=True):
    ports: list[PortJson] = []


class TaskStatusJson(Struct, rename="pascal"):
    timestamp: str
    state: str
    message: str
    err: str | msgspec.UnsetType = msgspec.UNSET
    container_status: ContainerStatusJson | msgspec.UnsetType = msgspec.UNSET
    port_status: PortStatusJson = PortStatusJson()


class JobIterationJson(Struct, rename="pascal", omit_defaults=True):
    """Which run of a job; the first, 0, is left out, as Docker does."""

    index: int = 0


class AttachmentJson(Struct, rename="pascal"):
    """A network that a task is on, whole, and the task's address there."""

    network: msgspec.Raw
    addresses: list[str] | msgspec.UnsetType = msgspec.UNSET


class TaskJson(Struct, rename="pascal"):
    id: str = field(name="ID")
    version: Version
    created_at: str
    updated_at: str
    labels: dict[str, str]
    spec: msgspec.Raw
    service_id: str = field(name="ServiceID")
    slot: int | msgspec.UnsetType  # Docker leaves out a global task's 0
    status: TaskStatusJson
    desired_state: str
    node_id: str | msgspec.UnsetType = field(name="NodeID", default=msgspec.UNSET)
    networks_attachments: list[AttachmentJson] | msgspec.UnsetType = msgspec.UNSET
    generic_resources: list[GenericResource] | msgspec.UnsetType = msgspec.UNSET
    job_iteration: JobIterationJson | msgspec.UnsetType = msgspec.UNSET
    volumes: None = None  # cluster volumes; skep has no CSI


class TaskWriter:
    """Turns tasks into Docker's; encodes each version's spec once."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._specs: dict[tuple[str, int], msgspec.Raw] = {}
        self._jobs: dict[str, bool] = {}
        self._networks: dict[str, msgspec.Raw] = {}
        self._node_local: dict[tuple[str, int], list[AttachmentJson]] = {}

    def json(self, task: Task) -> TaskJson:
        status = self._view.status_of(task) or assigned_status(task)
        if task.result is None and self._view.node_state(task.node_id).engine_is_silent:
            status = replace(status, error=status.error or ENGINE_SILENT)  # whatever it was in before
        is_job = self._is_job(task.service_id)
        desired = self._view.desired_of(task)
        if not is_terminal(status.state) and (why := self._view.why_aside(task.service_id, task.node_id)):
            status = replace(status, error=why)
        return TaskJson(
            task.id,
            Version(task.revision),
            reply_time(task.created_at),
            reply_time(max(task.updated_at, status.at)),
            {},
            self._template_spec(task.service_id, task.spec_version, task),
            task.service_id,
            (self._view.shown_slot(task) if is_job else task.slot) or msgspec.UNSET,
            status_json(status),
            "complete" if is_job and desired == RUNNING else STATE_NAMES[desired],
            task.node_id,
            self._attachments(task) or msgspec.UNSET,
            wire_of(task.generic) if task.generic else msgspec.UNSET,
            JobIterationJson(iteration_of(task.spec_version)) if is_job else msgspec.UNSET,
        )

    def _is_job(self, service_id: str) -> bool:
        found = self._jobs.get(service_id)
        if found is None:
            found = self._jobs[service_id] = self._view.is_job(service_id)
        return found

    def pending_json(self, task: PendingTask) -> TaskJson:
        """A task that found no node, or whose node (a global service's) has no room: its status says why."""
        at = reply_time(task.created_at)
        is_job = self._is_job(task.service_id)
        why = self._view.why_aside(task.service_id, task.node_id) or task.reason
        status = TaskStatusJson(at, "pending", "pending task scheduling", err=why or msgspec.UNSET)
        return TaskJson(
            task.id,
            Version(self._view.revision),
            at,
            at,
            {},
            self._template_spec(task.service_id, task.spec_version),
            task.service_id,
            self._view.shown_slot(task) or msgspec.UNSET,
            status,
            "complete" if is_job else "running",
            node_id=task.node_id or msgspec.UNSET,
            job_iteration=JobIterationJson(iteration_of(task.spec_version)) if is_job else msgspec.UNSET,
        )

    def _attachments(self, task: Task) -> list[AttachmentJson]:
        found = [AttachmentJson(self._network(a.network_id), [a.address]) for a in task.addresses]
        key = (task.service_id, task.spec_version)
        node_local = self._node_local.get(key)
        if node_local is None:
            template = self._view.template_of(task)
            attached = (template.spec.networks or template.networks) if template is not None else []
            known = [self._view.networks.get(each.target) for each in attached]
            node_local = [AttachmentJson(self._network(n.id)) for n in known if n and not n.is_overlay]
            self._node_local[key] = node_local
        return [*found, *node_local]

    def _network(self, network_id: str) -> msgspec.Raw:
        found = self._networks.get(network_id)
        if found is None:
            network = self._view.networks.get(network_id)
            found = msgspec.Raw(encode(attached_network(network)) if network else b"{}")
            self._networks[network_id] = found
        return found

    def _template_spec(self, service_id: str, version: int, task: Task | None = None) -> msgspec.Raw:
        key = (service_id, version)
        found = self._specs.get(key)
        if found is None:
            template: TaskTemplate | None
            if task is not None:
                template = self._view.template_of(task)
            else:
                template = self._view.services[service_id].template_of(version)
            found = msgspec.Raw(encode(shown_task(template.spec)) if template is not None else b"{}")
            self._specs[key] = found
        return found


def status_json(status: TaskStatus) -> TaskStatusJson:
    container: ContainerStatusJson | msgspec.UnsetType = msgspec.UNSET
    if status.container_id or status.exit_code:
        container = ContainerStatusJson(status.container_id, status.pid, status.exit_code)
    ports = (
        PortStatusJson([PortJson(p, t, h) for p, t, h in status.ports]) if status.ports else PortStatusJson()
    )
    return TaskStatusJson(
        reply_time(status.at),
        status.state_name,
        status.message,
        status.error or msgspec.UNSET,
        container,
        ports,
    )


def shown_task(task: TaskSpec) -> TaskSpec:
    """See `_shown`; a task's own spec says less than its service's."""
    container = task.container_spec
    if container is None or container.isolation:
        return task
    return replace(task, container_spec=replace(container, isolation="default"))
