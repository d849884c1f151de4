"""Docker's defaults, inserted where `insertDefaults=true` asks for them (swarmkit's api/defaults)."""

from __future__ import annotations

from msgspec.structs import replace

from skep.api.service_objects import ServiceJson
from skep.model.container import DNSConfig, ResourceRequirements, RestartPolicy
from skep.model.spec import Placement, TaskSpec, UpdateConfig

SECOND_NS = 1_000_000_000
_UPDATE = UpdateConfig(
    parallelism=1, failure_action="pause", monitor=5 * SECOND_NS, max_failure_ratio=0.0, order="stop-first"
)


def with_defaults(service: ServiceJson) -> ServiceJson:
    """Returns the service with every default written out, as `docker service inspect` shows it."""
    spec = service.spec
    filled = replace(
        spec,
        task_template=_task(spec.task_template),
        update_config=_update(spec.update_config),
        rollback_config=_update(spec.rollback_config),
    )
    return replace(service, spec=filled)


def _task(task: TaskSpec) -> TaskSpec:
    container = task.container_spec
    if container is not None:
        container = replace(
            container,
            stop_grace_period=10 * SECOND_NS
            if container.stop_grace_period is None
            else container.stop_grace_period,
            dns_config=container.dns_config or DNSConfig(),
            isolation=container.isolation or "default",
        )
    policy = task.restart_policy or RestartPolicy()
    policy = replace(
        policy,
        condition=policy.condition or "any",
        delay=5 * SECOND_NS if policy.delay is None else policy.delay,
        max_attempts=policy.max_attempts or 0,
    )
    return replace(
        task,
        container_spec=container,
        resources=task.resources or ResourceRequirements(),
        restart_policy=policy,
        placement=task.placement or Placement(),
        runtime=task.runtime or "container",
    )


def _update(config: UpdateConfig | None) -> UpdateConfig:
    if config is None:
        return _UPDATE
    return replace(
        config,
        failure_action=config.failure_action or "pause",
        monitor=config.monitor or 5 * SECOND_NS,
        order=config.order or "stop-first",
    )
