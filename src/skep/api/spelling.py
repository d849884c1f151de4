"""Words that have no case in Docker's API, and are stored in lower case (moby's daemon/cluster/convert).

Others have one there too: `any` of a restart policy, `stop-first` and `dnsrr` are known in lower case only.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec.structs import replace

from skep.model.container import ContainerSpec, Mount, PortConfig
from skep.model.spec import ServiceSpec

_ISOLATIONS = ("default", "process", "hyperv")
_MOUNTS = ("bind", "volume", "tmpfs", "npipe", "cluster", "image")
_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_PROTOCOLS = ("tcp", "udp", "sctp")
_PUBLISH_MODES = ("ingress", "host")


def as_stored(word: str, known: Collection[str]) -> str:
    """Returns the word in lower case where it is a known one; else as it is, for whoever refuses it."""
    return word.lower() if word.lower() in known else word


def in_lower_case(spec: ServiceSpec) -> ServiceSpec:
    """Returns the spec with its words as they are stored."""
    task, endpoint = spec.task_template, spec.endpoint_spec
    if task.container_spec is not None:
        task = replace(task, container_spec=_container(task.container_spec))
    if endpoint is not None:
        endpoint = replace(endpoint, ports=[_port(each) for each in endpoint.ports])
    return replace(spec, task_template=task, endpoint_spec=endpoint)


def _container(container: ContainerSpec) -> ContainerSpec:
    isolation = as_stored(container.isolation, _ISOLATIONS)
    return replace(container, isolation=isolation, mounts=[_mount(each) for each in container.mounts])


def _mount(mount: Mount) -> Mount:
    bind = mount.bind_options
    if bind is not None:
        bind = replace(bind, propagation=as_stored(bind.propagation, _PROPAGATIONS))
    return replace(mount, type=as_stored(mount.type, _MOUNTS), bind_options=bind)


def _port(port: PortConfig) -> PortConfig:
    return replace(
        port,
        protocol=as_stored(port.protocol, _PROTOCOLS),
        publish_mode=as_stored(port.publish_mode, _PUBLISH_MODES),
    )
