"""What a service's spec must satisfy, in Docker's words (Engine API 1.51; swarmkit's controlapi/service.go).

Pure. The API answers 400 with the text of `Invalid`, 501 with that of `Unsupported`.
"""

from __future__ import annotations

import re
from collections import Counter

from skep.model.constraint import parse_constraint
from skep.model.container import ContainerSpec, HealthConfig, Mount, ResourceRequirements
from skep.model.spec import EndpointSpec, Platform, ServiceSpec, TaskSpec, UpdateConfig
from skep.model.template import template_values
from skep.model.template_use import expanded
from skep.runtime.errors import Invalid, Unsupported

_NAME = re.compile(r"^[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*$")
_IMAGE = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9_./:@\-]*$")
NAME_MAX = 63
MIN_NANO_CPUS = 1_000_000
MIN_MEMORY_BYTES = 4 << 20
MIN_HEALTH_NS = 1_000_000
REPLICAS_MAX = 1_000_000  # ten times the largest swarm this was measured with; more is a slip of the key
PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_MODES = ("replicated", "global_", "replicated_job", "global_job")


def validate_service(spec: ServiceSpec) -> None:
    """Errors: `Invalid`, `Unsupported`."""
    _name(spec.name)
    _mode(spec)
    _task(spec.task_template)
    _templates(spec)
    for what, config in (("UpdateConfig", spec.update_config), ("RollbackConfig", spec.rollback_config)):
        if config is not None:
            _update(what, config)
    if spec.endpoint_spec is not None:
        _endpoint(spec.endpoint_spec)


def _name(name: str) -> None:
    if not name:
        raise Invalid("meta: name must be provided")
    if not is_dns_name(name):
        raise Invalid(
            f"name must be valid as a DNS name component: '{name[:80]}' (letters, digits, - and _, at most"
            f" {NAME_MAX} characters, beginning and ending with a letter or digit)"
        )


def is_dns_name(name: str) -> bool:
    """True for what may be the name of a service or a network."""
    return len(name) <= NAME_MAX and _NAME.match(name) is not None


def _mode(spec: ServiceSpec) -> None:
    given = [name for name in _MODES if getattr(spec.mode, name) is not None]
    if len(given) > 1:
        raise Invalid("must specify only one service mode")
    if spec.mode.replicated_job is not None or spec.mode.global_job is not None:
        raise Unsupported(f"{spec.mode_name} services are not supported by this version of skep yet")
    if (spec.replicas or 0) > REPLICAS_MAX:
        raise Invalid(f"{spec.replicas} replicas are more than this version accepts ({REPLICAS_MAX})")


def _task(task: TaskSpec) -> None:
    if task.runtime not in ("", "container") or task.plugin_spec is not None:
        raise Unsupported(f"task runtime '{task.runtime or 'plugin'}' is not supported by skep yet")
    if task.container_spec is None:
        raise Invalid("TaskSpec: missing runtime")
    _container(task.container_spec)
    if task.resources is not None:
        _resources(task.resources)
    policy = task.restart_policy
    if policy is not None:
        if policy.condition not in ("", "none", "on-failure", "any"):
            raise Invalid(f"invalid RestartCondition: '{policy.condition}' (none, on-failure or any)")
        for what, value in (("Delay", policy.delay), ("Window", policy.window)):
            if (value or 0) < 0:
                raise Invalid(f"TaskSpec: restart-{what.lower()} must not be negative")
    if task.placement is not None:
        for text in task.placement.constraints:
            parse_constraint(text)


def _container(container: ContainerSpec) -> None:
    if not container.image:
        raise Invalid("ContainerSpec: image reference must be provided")
    if not _IMAGE.match(container.image):
        raise Invalid(f"ContainerSpec: '{container.image[:120]}' is not a valid repository/tag")
    if container.secrets:
        raise Unsupported("secrets are not supported by this version of skep yet")
    if container.configs:
        raise Unsupported("configs are not supported by this version of skep yet")
    for target, count in Counter(m.target for m in container.mounts).items():
        if count > 1:
            raise Invalid(f"ContainerSpec: duplicate mount point: {target}")
    for mount in container.mounts:
        _mount(mount)
    if container.healthcheck is not None:
        _health(container.healthcheck)
    if (container.stop_grace_period or 0) < 0:
        raise Invalid("ContainerSpec: stop-grace-period must not be negative")


def _mount(mount: Mount) -> None:
    """As Docker's API; what its executor refuses (a relative target), ours does (`agent.executor.mounts`)."""
    if mount.type not in ("", "bind", "volume", "tmpfs", "npipe", "cluster", "image"):
        raise Invalid(f'invalid MountType: "{mount.type}"')
    if mount.type == "cluster":
        raise Unsupported("mounts of type cluster are not supported by skep yet")
    propagation = mount.bind_options.propagation if mount.bind_options is not None else ""
    if propagation not in ("", *PROPAGATIONS):
        raise Invalid(f'invalid MountPropagation: "{propagation}"')


