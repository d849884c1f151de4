"""A task's container as the engine is to create it (`POST /containers/create`). Pure."""

from __future__ import annotations

from typing import Any

from skep.agent.executor.by_version import NEWEST, ApiVersion, check_supported
from skep.agent.executor.host_access import host_access_json
from skep.agent.executor.interfaces import TaskContext
from skep.agent.executor.mounts import mount_json
from skep.agent.executor.security import security_options
from skep.agent.executor.templates import container_name, task_values
from skep.model import docker_socket
from skep.model.container import ContainerSpec, Limit, PortConfig, ResourceRequirements
from skep.model.generic import environment
from skep.model.spec import Platform, TaskSpec
from skep.model.template_budget import task_budget
from skep.model.template_use import expanded
from skep.runtime.errors import Invalid

Json = dict[str, Any]

LABEL = "com.docker.swarm."
NODE_LABEL = LABEL + "node.id"
TASK_LABEL = LABEL + "task.id"
SERVICE_LABEL = LABEL + "service.id"


def full_reference(image: str) -> str:
    """Returns the image with the tag that is meant where none is given: latest."""
    if "@" in image or ":" in image.rsplit("/", 1)[-1]:
        return image
    return image + ":latest"


def create_body(context: TaskContext, platform: Platform = Platform(), engine: ApiVersion = NEWEST) -> Json:
    """Returns the engine's request; `platform` is the node's, `engine` what its engine speaks.

    Errors: `Invalid` for what no engine could do (a missing image, a bad template or mount), for what this
    one is too old for, and for what is not Linux'.
    """
    spec = context.template.spec
    container = spec.container_spec or ContainerSpec()
    if not container.image:
        raise Invalid("dockerexec: image required")
    container = expanded(container, task_values(context, platform), task_budget())
    check_supported(container, engine, context.template.networks)
    if container.isolation not in ("", "default") and platform.os in ("", "linux"):
        raise Invalid(f"invalid isolation '{container.isolation}' on linux")  # Docker's words
    body: Json = {
        "Image": container.image,
        "Labels": _labels(context, container),
        "Tty": container.tty,
        "OpenStdin": container.open_stdin,
        "Env": [*container.env, *environment(context.task.generic)],
        "HostConfig": _host_config(context, spec, container),
    }
    _set(body, "Entrypoint", container.command)
    _set(body, "Cmd", container.args)
    _set(body, "Hostname", container.hostname)
    _set(body, "WorkingDir", container.dir)
    _set(body, "User", container.user)
    _set(body, "StopSignal", container.stop_signal)
    if container.stop_grace_period is not None:
        body["StopTimeout"] = int(container.stop_grace_period / 1e9)
    if container.healthcheck is not None:
        health = container.healthcheck
        body["Healthcheck"] = {
            "Test": health.test,
            "Interval": health.interval,
            "Timeout": health.timeout,
            "StartPeriod": health.start_period,
            "Retries": health.retries,
        }
        _set(body["Healthcheck"], "StartInterval", health.start_interval)
    ports = context.template.host_ports
    if ports:
        body["ExposedPorts"] = {_port_key(p): {} for p in ports}
    return body


def place_socket(body: Json, context: TaskContext, socket: docker_socket.DockerSocket | None) -> bool:
    """Has the task's binds of Docker's socket be of skepd's, unless its labels say otherwise; True where
    there were some."""
    access = context.template.access
    is_engine = body["Labels"].get(docker_socket.LABEL) == docker_socket.ENGINE
    if socket is None or is_engine or (access is not None and access.engine_socket):
        return False
    return socket.put_into(body["HostConfig"])


def attach_to(body: Json, network: str, endpoint: Json) -> None:
    """Puts the container on its first network; an engine before API 1.44 takes one only at creation."""
    body["HostConfig"]["NetworkMode"] = network
    if network not in ("host", "bridge"):
        body["NetworkingConfig"] = {"EndpointsConfig": {network: endpoint}}


def _labels(context: TaskContext, container: ContainerSpec) -> dict[str, str]:
    task = context.task
    return {
        **container.labels,
        NODE_LABEL: context.node_id,
        SERVICE_LABEL: task.service_id,
        LABEL + "service.name": context.template.name,
        LABEL + "task": "",
        TASK_LABEL: task.id,
        LABEL + "task.name": container_name(context),
    }


def _host_config(context: TaskContext, spec: TaskSpec, container: ContainerSpec) -> Json:
    host: Json = {
        "ReadonlyRootfs": container.read_only,
        "Mounts": [mount_json(mount) for mount in container.mounts],
        "Isolation": container.isolation or "default",
        "Ulimits": [{"Name": u.name, "Hard": u.hard, "Soft": u.soft} for u in container.ulimits],
        "PortBindings": _bindings(context.template.host_ports),
        # No RestartPolicy: restarting is ours, the engine's own would fight with it.
    }
    _set(host, "GroupAdd", container.groups)
    if container.init is not None:
        host["Init"] = container.init
    _set(host, "ExtraHosts", [entry for line in container.hosts for entry in _extra_hosts(line)])
    if container.dns_config is not None:
        _set(host, "Dns", container.dns_config.nameservers)
        _set(host, "DnsSearch", container.dns_config.search)
        _set(host, "DnsOptions", container.dns_config.options)
    _set(host, "Sysctls", container.sysctls)
    _set(host, "CapAdd", container.capability_add)
    _set(host, "CapDrop", container.capability_drop)
    _set(host, "OomScoreAdj", container.oom_score_adj)
    if container.privileges is not None:
        _set(host, "SecurityOpt", security_options(container.privileges))
    if spec.resources is not None:
        host.update(_resources(spec.resources))
    if context.template.access is not None:
        host.update(host_access_json(context.template.access))
    driver = spec.log_driver or context.log_driver
    if driver is not None:
        host["LogConfig"] = {"Type": driver.name, "Config": driver.options}
    return host


def _extra_hosts(line: str) -> list[str]:
    """Swarm's form is that of hosts(5), `IP name [alias...]`; the engine's is `name:IP`, one name each."""
    address, *names = line.split() or [""]
    return [f"{name}:{address}" for name in names]


def _resources(resources: ResourceRequirements) -> Json:
    """Reservations are the scheduler's: Docker's swarm does not tell the engine of them either."""
    found: Json = {}
    limits = resources.limits or Limit()
    _set(found, "NanoCpus", limits.nano_cpus)
    _set(found, "Memory", limits.memory_bytes)
    _set(found, "PidsLimit", limits.pids)
    swap = resources.swap_bytes
    if swap is not None:
        # The engine's number is memory and swap together.
        found["MemorySwap"] = -1 if swap < 0 else limits.memory_bytes + swap
    if resources.memory_swappiness is not None:
        found["MemorySwappiness"] = resources.memory_swappiness
    return found


def _port_key(port: PortConfig) -> str:
    return f"{port.target_port}/{(port.protocol or 'tcp').lower()}"


def _bindings(ports: list[PortConfig]) -> Json:
    found: Json = {}
    for port in ports:
        host_port = str(port.published_port) if port.published_port else ""
        found.setdefault(_port_key(port), []).append({"HostPort": host_port})
    return found


def _set(target: Json, name: str, value: object) -> None:
    """Leaves out what is empty, as Go does."""
    if value:
        target[name] = value
