"""What managers and agents say to each other over a session, in the order it happens.

    agent                                   manager
    Register  ------------------------------>
              <------------------------------ Registered
              <------------------------------ Assign(complete=True): the node's whole set
    Statuses  ------------------------------> everything the agent knows, then what changes
              <------------------------------ Assign: differences, as they are committed
    Described ------------------------------> where the node is not what it was
    Heartbeat ------------------------------>
              <------------------------------ HeartbeatAck
              <------------------------------ WantedTls: after Registered, and when it changes
    HasTls    ------------------------------> what the node has, then what it has renewed
    Renew     ------------------------------> in the second half of the certificate's life, or when it is
              <------------------------------ Renewed                                  not the wanted one
              <------------------------------ Role: what the node is to act as, when that changes
    Manage    ------------------------------> a node that is to be a manager asks for a copy of the store
              <------------------------------ Managing | NotNow
    Attach    ------------------------------> a single container is to be on a network of the swarm's
              <------------------------------ Attached | NotAttached
              <------------------------------ SayAddresses: which of them are in use?
    HasAddresses ---------------------------> where that changed, and where it was asked
              <------------------------------ ReadLogs: the node brings them over a connection of their own
                                              (`rpc.log_streams`)

No acknowledgement of statuses is needed: a connection delivers in order or breaks, a new session starts
with everything again, and the manager lets go of a task only after its result is committed.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from skep.model.access import HostAccess
from skep.model.cluster import TaskDefaults
from skep.model.container import PortConfig
from skep.model.generic import Claim
from skep.model.logs import LogOptions
from skep.model.material import Given
from skep.model.node import NodeDescription
from skep.model.service import RegistryAuth
from skep.model.spec import TaskSpec
from skep.model.task import TaskAddress, TaskStatus
from skep.runtime.errors import Invalid


class TaskNetwork(Struct, frozen=True, array_like=True):
    """A network that a service's tasks are on. `subnet` is an overlay's first one; `aliases` are names that
    the tasks have there."""

    id: str
    name: str
    driver: str
    subnet: str = ""
    is_internal: bool = False
    is_ipv6: bool = False
    aliases: list[str] = []
    driver_opts: dict[str, str] = {}
    options: dict[str, str] = {}
    config_from: str = ""


class ServiceTemplate(Struct, frozen=True, array_like=True):
    """What a node must know of a service to run its tasks: one version, sent once per session, and again
    when the registry's credentials have changed."""

    service_id: str
    version: int
    name: str
    labels: dict[str, str]
    spec: TaskSpec
    host_ports: list[PortConfig] = []
    registry_auth: RegistryAuth | None = None
    access: HostAccess | None = None
    networks: list[TaskNetwork] = []


class AssignedTask(Struct, frozen=True, gc=False, array_like=True):
    """One task as its node gets it."""

    id: str
    service_id: str
    spec_version: int
    slot: int
    desired_state: int
    generic: tuple[Claim, ...] = ()  # generic resources it was given
    addresses: tuple[TaskAddress, ...] = ()


class Register(Struct, frozen=True, tag="register"):
    """Opens a session. The node is who its certificate says. `manager_addr`: where it is reached as a
    manager (host:port). `features`: what this agent understands that earlier ones did not."""

    description: NodeDescription
    manager_addr: str = ""
    features: list[str] = []


class Described(Struct, frozen=True, tag="described"):
    """What the node is by now: its engine was started again, or reads its configuration anew."""

    description: NodeDescription


class Registered(Struct, frozen=True, tag="registered"):
    """The session stands. `managers` are addresses (host:port) to try when this one is lost."""

    heartbeat_s: float
    managers: list[str]
    role: str = "worker"
    is_member: bool = False
    features: list[str] = []  # what this manager understands that earlier ones did not


class Role(Struct, frozen=True, tag="role"):
    """What the node is to act as; `is_member`: it holds a copy of the store."""

    role: str
    is_member: bool


class Heartbeat(Struct, frozen=True, tag="hb"):
    """I am here."""


class HeartbeatAck(Struct, frozen=True, tag="hb-ack"):
    """So am I; and this is how often to say it."""

    heartbeat_s: float
    managers: list[str]


class Statuses(Struct, frozen=True, tag="statuses"):
    """The latest status of each task that changed since the last report."""

    items: list[tuple[str, TaskStatus]]


class Renew(Struct, frozen=True, tag="renew"):
    """Asks for a new certificate, for a new key; who asks is known from the present one."""

    request_pem: bytes


class Renewed(Struct, frozen=True, tag="renewed"):
    """The new certificate. The session goes on as it is; the next one shows it."""

    certificate_pem: bytes
    ca_pem: bytes


class Manage(Struct, frozen=True, tag="manage"):
    """A node whose role is manager asks for a copy of the store, which it has not, or wants to lose."""

    manager_addr: str


class Managing(Struct, frozen=True, tag="managing"):
    """The node is a learner now; `managers` are all members by node id, with their addresses (host:port)."""

    managers: dict[str, str]
    data_key: bytes = b""
    unlock_key: str = ""

    def __repr__(self) -> str:
        """Whatever prints it (a log, a trace) shows neither key."""
        return f"Managing(managers={self.managers!r})"


class NotNow(Struct, frozen=True, tag="not-now"):
    """It cannot be done at the moment; ask again."""

    reason: str


