"""A task's container as the engine is to create it (Engine API 1.41, `POST /containers/create`). Pure."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from skep.agent.executor.port import TaskContext
from skep.agent.executor.templates import container_name, task_values
from skep.model.container import ContainerSpec, Mount, PortConfig, Privileges, ResourceRequirements
from skep.model.generic import environment
from skep.model.spec import Platform, TaskSpec
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


def create_body(context: TaskContext, platform: Platform = Platform()) -> Json:
    """Returns the engine's request; `platform` is the node's, for templates.

    Errors: `Invalid` for a missing image, a template nobody knows, a seccomp profile that is not base64.
    """
    spec = context.template.spec
    container = spec.container_spec or ContainerSpec()
    if not container.image:
        raise Invalid("dockerexec: image required")
    container = expanded(container, task_values(context, platform))
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
        "Mounts": [_mount(mount) for mount in container.mounts],
        # Restarting is ours: the engine's own would fight with it.
        "RestartPolicy": {"Name": "no"},
    }
    _set(host, "GroupAdd", container.groups)
    if container.init is not None:
        host["Init"] = container.init
    _set(host, "Isolation", container.isolation)
    _set(host, "ExtraHosts", [entry for line in container.hosts for entry in _extra_hosts(line)])
    if container.dns_config is not None:
        _set(host, "Dns", container.dns_config.nameservers)
        _set(host, "DnsSearch", container.dns_config.search)
        _set(host, "DnsOptions", container.dns_config.options)
    _set(host, "Sysctls", container.sysctls)
    _set(host, "CapAdd", container.capability_add)
    _set(host, "CapDrop", container.capability_drop)
    _set(host, "OomScoreAdj", container.oom_score_adj)
    _set(host, "Ulimits", [{"Name": u.name, "Hard": u.hard, "Soft": u.soft} for u in container.ulimits])
    if container.privileges is not None:
        _set(host, "SecurityOpt", _security(container.privileges))
    if spec.resources is not None:
        host.update(_resources(spec.resources))
    if spec.log_driver is not None:
        host["LogConfig"] = {"Type": spec.log_driver.name, "Config": spec.log_driver.options}
    ports = context.template.host_ports
    if ports:
        host["PortBindings"] = _bindings(ports)
    return host


def _mount(mount: Mount) -> Json:
    found: Json = {
        "Type": mount.type or "volume",
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
    }
    _set(found, "Consistency", mount.consistency)
    if mount.bind_options is not None:
        bind: Json = {"NonRecursive": mount.bind_options.non_recursive}
        _set(bind, "Propagation", mount.bind_options.propagation)
        _set(bind, "CreateMountpoint", mount.bind_options.create_mountpoint)
        _set(bind, "ReadOnlyNonRecursive", mount.bind_options.read_only_non_recursive)
        _set(bind, "ReadOnlyForceRecursive", mount.bind_options.read_only_force_recursive)
        found["BindOptions"] = bind
    if mount.volume_options is not None:
        volume: Json = {"NoCopy": mount.volume_options.no_copy, "Labels": mount.volume_options.labels}
        _set(volume, "Subpath", mount.volume_options.subpath)
        driver = mount.volume_options.driver_config
        if driver is not None:
            volume["DriverConfig"] = {"Name": driver.name, "Options": driver.options}
        found["VolumeOptions"] = volume
    if mount.tmpfs_options is not None:
        tmpfs: Json = {"SizeBytes": mount.tmpfs_options.size_bytes, "Mode": mount.tmpfs_options.mode}
        _set(tmpfs, "Options", mount.tmpfs_options.options)
        found["TmpfsOptions"] = tmpfs
    if mount.image_options is not None:
        found["ImageOptions"] = {"Subpath": mount.image_options.subpath}
    return found


def _extra_hosts(line: str) -> list[str]:
    """Swarm's form is that of hosts(5), `IP name [alias...]`; the engine's is `name:IP`, one name each."""
    address, *names = line.split() or [""]
    return [f"{name}:{address}" for name in names]


def _security(privileges: Privileges) -> list[str]:
    found = []
    if privileges.no_new_privileges:
        found.append("no-new-privileges=true")
    if privileges.app_armor is not None and privileges.app_armor.mode == "disabled":
        found.append("apparmor=unconfined")
    seccomp = privileges.seccomp
    if seccomp is not None and seccomp.mode == "unconfined":
        found.append("seccomp=unconfined")
    if seccomp is not None and seccomp.mode == "custom":
        found.append("seccomp=" + _profile(seccomp.profile))
    linux = privileges.se_linux_context
    if linux is not None and linux.disable:
        found.append("label=disable")
    elif linux is not None:
        values = [(key, getattr(linux, key)) for key in ("user", "role", "type", "level")]
        found.extend(f"label={key}:{value}" for key, value in values if value)
    return found


def _profile(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Invalid(f"the custom seccomp profile is not base64 of a text: {error}") from error


def _resources(resources: ResourceRequirements) -> Json:
    found: Json = {}
    if resources.limits is not None:
        _set(found, "NanoCpus", resources.limits.nano_cpus)
        _set(found, "Memory", resources.limits.memory_bytes)
        _set(found, "PidsLimit", resources.limits.pids)
    if resources.reservations is not None:
        _set(found, "MemoryReservation", resources.reservations.memory_bytes)
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
