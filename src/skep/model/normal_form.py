"""A service's spec as it is stored: one way to say each thing. Pure.

Clients show and send back what Docker stores, and compare it; what means the same must be the same, or an
update would start new tasks for nothing. Others of Docker's words have a case there too: `any` of a restart
policy, `stop-first` and `dnsrr` are known in lower case only (moby's daemon/cluster/convert).
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec.structs import replace

from skep.model.container import ContainerSpec, Mount, PortConfig
from skep.model.since import ApiVersion, as_of
from skep.model.spec import EndpointSpec, ReplicatedJobMode, ReplicatedMode, ServiceMode, ServiceSpec

_ISOLATIONS = ("default", "process", "hyperv")
_MOUNTS = ("bind", "volume", "tmpfs", "npipe", "cluster", "image")
_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_PROTOCOLS = ("tcp", "udp", "sctp")
_PUBLISH_MODES = ("ingress", "host")


def normalise(spec: ServiceSpec, version: ApiVersion | None = None) -> ServiceSpec:
    """Returns the spec with what that version of the API has (None: all), its words in lower case where they
    have no case, and Docker's defaults where it stores those for what is unset. What it shows for unset
    (`routes.defaults`) is unset: clients send it back, and that is no change."""
    if version is not None:
        spec = as_of(spec, version)
    task, container = spec.task_template, spec.task_template.container_spec
    if container is not None:
        container = _container(container)
    runtime = "" if task.runtime == "container" else task.runtime
    return replace(
        spec,
        mode=_mode(spec),
        task_template=replace(task, container_spec=container, runtime=runtime),
        endpoint_spec=_endpoint(spec.endpoint_spec),
    )


def lower_case(word: str, known: Collection[str]) -> str:
    """Returns the word in lower case where it is a known one; else as it is, for whoever refuses it."""
    return word.lower() if word.lower() in known else word


def _mode(spec: ServiceSpec) -> ServiceMode:
    """Docker's default is replicated, with one replica."""
    given, job = spec.mode.replicated, spec.mode.replicated_job
    if job is not None:
        concurrent = 1 if job.max_concurrent is None else job.max_concurrent
        total = concurrent if job.total_completions is None else job.total_completions
        settled = ReplicatedJobMode(max_concurrent=concurrent, total_completions=total)
        return replace(spec.mode, replicated_job=settled)
    if spec.mode_name == "replicated" and (given is None or given.replicas is None):
        return replace(spec.mode, replicated=ReplicatedMode(replicas=1))
    return spec.mode


def _container(container: ContainerSpec) -> ContainerSpec:
    isolation = lower_case(container.isolation, _ISOLATIONS)
    isolation = "" if isolation == "default" else isolation
    return replace(container, isolation=isolation, mounts=[_mount(each) for each in container.mounts])


def _mount(mount: Mount) -> Mount:
    bind = mount.bind_options
    if bind is not None:
        bind = replace(bind, propagation=lower_case(bind.propagation, _PROPAGATIONS))
    return replace(mount, type=lower_case(mount.type, _MOUNTS) or "bind", bind_options=bind)


def _endpoint(endpoint: EndpointSpec | None) -> EndpointSpec | None:
    if endpoint is None:
        return None
    return replace(endpoint, mode=endpoint.mode or "vip", ports=[_port(each) for each in endpoint.ports])


def _port(port: PortConfig) -> PortConfig:
    return replace(
        port,
        protocol=lower_case(port.protocol, _PROTOCOLS) or "tcp",
        publish_mode=lower_case(port.publish_mode, _PUBLISH_MODES) or "ingress",
    )
