"""A service as it is stored: the user's spec, the task specs still in use, the state of its update."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from skep.runtime.errors import Invalid

from .access import HostAccess, access_of
from .spec import EndpointSpec, ServiceSpec, TaskSpec

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
    ports: str = ""  # the endpoint as canonical JSON: a change of ports needs new tasks
    access: HostAccess | None = None  # by the service's labels: a change of it needs new tasks, too

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
    return TaskTemplate(version=1, spec=spec.task_template, ports=_ports(spec), access=access)


def with_template(templates: list[TaskTemplate], spec: ServiceSpec) -> list[TaskTemplate]:
    """Returns the templates with that of the spec last; an equal older one is taken up again, and its tasks
    are up to date."""
    wanted = first_template(spec)
    for known in templates:
        if msgspec.structs.replace(known, version=1) == wanted:
            return [*(t for t in templates if t is not known), known]
    version = max(t.version for t in templates) + 1
    return [*templates, msgspec.structs.replace(wanted, version=version)]


def _ports(spec: ServiceSpec) -> str:
    """The endpoint in canonical form: a change of it needs new tasks (swarmkit's isTaskDirty)."""
    return _canonical.encode(spec.endpoint_spec).decode() if spec.endpoint_spec else ""


class UpdateStatus(Struct, frozen=True, kw_only=True):
    """Progress of a rolling update. Written by the updater."""

    state: str  # updating | paused | completed | rollback_started | rollback_paused | rollback_completed
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


class RemovedService(Struct, frozen=True, kw_only=True):
    """A service that was removed while tasks of it still exist: all of them are to be removed.

    One small write decides for all tasks; the marker goes with the last of them.
    """

    id: str
    name: str
    templates: list[TaskTemplate]
    removed_at: float
    version: int = 0
