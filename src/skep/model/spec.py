"""ServiceSpec and its parts: what a user asks for (Docker Engine API 1.51). Durations in ns."""

from __future__ import annotations

from msgspec import field
from msgspec.structs import force_setattr

from .container import (
    ContainerSpec,
    LogDriver,
    NetworkAttachmentConfig,
    PortConfig,
    ResourceRequirements,
    RestartPolicy,
)
from .wire import Uint, Wire, always_empty_map, always_empty_text, always_zero, always_zero_ratio, as_go_float


class SpreadOver(Wire, frozen=True, kw_only=True):
    spread_descriptor: str = ""


class PlacementPreference(Wire, frozen=True, kw_only=True):
    spread: SpreadOver | None = None


class Platform(Wire, frozen=True, kw_only=True):
    architecture: str = ""
    os: str = field(default="", name="OS")


class Placement(Wire, frozen=True, kw_only=True):
    constraints: list[str] = []
    preferences: list[PlacementPreference] = []
    max_replicas: Uint = 0
    platforms: list[Platform] = []


class PluginPrivilege(Wire, frozen=True, kw_only=True):
    name: str = ""
    description: str = ""
    value: list[str] = []


class PluginSpec(Wire, frozen=True, kw_only=True):
    name: str = ""
    remote: str = ""
    disabled: bool = False
    plugin_privilege: list[PluginPrivilege] = []


class NetworkAttachmentSpec(Wire, frozen=True, kw_only=True):
    container_id: str = field(default="", name="ContainerID")


class TaskSpec(Wire, frozen=True, kw_only=True):
    """What each task of a service runs, and where it may."""

    plugin_spec: PluginSpec | None = None
    container_spec: ContainerSpec | None = None
    network_attachment_spec: NetworkAttachmentSpec | None = None
    resources: ResourceRequirements | None = None
    restart_policy: RestartPolicy | None = None
    placement: Placement | None = None
    networks: list[NetworkAttachmentConfig] = []
    log_driver: LogDriver | None = None
    force_update: Uint = field(default_factory=always_zero)
    runtime: str = ""


class ReplicatedMode(Wire, frozen=True, kw_only=True):
    replicas: Uint | None = None


class GlobalMode(Wire, frozen=True, kw_only=True):
    """One task on every eligible node."""


class ReplicatedJobMode(Wire, frozen=True, kw_only=True):
    max_concurrent: Uint | None = None
    total_completions: Uint | None = None


class GlobalJobMode(Wire, frozen=True, kw_only=True):
    """One task to completion on every eligible node."""


class ServiceMode(Wire, frozen=True, kw_only=True):
    replicated: ReplicatedMode | None = None
    global_: GlobalMode | None = field(default=None, name="Global")
    replicated_job: ReplicatedJobMode | None = None
    global_job: GlobalJobMode | None = None


class UpdateConfig(Wire, frozen=True, kw_only=True):
    parallelism: Uint = field(default_factory=always_zero)
    delay: int = 0
    failure_action: str = ""
    monitor: int = 0
    max_failure_ratio: float = field(default_factory=always_zero_ratio)
    order: str = field(default_factory=always_empty_text)

    def __post_init__(self) -> None:
        force_setattr(self, "max_failure_ratio", as_go_float(self.max_failure_ratio))


class EndpointSpec(Wire, frozen=True, kw_only=True):
    mode: str = ""
    ports: list[PortConfig] = []


class ServiceSpec(Wire, frozen=True, kw_only=True):
    """What the user asked for, returned as it was given."""

    name: str = ""
    labels: dict[str, str] = field(default_factory=always_empty_map)
    task_template: TaskSpec = TaskSpec()
    mode: ServiceMode = field(default_factory=ServiceMode)
    update_config: UpdateConfig | None = None
    rollback_config: UpdateConfig | None = None
    networks: list[NetworkAttachmentConfig] = []
    endpoint_spec: EndpointSpec | None = None

    @property
    def tasks_wanted(self) -> int:
        """How many tasks it wants; 0 where its nodes say that; a job: how many it keeps in the end."""
        job = self.mode.replicated_job
        return (self.replicas or 0) if job is None else (job.total_completions or job.max_concurrent or 0)

    @property
    def replicas(self) -> int | None:
        """The replica count of a replicated service (Docker's default is 1); None for other modes."""
        if self.mode.replicated is None:
            return None
        count = self.mode.replicated.replicas
        return 1 if count is None else count

    @property
    def is_job(self) -> bool:
        """True where tasks run to their end, and are not started again once they succeeded."""
        return self.mode.replicated_job is not None or self.mode.global_job is not None

    @property
    def is_everywhere(self) -> bool:
        """True where the nodes say how many tasks there are: global services and global jobs."""
        return self.mode.global_ is not None or self.mode.global_job is not None

    @property
    def mode_name(self) -> str:
        """replicated, global, replicated-job or global-job."""
        if self.mode.global_ is not None:
            return "global"
        if self.mode.replicated_job is not None:
            return "replicated-job"
        if self.mode.global_job is not None:
            return "global-job"
        return "replicated"
