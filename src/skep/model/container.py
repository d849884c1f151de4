"""ContainerSpec: what runs in a task (Docker Engine API 1.51, `TaskSpec.ContainerSpec`). Durations in ns."""

from __future__ import annotations

from msgspec import field

from .wire import Port, Uint, Wire, always_false


class CredentialSpec(Wire, frozen=True, kw_only=True):
    """Windows' managed service account; stored, refused by Linux engines."""

    config: str = ""
    file: str = ""
    registry: str = ""


class SELinuxContext(Wire, frozen=True, kw_only=True):
    disable: bool = False
    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""


class SeccompOpts(Wire, frozen=True, kw_only=True):
    mode: str = ""
    profile: str = ""  # base64


class AppArmorOpts(Wire, frozen=True, kw_only=True):
    mode: str = ""


class Privileges(Wire, frozen=True, kw_only=True):
    credential_spec: CredentialSpec | None = None
    se_linux_context: SELinuxContext | None = field(default=None, name="SELinuxContext")
    seccomp: SeccompOpts | None = None
    app_armor: AppArmorOpts | None = None
    no_new_privileges: bool = field(default_factory=always_false)


class BindOptions(Wire, frozen=True, kw_only=True):
    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class DriverConfig(Wire, frozen=True, kw_only=True):
    name: str = ""
    options: dict[str, str] = {}


class VolumeOptions(Wire, frozen=True, kw_only=True):
    no_copy: bool = False
    labels: dict[str, str] = {}
    subpath: str = ""
    driver_config: DriverConfig | None = None


class ImageOptions(Wire, frozen=True, kw_only=True):
    subpath: str = ""


class TmpfsOptions(Wire, frozen=True, kw_only=True):
    size_bytes: int = 0
    mode: int = 0
    options: list[list[str]] = []


class ClusterOptions(Wire, frozen=True, kw_only=True):
    """Reserved by Docker for CSI volumes."""


class Mount(Wire, frozen=True, kw_only=True):
    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    image_options: ImageOptions | None = None
    tmpfs_options: TmpfsOptions | None = None
    cluster_options: ClusterOptions | None = None


class HealthConfig(Wire, frozen=True, kw_only=True):
    test: list[str] = []
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


NAMESERVERS_LABEL = "skep.nameservers"  # of a container that asks skepd for names: whom its user has named


class DNSConfig(Wire, frozen=True, kw_only=True):
    nameservers: list[str] = []
    search: list[str] = []
    options: list[str] = []


class FileTarget(Wire, frozen=True, kw_only=True):
    """Where a secret or config appears in the container."""

    name: str = ""
    uid: str = field(default="", name="UID")
    gid: str = field(default="", name="GID")
    mode: int = 0


class SecretReference(Wire, frozen=True, kw_only=True):
    file: FileTarget | None = None
    secret_id: str = field(default="", name="SecretID")
    secret_name: str = ""


class RuntimeTarget(Wire, frozen=True, kw_only=True):
    """A config used by the runtime itself (credential specs), not mounted."""


class ConfigReference(Wire, frozen=True, kw_only=True):
    file: FileTarget | None = None
    runtime: RuntimeTarget | None = None
    config_id: str = field(default="", name="ConfigID")
    config_name: str = ""


class Ulimit(Wire, frozen=True, kw_only=True):
    name: str = ""
    hard: int = 0
    soft: int = 0


class ContainerSpec(Wire, frozen=True, kw_only=True):
    """Every field of Docker's ContainerSpec; what is not acted on yet is listed by `unsupported.py`."""

    image: str = ""
    labels: dict[str, str] = {}
    command: list[str] = []
    args: list[str] = []
    hostname: str = ""
    env: list[str] = []
    dir: str = ""
    user: str = ""
    groups: list[str] = []
    privileges: Privileges | None = None
    init: bool | None = None
    stop_signal: str = ""
    tty: bool = field(default=False, name="TTY")
    open_stdin: bool = False
    read_only: bool = False
    mounts: list[Mount] = []
    stop_grace_period: int | None = None
    healthcheck: HealthConfig | None = None
    hosts: list[str] = []
    dns_config: DNSConfig | None = field(default=None, name="DNSConfig")
    secrets: list[SecretReference] = []
    configs: list[ConfigReference] = []
    isolation: str = ""
    sysctls: dict[str, str] = {}
    capability_add: list[str] = []
    capability_drop: list[str] = []
    ulimits: list[Ulimit] = []
    oom_score_adj: int = 0


class PortConfig(Wire, frozen=True, kw_only=True):
    """One published port of a service."""

    name: str = ""
    protocol: str = ""
    target_port: Port = 0
    published_port: Port = 0
    publish_mode: str = ""


class NamedGenericResource(Wire, frozen=True, kw_only=True):
    kind: str = ""
    value: str = ""


class DiscreteGenericResource(Wire, frozen=True, kw_only=True):
    kind: str = ""
    value: int = 0


class GenericResource(Wire, frozen=True, kw_only=True):
    named_resource_spec: NamedGenericResource | None = None
    discrete_resource_spec: DiscreteGenericResource | None = None


class Limit(Wire, frozen=True, kw_only=True):
    nano_cpus: int = field(default=0, name="NanoCPUs")
    memory_bytes: int = 0
    pids: int = 0


class Reservation(Wire, frozen=True, kw_only=True):
    nano_cpus: int = field(default=0, name="NanoCPUs")
    memory_bytes: int = 0
    generic_resources: list[GenericResource] = []


class ResourceRequirements(Wire, frozen=True, kw_only=True):
    limits: Limit | None = None
    reservations: Reservation | None = None
    swap_bytes: int | None = None
    memory_swappiness: int | None = None


class LogDriver(Wire, frozen=True, kw_only=True):
    name: str = ""
    options: dict[str, str] = {}


class NetworkAttachmentConfig(Wire, frozen=True, kw_only=True):
    target: str = ""
    aliases: list[str] = []
    driver_opts: dict[str, str] = {}


class RestartPolicy(Wire, frozen=True, kw_only=True):
    condition: str = ""
    delay: int | None = None
    max_attempts: Uint | None = None
    window: int | None = None
