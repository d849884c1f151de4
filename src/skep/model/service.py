"""A service as it is stored: the user's spec, the task specs still in use, the state of its update."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from .spec import EndpointSpec, ServiceSpec, TaskSpec


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

    @property
    def endpoint(self) -> EndpointSpec:
        """How this version publishes its ports."""
        return msgspec.json.decode(self.ports, type=EndpointSpec) if self.ports else EndpointSpec()


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
