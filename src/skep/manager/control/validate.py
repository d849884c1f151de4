"""What a service's spec must satisfy, in Docker's words (Engine API 1.51; swarmkit's controlapi/service.go).

Pure. The API answers 400 with the text of `Invalid`, 501 with that of `Unsupported`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from skep.manager.control.spec_bounds import check_bounds
from skep.manager.control.validate_size import check_size
from skep.model.bounds import COMPLETIONS_MAX, REPLICAS_MAX, SERVICE_NETWORKS_MAX, SERVICE_SPEC_MAX_BYTES
from skep.model.constraint import parse_constraint
from skep.model.container import ContainerSpec, CredentialSpec, HealthConfig, Mount, ResourceRequirements
from skep.model.docker_socket import wants_engine
from skep.model.resources import CPUS_MAX, MEMORY_MAX_BYTES, NANO_CPUS_MAX
from skep.model.spec import EndpointSpec, Platform, ServiceSpec, TaskSpec, UpdateConfig
from skep.model.template import Budget, template_values
from skep.model.template_use import expanded
from skep.runtime.errors import Invalid, Unsupported

# As Docker's, with one letter a round: its own would take Python for ever over a long name with a bad end.
_NAME = re.compile(r"[a-zA-Z0-9](?:[-_]*[A-Za-z0-9])*")
# Of Docker's reference grammar (distribution/reference): registry, path, tag, digest.
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY = rf"(?:{_HOST}(?:\.{_HOST})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_IMAGE = re.compile(
    rf"(?P<name>(?:{_REGISTRY}/)?{_PART}(?:/{_PART})*)"
    r"(?::\w[\w.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)
_IMAGE_ID = re.compile(r"[a-f0-9]{64}")  # no name, although it looks like one
IMAGE_NAME_MAX = 255
IMAGE_MAX = 1024  # with registry, tag and digest; what is longer is none
NAME_MAX = 63
ALIAS_MAX = 253  # of DNS
SHOWN_MAX = 100  # characters of what was wrong that are repeated
MIN_NANO_CPUS = 1_000_000
MIN_MEMORY_BYTES = 4 << 20
MIN_HEALTH_NS = 1_000_000
OOM_SCORE_ADJ_MAX = 1000  # the kernel's, and its negative: no engine takes more
PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_MODES = ("replicated", "global_", "replicated_job", "global_job")


def validate_service(spec: ServiceSpec, before: ServiceSpec | None = None) -> None:
    """`before`: the stored spec. What of it is beyond our bounds, as an earlier skep let it be, may stay.

    Errors: `Invalid`, `TooLarge`, `Unsupported`.
    """
    check_bounds(spec, before)
    _name(spec.name)
    check_size("the service's spec", spec, SERVICE_SPEC_MAX_BYTES, before)
    _networks(spec, before)
    _mode(spec)
    _task(spec.task_template)
    _templates(spec)
    for config in (spec.update_config, spec.rollback_config):
        if config is not None:
            _update(config)
    if spec.endpoint_spec is not None:
        _endpoint(spec.endpoint_spec)


def _name(name: str) -> None:
    if not name:
        raise _invalid("meta: name must be provided")
    check_dns_name(name)


def _networks(spec: ServiceSpec, before: ServiceSpec | None) -> None:
    most = max(SERVICE_NETWORKS_MAX, _networks_count(before) if before is not None else 0)
    if (count := _networks_count(spec)) > most:
        raise Invalid(f"a service has at most {SERVICE_NETWORKS_MAX} networks, {count} are asked for")
    had = set(_aliases(before)) if before is not None else set()
    for alias in _aliases(spec):
        if alias not in had and not is_dns_question(alias):
            raise _invalid(
                f"the alias {ascii(alias)[:SHOWN_MAX]} is no name that DNS can be asked for: at most"
                f" {ALIAS_MAX} bytes, {NAME_MAX} between dots, without blanks"
            )


def _aliases(spec: ServiceSpec) -> Iterator[str]:
    for attached in (*spec.networks, *spec.task_template.networks):
        yield from attached.aliases


def is_dns_question(name: str) -> bool:
    """True for what a resolver can ask for: more than a host's name may be, for Docker takes any alias."""
    parts = name.encode().split(b".")
    is_short = len(name.encode()) <= ALIAS_MAX and all(0 < len(part) <= NAME_MAX for part in parts)
    return is_short and name.isprintable() and " " not in name


def _networks_count(spec: ServiceSpec) -> int:
    """Of the two lists a client may write the longer counts."""
    return max(len(spec.networks), len(spec.task_template.networks))


