"""A service as it is stored: the user's spec, the task specs still in use, the state of its update."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from skep.runtime.errors import Invalid

from .access import HostAccess, access_of
from .container import NetworkAttachmentConfig, PortConfig
from .spec import EndpointSpec, ServiceSpec, TaskSpec

KEPT_MIN = 8  # templates of a service before it is looked which of them tasks still use
RECENT = 3  # kept in any case: a pass of the reconciler may be writing tasks of them

_canonical = msgspec.json.Encoder(order="deterministic")


class RegistryAuth(Struct, frozen=True, array_like=True):
    """What a client gave for pulling the image (its `X-Registry-Auth`), as it came. For nodes with tasks of
    the service only; no answer of the API has it."""

    encoded: str

    def __repr__(self) -> str:
        """Whatever prints a service (a log, a trace) does not show it."""
        return "RegistryAuth(…)"


class TaskTemplate(Struct, frozen=True, kw_only=True):
    """One version of what the service's tasks run. Stored once, never copied into tasks."""

    version: int
    spec: TaskSpec
    networks: list[NetworkAttachmentConfig] = []  # the service's own, where the task spec names none
    ports: str = ""  # the endpoint as canonical JSON: a change of ports needs new tasks
    access: HostAccess | None = None  # by the service's labels: a change of it needs new tasks, too
    kin: int = 0  # the first of the versions that differ from this one in their placement only; 0: itself

    @property
    def runs(self) -> int:
        """Names what tasks run, wherever they may: the same where only the placement differs."""
        return self.kin or self.version

    @property
    def endpoint(self) -> EndpointSpec:
        """How this version publishes its ports."""
        return msgspec.json.decode(self.ports, type=EndpointSpec) if self.ports else EndpointSpec()


def first_template(spec: ServiceSpec) -> TaskTemplate:
    """Returns what the tasks of a new service run. Labels of ours that make no sense ask for nothing: the
    control API refuses them, but a service of an earlier skep may have them."""
    try:
        access = access_of(spec.labels)
    except Invalid:
        access = None
    return TaskTemplate(
        version=1, spec=spec.task_template, networks=spec.networks, ports=_ports(spec), access=access
    )


def with_template(
    templates: list[TaskTemplate], spec: ServiceSpec, in_use: Collection[int] | None = None
) -> list[TaskTemplate]:
    """Returns the templates with that of the spec last; an equal older one is taken up again, and its tasks
    are up to date. A job's is always new: each update runs it again. `in_use`, where it is given:
    of the others only the latest are kept.
    """
    wanted = first_template(spec)
    version = max(t.version for t in templates) + 1
    if in_use is not None:
        templates = still_needed(templates, in_use, RECENT)
    kin, asked = 0, _in_order(wanted)
    for known in () if spec.is_job else templates:
        same = _in_order(replace(known, version=1, kin=0))
        if same == asked:
            return [*(t for t in templates if t is not known), known]
        if replace(same, spec=replace(same.spec, placement=wanted.spec.placement)) == asked:
            kin = known.runs
    return [*templates, replace(wanted, version=version, kin=kin)]


def _in_order(template: TaskTemplate) -> TaskTemplate:
    """Returns the template with its secrets and configs in one order. Theirs says nothing, and `docker stack
    deploy` gives those of one name in any: deployed again, a stack would start new tasks by chance."""
    container = template.spec.container_spec
    if container is None or not (container.secrets or container.configs):
        return template
    secrets, configs = sorted(container.secrets, key=repr), sorted(container.configs, key=repr)
    container = replace(container, secrets=secrets, configs=configs)
    return replace(template, spec=replace(template.spec, container_spec=container))


def still_needed(templates: list[TaskTemplate], in_use: Collection[int], recent: int) -> list[TaskTemplate]:
    """Returns those that tasks use, the last `recent`, and in any case that of the highest version, whose
    number must not be given again: nodes know templates by it."""
    highest = max(t.version for t in templates)
    older = [t for t in templates[:-recent] if t.version in in_use or t.version == highest]
    return [*older, *templates[-recent:]]


def _ports(spec: ServiceSpec) -> str:
    """The endpoint in canonical form: a change of it needs new tasks (swarmkit's isTaskDirty)."""
    return _canonical.encode(spec.endpoint_spec).decode() if spec.endpoint_spec else ""


def iteration_of(version: int) -> int:
    """Returns which run of a job a version of its template is: each update of a job makes a new one."""
    return version - 1


class VirtualIP(Struct, frozen=True, kw_only=True):
    """A service's own address on a network; none on a node-local one."""

    network_id: str
    addr: str = ""  # with its prefix length


class Endpoint(Struct, frozen=True, kw_only=True):
    """What a service was given: its published ports, automatic ones too, and its virtual addresses."""

    ports: list[PortConfig] = []
    vips: list[VirtualIP] = []


# How an update, or the way back from one, goes: Docker's words.
UPDATE_STATES = (
    "updating",
    "paused",
    "completed",
    "rollback_started",
    "rollback_paused",
    "rollback_completed",
)


class UpdateStatus(Struct, frozen=True, kw_only=True):
    """Progress of a rolling update. Written by the updater."""

    state: str  # one of `UPDATE_STATES`
    started_at: float
    completed_at: float = 0.0
    message: str = ""


class Service(Struct, frozen=True, kw_only=True):
    """A service; `spec` by the control API, `update` by the updater."""

    id: str
    spec: ServiceSpec
    templates: list[TaskTemplate]  # newest last; older ones only while tasks of them exist
    created_at: float
    updated_at: float
    previous_spec: ServiceSpec | None = None
    update: UpdateStatus | None = None
    last_execution_at: float = 0.0  # jobs: when the present iteration was ordered
    endpoint: Endpoint | None = None  # None: it needs nothing
    version: int = 0
    registry_auth: RegistryAuth | None = None
    previous_registry_auth: RegistryAuth | None = None  # goes with `previous_spec`

    @property
    def template(self) -> TaskTemplate:
        """The version that new tasks run."""
        return self.templates[-1]

    def template_of(self, version: int) -> TaskTemplate:
        """The version a task runs; the newest where that one is gone (only a finished task's can be)."""
        for template in self.templates:
            if template.version == version:
                return template
        return self.templates[-1]

    @property
    def completions(self) -> int:
        """How many slots a replicated job has; 0 for other services."""
        job = self.spec.mode.replicated_job
        return 0 if job is None else (job.total_completions or 0)


class RemovedService(Struct, frozen=True, kw_only=True):
    """A service that was removed while tasks of it still exist: all of them are to be removed.

    One small write decides for all tasks; the marker goes with the last of them.
    """

    id: str
    name: str
    templates: list[TaskTemplate]
    removed_at: float
    is_job: bool = False
    version: int = 0
