"""Nodes: what the user set (`NodeSpec`), what the node said (`NodeDescription`), the stored `Node`."""

from __future__ import annotations

from msgspec import Struct, field
from msgspec.structs import replace

from .container import GenericResource
from .spec import Platform
from .wire import Wire, always_empty_map

# On a manager while `skep cluster upgrade-managers` is at work with it, demoted or not.
UPGRADE_LABEL = "skep.upgrade"


class NodeSpec(Wire, frozen=True, kw_only=True):
    """Written by the control API only."""

    name: str = ""
    labels: dict[str, str] = field(default_factory=always_empty_map)
    role: str = field(default_factory=lambda: "worker")  # worker | manager
    availability: str = field(default_factory=lambda: "active")  # active | pause | drain

    @property
    def may_know_data_key(self) -> bool:
        """True for a manager, and for one that is a worker for its upgrade: it is to be a manager again."""
        return self.role == "manager" or UPGRADE_LABEL in self.labels


class NodeResources(Wire, frozen=True, kw_only=True):
    nano_cpus: int = field(default=0, name="NanoCPUs")
    memory_bytes: int = 0
    generic_resources: list[GenericResource] = []


class EnginePlugin(Wire, frozen=True, kw_only=True):
    type: str = ""
    name: str = ""


class EngineDescription(Wire, frozen=True, kw_only=True):
    engine_version: str = ""
    labels: dict[str, str] = {}
    plugins: list[EnginePlugin] = []


class NodeTLSInfo(Wire, frozen=True, kw_only=True):
    trust_root: str = ""
    cert_issuer_subject: str = ""  # base64 of the raw subject
    cert_issuer_public_key: str = ""  # base64 of the raw public key info


class NodeDescription(Wire, frozen=True, kw_only=True):
    """What a node says of itself at the start of a session. Written by the dispatcher."""

    hostname: str = ""
    platform: Platform = Platform()
    resources: NodeResources = NodeResources()
    engine: EngineDescription = EngineDescription()

    def has(self, plugin: EnginePlugin) -> bool:
        """True where the node says that it has it: a plugin of its engine, or what its kernel can do."""
        return plugin in self.engine.plugins

    def having(self, plugin: EnginePlugin, has: bool = True) -> NodeDescription:
        """Returns what the node says of itself, with whether it has that, and not whether it had."""
        others = [each for each in self.engine.plugins if each != plugin]
        plugins = [*others, plugin] if has else others
        return replace(self, engine=replace(self.engine, plugins=plugins))


class Node(Struct, frozen=True, kw_only=True):
    """A node as it is stored. Its state (ready, down) is soft: see `NodeStatus`."""

    id: str
    spec: NodeSpec
    description: NodeDescription
    created_at: float
    updated_at: float
    addr: str = ""  # where its last session came from, or what it advertises
    manager_addr: str = ""  # host:port of its manager listener; managers only
    data_addr: str = ""  # where its tunnels end, if it says
    version: int = 0  # store revision; not stored itself


class NodeTls(Struct, frozen=True):
    """What a node said of its certificate and its trust: digests (`rpc.trust`). Soft."""

    issuer: str
    trust: str


UNKNOWN, READY, DOWN = "unknown", "ready", "down"


ENGINE_SILENT = "engine does not answer"  # the message of a node that is heard from, down or unknown
HELD = "not heard of, as most nodes: it may be the leader that is cut off"  # `manager.eviction`


class NodeStatus(Struct, frozen=True):
    """Whether a node is heard from. Written by the dispatcher, in the leader's memory."""

    state: str  # unknown (after a change of leader, until its grace ends) | ready | down
    message: str = ""
    since: float = 0.0
    engine_is_silent: bool = False  # it has a session, and an engine that does not answer
    is_held: bool = False  # it is not heard of, and would be down if most of the others were heard
    left_out: str = ""  # what could not be kept of the node's description
    mesh: tuple[str, ...] = ()  # what the node cannot do for the routing mesh, in sentences

    @property
    def sentence(self) -> str:
        """Returns all there is to say, for people."""
        return "; ".join(text for text in (self.message, self.left_out, *self.mesh) if text)


NODE_UNKNOWN = NodeStatus(UNKNOWN)