def check_dns_name(name: str) -> None:
    """Errors: `Invalid` for what may not be the name of a service or a network."""
    if _NAME.fullmatch(name) is None:
        raise _invalid("name must be valid as a DNS name component")
    if len(name) > NAME_MAX:
        raise _invalid(f"name must be {NAME_MAX} characters or fewer")


def is_image(text: str) -> bool:
    """True for what Docker takes for the name of an image, which may have a tag and a digest."""
    found = _IMAGE.fullmatch(text) if len(text) <= IMAGE_MAX else None
    if found is None or len(found["name"]) > IMAGE_NAME_MAX:
        return False
    first, slash, _ = found["name"].partition("/")
    if slash and first != "localhost" and not {".", ":"} & set(first) and first != first.lower():
        return False  # no registry: a part of the path
    return _IMAGE_ID.fullmatch(text) is None


def _invalid(text: str) -> Invalid:
    """The words of Docker's managers; those of its API before them have no such prefix."""
    return Invalid(f"rpc error: code = InvalidArgument desc = {text}")


def _mode(spec: ServiceSpec) -> None:
    given = [name for name in _MODES if getattr(spec.mode, name) is not None]
    if len(given) > 1:
        raise Invalid("must specify only one service mode")
    if spec.is_job and spec.update_config is not None:
        raise Invalid("rpc error: code = InvalidArgument desc = Jobs may not have an update config")
    job = spec.mode.replicated_job
    count = spec.tasks_wanted
    if job is not None and count > COMPLETIONS_MAX:
        raise Invalid(f"{count} completions are more than this version accepts ({COMPLETIONS_MAX})")
    if count > REPLICAS_MAX:
        raise Invalid(f"{count} replicas are more than this version accepts ({REPLICAS_MAX})")


def _task(task: TaskSpec) -> None:
    if task.runtime not in ("", "container", "plugin"):
        raise Invalid("unsupported runtime")
    if task.runtime == "plugin":
        raise Unsupported("services of plugins are not supported by skep yet")
    if task.container_spec is None or task.plugin_spec is not None:
        raise Invalid("mismatched Runtime and *Spec fields")
    _container(task.container_spec)
    wants_engine(task.container_spec.labels)  # whether it can be read
    if task.resources is not None:
        _resources(task.resources)
    policy = task.restart_policy
    if policy is not None:
        if policy.condition not in ("", "none", "on-failure", "any"):
            raise Invalid(f'invalid RestartCondition: "{policy.condition[:100]}"')
        for what, value in (("delay", policy.delay), ("window", policy.window)):
            if (value or 0) < 0:
                raise _invalid(f"TaskSpec: restart-{what} cannot be negative")
    if task.placement is not None:
        for text in task.placement.constraints:
            try:
                parse_constraint(text)
            except Invalid as error:  # Docker's code; its status, 500, would be a fault of ours
                raise Invalid(f"rpc error: code = Unknown desc = {error}") from error


def _container(container: ContainerSpec) -> None:
    if not container.image:
        raise _invalid("ContainerSpec: image reference must be provided")
    if not is_image(container.image):
        raise _invalid(f'ContainerSpec: "{container.image[:IMAGE_MAX]}" is not a valid repository/tag')
    for target, count in Counter(m.target for m in container.mounts).items():
        if count > 1:
            raise _invalid(f"ContainerSpec: duplicate mount point: {target}")
    for mount in container.mounts:
        _mount(mount)
    if container.healthcheck is not None:
        _health(container.healthcheck)
    if container.privileges is not None and container.privileges.credential_spec is not None:
        _credentials(container.privileges.credential_spec)
    if (container.stop_grace_period or 0) < 0:
        raise Invalid("ContainerSpec: stop-grace-period must not be negative")
    if abs(container.oom_score_adj) > OOM_SCORE_ADJ_MAX:  # the engine's words, which the tasks would say
        raise Invalid(
            f"Invalid value {container.oom_score_adj}, range for oom score adj is"
            f" [-{OOM_SCORE_ADJ_MAX}, {OOM_SCORE_ADJ_MAX}]"
        )


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
                Budget(),
            )
        except Invalid as error:
            raise Invalid(f"rpc error: code = InvalidArgument desc = {error}") from error


def _health(health: HealthConfig) -> None:
    for what, value in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ):
        if value and value < MIN_HEALTH_NS:
            raise _invalid(f"ContainerSpec: {what} in HealthConfig cannot be less than 1ms")
    if health.retries < 0:
        raise _invalid("ContainerSpec: Retries in HealthConfig cannot be negative")


