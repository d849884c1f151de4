"""The swarm itself: SwarmSpec (the user's), and the stored `Cluster` with its CA and join tokens."""

from __future__ import annotations

from msgspec import Struct, field
from msgspec.structs import replace

from .container import LogDriver
from .data_path import NFTABLES
from .overlay_keys import encrypted_port
from .wire import Uint, Wire, always_empty_map, always_zero

SECOND_NS = 1_000_000_000
NODE_CERT_EXPIRY_NS = 90 * 24 * 3600 * SECOND_NS  # Docker's default: three months
HEARTBEAT_NS = 5 * SECOND_NS  # Docker's default
HISTORY_LIMIT = 5  # Docker's default
HISTORY_MAX = 100  # a slot's tasks are written together, again with each change: some 40 kB then


class OrchestrationConfig(Wire, frozen=True, kw_only=True):
    task_history_retention_limit: int | None = None


class RaftConfig(Wire, frozen=True, kw_only=True):
    """Docker's names; what they mean for etcd is in docs/compatibility.md."""

    snapshot_interval: Uint = 0
    keep_old_snapshots: Uint | None = None
    log_entries_for_slow_followers: Uint = 0
    election_tick: int = field(default_factory=always_zero)
    heartbeat_tick: int = field(default_factory=always_zero)


class DispatcherConfig(Wire, frozen=True, kw_only=True):
    heartbeat_period: int = 0


class ExternalCA(Wire, frozen=True, kw_only=True):
    protocol: str = ""
    url: str = field(default="", name="URL")
    options: dict[str, str] = {}
    ca_cert: str = field(default="", name="CACert")


class CAConfig(Wire, frozen=True, kw_only=True):
    node_cert_expiry: int = 0
    external_cas: list[ExternalCA] = field(default=[], name="ExternalCAs")
    signing_ca_cert: str = field(default="", name="SigningCACert")
    signing_ca_key: str = field(default="", name="SigningCAKey")
    force_rotate: Uint = 0


class EncryptionConfig(Wire, frozen=True, kw_only=True):
    auto_lock_managers: bool = field(default_factory=lambda: False)


class TaskDefaults(Wire, frozen=True, kw_only=True):
    log_driver: LogDriver | None = None


class SwarmSpec(Wire, frozen=True, kw_only=True):
    """What the user set for the whole swarm."""

    name: str = field(default_factory=lambda: "default")
    labels: dict[str, str] = field(default_factory=always_empty_map)
    orchestration: OrchestrationConfig = OrchestrationConfig()
    raft: RaftConfig = RaftConfig()
    dispatcher: DispatcherConfig = DispatcherConfig()
    ca_config: CAConfig = field(default_factory=CAConfig, name="CAConfig")
    task_defaults: TaskDefaults = field(default_factory=TaskDefaults)
    encryption_config: EncryptionConfig = field(default_factory=EncryptionConfig)

    @property
    def heartbeat_s(self) -> float:
        return (self.dispatcher.heartbeat_period or HEARTBEAT_NS) / SECOND_NS

    @property
    def history_limit(self) -> int:
        """Returns how many tasks a slot keeps: as many as may be where all are asked for."""
        limit = self.orchestration.task_history_retention_limit
        limit = HISTORY_LIMIT if limit is None else limit
        return min(limit, HISTORY_MAX) if limit >= 0 else HISTORY_MAX

    @property
    def node_cert_expiry_s(self) -> float:
        return (self.ca_config.node_cert_expiry or NODE_CERT_EXPIRY_NS) / SECOND_NS


class RootRotation(Struct, frozen=True, kw_only=True):
    """The root that the swarm changes to: it signs already, and becomes the root once every node has a
    certificate of its. `cross_signed_pem` is the same root, signed by the present one."""

    ca_cert_pem: bytes
    ca_key_pem: bytes
    cross_signed_pem: bytes
    started_at: float

    def __repr__(self) -> str:
        """Shows no key."""
        return f"RootRotation(started_at={self.started_at!r})"


class Cluster(Struct, frozen=True, kw_only=True):
    """The swarm as it is stored (key `cluster`)."""

    id: str
    spec: SwarmSpec
    created_at: float
    updated_at: float
    ca_cert_pem: bytes
    ca_key_pem: bytes
    worker_token_secret: str
    manager_token_secret: str
    unlock_key: str = ""  # SWMKEY-1-…; empty where managers do not lock themselves
    default_addr_pool: list[str] = []
    subnet_size: int = 24
    data_path_port: int = 4789
    rotation: RootRotation | None = None
    # The root, signed by the one before: certificates carry it, for nodes that were away when trust changed.
    ca_chain_pem: bytes = b""
    has_had_ingress: bool = False  # the routing-mesh network was made; users may have removed it since
    version: int = 0
    allow_devices: bool = False  # services may have devices and GPUs of their nodes (`model.access`)
    allow_privileged: bool = False  # services may have everything of their nodes
    allow_self_reported_constraints: bool = True  # services may be placed by what nodes say of themselves
    data_path: str = NFTABLES  # what leads published ports on, where nodes can (`model.data_path`)
    data_key_wanted: int = 0  # how often another data key was wanted (`manager.data_key`)
    data_key_done: int = 0  # as far as that has come about

    def wanting_data_key(self) -> Cluster:
        """Returns it with another data key wanted: who knows the present one is to open nothing more."""
        return replace(self, data_key_wanted=self.data_key_wanted + 1)

    def is_data_path(self, protocol: str, port: int) -> bool:
        """True for the ports that carry networks between nodes: published by the routing mesh, they would
        lead the tunnels' own packets to a task."""
        own = self.data_path_port, encrypted_port(self.data_path_port)
        return protocol == "udp" and port in own

    def __repr__(self) -> str:
        """Whatever prints a cluster (a log, a trace) shows none of its keys."""
        return f"Cluster(id={self.id!r}, version={self.version})"
