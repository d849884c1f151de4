"""Services as users of a simulation write them, drawn from a generator: good ones, and ones that fail."""

from __future__ import annotations

import random

from msgspec.structs import replace

from skep.agent.executor.simulated import NOWHERE, UNHEALTHY_TEST, lacks_image
from skep.model.container import (
    ConfigReference,
    ContainerSpec,
    FileTarget,
    HealthConfig,
    PortConfig,
    Reservation,
    ResourceRequirements,
    RestartPolicy,
    SecretReference,
)
from skep.model.generic import parse_resource
from skep.model.material import SECRET, Material
from skep.model.spec import (
    EndpointSpec,
    GlobalJobMode,
    GlobalMode,
    ReplicatedJobMode,
    ReplicatedMode,
    ServiceMode,
    ServiceSpec,
    UpdateConfig,
)

SECOND_NS = 1_000_000_000
WELL, EXITS, ENDS, UNHEALTHY, MISSING = "well", "exits", "ends", "unhealthy", "missing"
FAILING = (EXITS, ENDS, UNHEALTHY)
FAILING_OR_MISSING = (*FAILING, MISSING, MISSING)
DEVICE = ResourceRequirements(reservations=Reservation(generic_resources=[parse_resource("device=1")]))


def draw_update_config(rng: random.Random) -> UpdateConfig:
    """Returns how a service is to be updated, or rolled back."""
    return UpdateConfig(
        parallelism=rng.randint(0, 4),
        delay=rng.choice((0, 0, 2)) * SECOND_NS,
        failure_action=rng.choice(("pause", "continue", "rollback", "rollback")),
        monitor=rng.choice((1, 5)) * SECOND_NS,
        max_failure_ratio=rng.choice((0.0, 0.0, 0.3)),
        order=rng.choice(("stop-first", "stop-first", "start-first")),
    )


def draw_restart_policy(rng: random.Random) -> RestartPolicy:
    """Returns mostly one that never gives up."""
    delay = rng.choice((0, 1, 5)) * SECOND_NS
    condition = rng.choice(("any", "any", "any", "any", "on-failure", "none"))
    return RestartPolicy(
        condition=condition, delay=delay, max_attempts=2 if condition == "on-failure" else None
    )


def as_it_goes(spec: ServiceSpec, image: str, how: str) -> ServiceSpec:
    """Returns a service (no job) with another image, whose tasks go well or fail, as `how` says."""
    container = spec.task_template.container_spec
    assert container is not None
    check = HealthConfig(test=list(UNHEALTHY_TEST), interval=SECOND_NS, retries=2)
    image = f"nosuch{NOWHERE}/{image}" if how == MISSING else image
    args = {EXITS: ["false"], ENDS: ["sleep", "1"]}.get(how, [])
    return with_container(
        spec, replace(container, image=image, args=args, healthcheck=check if how == UNHEALTHY else None)
    )


def fails(spec: ServiceSpec) -> bool:
    """True where no task of the service, which is no job, stays running."""
    container = spec.task_template.container_spec
    if container is None:
        return False
    return bool(container.args or container.healthcheck) or lacks_image(container.image)


def with_container(spec: ServiceSpec, container: ContainerSpec) -> ServiceSpec:
    return replace(spec, task_template=replace(spec.task_template, container_spec=container))


def with_materials(spec: ServiceSpec, materials: list[Material]) -> ServiceSpec:
    """Returns the service with these secrets and configs, and no others."""
    container = spec.task_template.container_spec
    assert container is not None
    secrets, configs = [], []
    for each in materials:
        file = FileTarget(name=f"f-{each.spec.name}", uid="0", gid="0", mode=0o444)
        if each.kind == SECRET:
            secrets.append(SecretReference(file=file, secret_id=each.id, secret_name=each.spec.name))
        else:
            configs.append(ConfigReference(file=file, config_id=each.id, config_name=each.spec.name))
    return with_container(spec, replace(container, secrets=secrets, configs=configs))


def mode_of(kind: str, replicas: int, at_once: int) -> ServiceMode:
    if kind == "global":
        return ServiceMode(global_=GlobalMode())
    if kind == "global-job":
        return ServiceMode(global_job=GlobalJobMode())
    if kind == "job":
        return ServiceMode(
            replicated_job=ReplicatedJobMode(max_concurrent=at_once, total_completions=replicas // 3)
        )
    return replicated(replicas)


def replicated(replicas: int) -> ServiceMode:
    return ServiceMode(replicated=ReplicatedMode(replicas=replicas))


def host_ports(ports: list[int]) -> EndpointSpec:
    return EndpointSpec(
        mode="vip",
        ports=[
            PortConfig(protocol="tcp", target_port=80, published_port=port, publish_mode="host")
            for port in ports
        ],
    )