def _credentials(spec: CredentialSpec) -> None:
    given = [what for what in ("config", "file", "registry") if getattr(spec, what)]
    if not given:
        raise Invalid(
            'invalid CredentialSpec: must either provide "file", "registry", or "config" for credential spec'
        )
    if len(given) > 1:
        named = ", ".join(f'"{what}"' for what in given[:-1]) + f' and "{given[-1]}"'
        how = "both " if len(given) == 2 else ""
        raise Invalid(f"invalid CredentialSpec: cannot specify {how}{named} credential specs")


def _resources(resources: ResourceRequirements) -> None:
    for each in (resources.limits, resources.reservations):
        if each is None:
            continue
        if each.nano_cpus and each.nano_cpus < MIN_NANO_CPUS:
            raise _invalid(f"invalid cpu value {each.nano_cpus / 1e9:g}: Must be at least {0.001:g}")
        if each.nano_cpus > NANO_CPUS_MAX:
            raise _invalid(f"invalid cpu value {each.nano_cpus / 1e9:g}: Must be at most {CPUS_MAX}")
        if each.memory_bytes and each.memory_bytes < MIN_MEMORY_BYTES:
            raise _invalid(f"invalid memory value {each.memory_bytes}: Must be at least 4MiB")
        if each.memory_bytes > MEMORY_MAX_BYTES:
            raise _invalid(f"invalid memory value {each.memory_bytes}: Must be at most 1PiB")
    _swap(resources)
    for wanted in resources.reservations.generic_resources if resources.reservations is not None else ():
        if wanted.discrete_resource_spec is None and wanted.named_resource_spec is None:
            raise Invalid(
                "invalid generic resource: neither a kind nor how many of it"
            )  # Docker's API crashes


def _swap(resources: ResourceRequirements) -> None:
    swap, swappiness = resources.swap_bytes, resources.memory_swappiness
    if swap is not None and not (resources.limits is not None and resources.limits.memory_bytes):
        raise Invalid("invalid swap value: it is what may be used besides a memory limit, and there is none")
    if swap is not None and swap < -1:
        raise Invalid(f"invalid swap value {swap}: Must be -1 (unlimited), 0 (none) or more")
    if swappiness is not None and not -1 <= swappiness <= 100:
        raise Invalid(f"invalid memory swappiness {swappiness}: Must be between 0 and 100, or -1")


def _update(config: UpdateConfig) -> None:
    """Docker looks at a rollback's settings in part only: what makes no sense is refused there as well."""
    if config.delay < 0:
        raise _invalid("TaskSpec: update-delay cannot be negative")
    if config.monitor < 0:
        raise _invalid("TaskSpec: update-monitor cannot be negative")
    if not 0 <= config.max_failure_ratio <= 1:
        raise _invalid("TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1")
    if config.failure_action not in ("", "continue", "pause", "rollback"):
        raise Invalid(f"unrecognized update failure action {config.failure_action[:100]}")
    if config.order not in ("", "stop-first", "start-first"):
        raise Invalid(f"unrecognized update order {config.order[:100]}")


def _endpoint(endpoint: EndpointSpec) -> None:
    if endpoint.mode not in ("", "vip", "dnsrr"):
        raise Invalid(f'invalid resolution mode: "{endpoint.mode[:100]}"')
    seen: set[tuple[str, int]] = set()
    for port in endpoint.ports:
        mode = port.publish_mode or "ingress"
        if mode not in ("ingress", "host"):
            raise Invalid(f"invalid EndpointSpec: publish mode '{mode}' (ingress or host)")
        if port.protocol not in ("", "tcp", "udp", "sctp"):
            raise Invalid(f"invalid EndpointSpec: protocol '{port.protocol}' (tcp, udp or sctp)")
        if not port.target_port and mode == "ingress":
            raise _invalid("EndpointSpec: a port of the routing mesh has no target port (1 to 65535)")
        if port.protocol == "sctp" and mode == "ingress":
            raise _invalid(
                f"EndpointSpec: port {port.target_port}/sctp cannot be published by the routing mesh, which"
                " has tcp and udp: use mode=host"
            )
        if endpoint.mode == "dnsrr" and mode == "ingress":
            raise _invalid("EndpointSpec: port published with ingress mode can't be used with dnsrr mode")
        if port.published_port:
            key = (port.protocol or "tcp", port.published_port)
            if key in seen:
                raise _invalid("EndpointSpec: duplicate published ports provided")
            seen.add(key)