class WantedTls(Struct, frozen=True, tag="wanted-tls"):
    """Which root to trust, and what the node's certificate should be: who issued it (`rpc.trust`), for how
    long. `spread_s`: those that must renew take so long together, so that they do not come at once."""

    ca_pem: bytes
    issuer: str
    expiry_s: float
    spread_s: float


class HasTls(Struct, frozen=True, tag="has-tls"):
    """Digests (`rpc.trust`) of who issued the node's certificate, and of the root that it trusts."""

    issuer: str
    trust: str


class Assign(Struct, frozen=True, tag="assign", omit_defaults=True):
    """What a node is to run. `complete`: everything not named is to be stopped and forgotten. Where its
    templates are too long for one frame they come ahead, in messages that are not complete.

    `kept` are finished tasks whose containers stay for the history; `dropped` are tasks to forget;
    `removing` are services that are gone: all their tasks are to be stopped. `outdated` are templates,
    (service, version), that the node need not keep any more: they would be sent again. `defaults` is what
    tasks of this and later messages have where their specs say nothing; None: as before.
    `materials` are secrets and configs that tasks of this and later messages need, `withdrawn` those to
    forget; with `complete`, all but `held`.
    """

    complete: bool = False
    templates: list[ServiceTemplate] = []
    tasks: list[AssignedTask] = []
    kept: list[str] = []
    dropped: list[str] = []
    removing: list[str] = []
    outdated: list[tuple[str, int]] = []
    defaults: TaskDefaults | None = None
    materials: list[Given] = []
    withdrawn: list[str] = []
    held: list[str] = []


class ReadLogs(Struct, frozen=True, tag="read-logs"):
    """The node is to bring what these tasks have put out: (task id, since when, as `seconds.nanoseconds`).

    `id` is good for one connection; `window` is how many bytes may be under way.
    """

    id: str
    tasks: list[tuple[str, str]]
    options: LogOptions
    window: int


class Attach(Struct, frozen=True, tag="attach"):
    """A container of the node is to be on a network (its name, its id, or the begin of one). `address` is the
    one it is to have, if its user says so. `number`: which question it is, for the answer."""

    number: int
    network: str
    address: str = ""


class Attached(Struct, frozen=True, tag="attached"):
    """The address is the container's until the node says that it is not in use."""

    number: int
    network: TaskNetwork
    address: TaskAddress


class NotAttached(Struct, frozen=True, tag="not-attached"):
    """Why not: `kind` is the name of an error (`runtime.errors`), `reason` its sentence."""

    number: int
    kind: str
    reason: str


class SayAddresses(Struct, frozen=True, tag="say-addresses"):
    """The node is to say which addresses of single containers are in use."""


class HasAddresses(Struct, frozen=True, tag="has-addresses"):
    """What single containers of the node have; they have no others."""

    in_use: list[TaskAddress]


class Goodbye(Struct, frozen=True, tag="goodbye"):
    """The manager ends the session.

    `kind`: not-leader (try `leader`, where it is known, then `managers`), removed (leave the swarm),
    replaced (a newer session took over), refused (what the node says cannot be: `message` says what).
    """

    kind: str
    message: str
    managers: list[str] = []
    leader: str = ""


OfAttachments = Attached | NotAttached | SayAddresses
FromAgent = Register | Described | Statuses | Heartbeat | Renew | HasTls | Manage | Attach | HasAddresses
FromManager = (
    Registered
    | Assign
    | HeartbeatAck
    | Renewed
    | WantedTls
    | Role
    | Managing
    | NotNow
    | ReadLogs
    | Attached
    | NotAttached
    | SayAddresses
    | Goodbye
)

REFUSED = "refused"  # a kind of `Goodbye`
LOGS = "logs"  # a feature: the node understands `ReadLogs`
ATTACH = "attach"  # a feature: the node understands `SayAddresses`, the manager `Attach` and `HasAddresses`

encode = msgspec.msgpack.Encoder().encode
# What msgspec raises for bytes that are none of ours; the others for text that is not UTF-8, and for lists in
# lists without end.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_from_agent: msgspec.msgpack.Decoder[FromAgent] = msgspec.msgpack.Decoder(FromAgent)
_from_manager: msgspec.msgpack.Decoder[FromManager] = msgspec.msgpack.Decoder(FromManager)


_STATUSES = encode(Statuses([])).partition(b"\xa5items")[0]


def is_statuses(frame: bytes) -> bool:
    """True for a report of statuses as our agents encode it, which need not be decoded to see that."""
    return frame.startswith(_STATUSES)


def decode_from_agent(frame: bytes) -> FromAgent:
    """Errors: `Invalid` for a frame that is none of ours."""
    try:
        return _from_agent.decode(frame)
    except UNREADABLE as error:
        raise Invalid(f"not a message of an agent: {error}") from error


def decode_statuses(frame: bytes) -> list[tuple[str, TaskStatus]]:
    """Errors: `Invalid` for a frame that is no report."""
    message = decode_from_agent(frame)
    if not isinstance(message, Statuses):
        raise Invalid("not a report of statuses")
    return message.items


def decode_from_manager(frame: bytes) -> FromManager:
    """Errors: `Invalid` for a frame that is none of ours."""
    try:
        return _from_manager.decode(frame)
    except UNREADABLE as error:
        raise Invalid(f"not a message of a manager: {error}") from error
