"""What a service's spec may say in an older version of the API: fields that came later are blanked, as Docker
does it (moby's adjustForAPIApiVersion), for a client that sends them does not know what it says."""

from __future__ import annotations

from msgspec.structs import replace

from skep.model.container import ContainerSpec, HealthConfig, Mount, Privileges
from skep.model.spec import ServiceMode, ServiceSpec, TaskSpec

ApiVersion = tuple[int, int]


def as_of(spec: ServiceSpec, version: ApiVersion) -> ServiceSpec:
    """Returns the spec with only what that version of the API has."""
    if version >= (1, 46):
        return spec
    spec = replace(spec, task_template=_task(spec.task_template, version))
    if version < (1, 41) and (spec.mode.replicated_job or spec.mode.global_job):
        spec = replace(spec, mode=ServiceMode(replicated=spec.mode.replicated, global_=spec.mode.global_))
    return spec


def _task(task: TaskSpec, version: ApiVersion) -> TaskSpec:
    if version < (1, 41) and task.resources is not None and task.resources.limits is not None:
        limits = replace(task.resources.limits, pids=0)
        task = replace(task, resources=replace(task.resources, limits=limits))
    if version < (1, 40) and task.placement is not None:
        task = replace(task, placement=replace(task.placement, max_replicas=0))
    if task.container_spec is not None:
        task = replace(task, container_spec=_container(task.container_spec, version))
    return task


def _container(container: ContainerSpec, version: ApiVersion) -> ContainerSpec:
    container = replace(container, oom_score_adj=0, mounts=[_mount(m, version) for m in container.mounts])
    if version < (1, 44):
        container = replace(
            container,
            healthcheck=_health(container.healthcheck),
            privileges=_privileges(container.privileges),
        )
    if version < (1, 41):
        container = replace(container, capability_add=[], capability_drop=[], ulimits=[])
    if version < (1, 40):
        configs = [replace(config, runtime=None) for config in container.configs]
        container = replace(container, sysctls={}, configs=configs)
        privileges = container.privileges
        if privileges is not None and privileges.credential_spec is not None:
            credentials = replace(privileges.credential_spec, config="")
            container = replace(container, privileges=replace(privileges, credential_spec=credentials))
    return container


def _health(health: HealthConfig | None) -> HealthConfig | None:
    return None if health is None else replace(health, start_interval=0)


def _privileges(privileges: Privileges | None) -> Privileges | None:
    if privileges is None:
        return None
    return replace(privileges, seccomp=None, app_armor=None, no_new_privileges=False)


def _mount(mount: Mount, version: ApiVersion) -> Mount:
    if mount.tmpfs_options is not None:
        mount = replace(mount, tmpfs_options=replace(mount.tmpfs_options, options=[]))
    if version < (1, 45) and mount.volume_options is not None:
        mount = replace(mount, volume_options=replace(mount.volume_options, subpath=""))
    if version < (1, 44) and mount.bind_options is not None:
        options = replace(mount.bind_options, read_only_non_recursive=False, read_only_force_recursive=False)
        mount = replace(mount, bind_options=options)
    return mount