def _templates(spec: ServiceSpec) -> None:
    """Tries the container's templates with names made up, and the service's own labels."""
    if spec.task_template.container_spec is not None:
        service = ("serviceid", spec.name, spec.labels)
        node = ("nodeid", "nodeHostname", Platform(architecture="architecture", os="os"))
        try:
            expanded(
                spec.task_template.container_spec,
                template_values(service, node, ("taskid", "taskname", "1")),
            )
        except Invalid as error:
            raise Invalid(f"rpc error: code = InvalidArgument desc = {error}") from error


def _health(health: HealthConfig) -> None:
    for what in ("interval", "timeout", "start_period", "start_interval"):
        value = getattr(health, what)
        if value and value < MIN_HEALTH_NS:
            raise Invalid(f"ContainerSpec: {what} in Healthcheck cannot be less than 1ms")
    if health.retries < 0:
        raise Invalid("ContainerSpec: Retries in Healthcheck cannot be negative")


def _resources(resources: ResourceRequirements) -> None:
    for each in (resources.limits, resources.reservations):
        if each is None:
            continue
        if each.nano_cpus and each.nano_cpus < MIN_NANO_CPUS:
            raise Invalid(f"invalid cpu value {each.nano_cpus / 1e9:g}: Must be at least {0.001:g}")
        if each.memory_bytes and each.memory_bytes < MIN_MEMORY_BYTES:
            raise Invalid(f"invalid memory value {each.memory_bytes}: Must be at least 4MiB")
    _swap(resources)
    for wanted in resources.reservations.generic_resources if resources.reservations is not None else ():
        discrete, named = wanted.discrete_resource_spec, wanted.named_resource_spec
        if discrete is None:
            # Docker stores it, and its tasks wait for ever.
            kind = f" {named.kind}" if named is not None else ""
            raise Invalid(f"invalid argument for resource{kind}: a task reserves a number, not names")
        if discrete.value < 0:
            raise Invalid(f"cannot ask for negative resource {discrete.kind}")


def _swap(resources: ResourceRequirements) -> None:
    swap, swappiness = resources.swap_bytes, resources.memory_swappiness
    if swap is not None and not (resources.limits is not None and resources.limits.memory_bytes):
        raise Invalid("invalid swap value: it is what may be used besides a memory limit, and there is none")
    if swap is not None and swap < -1:
        raise Invalid(f"invalid swap value {swap}: Must be -1 (unlimited), 0 (none) or more")
    if swappiness is not None and not -1 <= swappiness <= 100:
        raise Invalid(f"invalid memory swappiness {swappiness}: Must be between 0 and 100, or -1")


def _update(what: str, config: UpdateConfig) -> None:
    if config.delay < 0:
        raise Invalid(f"TaskSpec: {what}: update-delay cannot be negative")
    if config.monitor < 0:
        raise Invalid(f"TaskSpec: {what}: update-monitor cannot be negative")
    if not 0 <= config.max_failure_ratio <= 1:
        raise Invalid(f"TaskSpec: {what}: update-maxfailureratio cannot be less than 0 or bigger than 1")
    actions = ("", "continue", "pause", "rollback") if what == "UpdateConfig" else ("", "continue", "pause")
    if config.failure_action not in actions:
        raise Invalid(f"unrecognized update failure action {config.failure_action}")
    if config.order not in ("", "stop-first", "start-first"):
        raise Invalid(f"unrecognized update order {config.order}")


def _endpoint(endpoint: EndpointSpec) -> None:
    if endpoint.mode not in ("", "vip", "dnsrr"):
        raise Invalid(f"invalid EndpointSpec: mode '{endpoint.mode}' (vip or dnsrr)")
    seen: set[tuple[str, int, str]] = set()
    for port in endpoint.ports:
        mode = port.publish_mode or "ingress"
        if mode not in ("ingress", "host"):
            raise Invalid(f"invalid EndpointSpec: publish mode '{mode}' (ingress or host)")
        if port.protocol not in ("", "tcp", "udp", "sctp"):
            raise Invalid(f"invalid EndpointSpec: protocol '{port.protocol}' (tcp, udp or sctp)")
        if endpoint.mode == "dnsrr" and mode == "ingress":
            raise Invalid("EndpointSpec: port published with ingress mode can't be used with dnsrr mode")
        if port.published_port:
            key = (port.protocol or "tcp", port.published_port, mode)
            if key in seen:
                raise Invalid("EndpointSpec: duplicate published ports provided")
            seen.add(key)
