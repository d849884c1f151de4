"""What managers and agents say to each other over a session, in the order it happens.

    agent                                   manager
    Register  ------------------------------>
              <------------------------------ Registered
              <------------------------------ OverlayTold(complete=True) of each network that the node has
                                              somebody on, OverlaysHeld; then what changes of them
              <------------------------------ OverlayKeysTold: where one of these is encrypted
              <------------------------------ Assign(complete=True): the node's whole set
    HostNetworks --------------------------> what the host has of its own, then when that changes
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
              <------------------------------ DataKeys: what a manager is to have on its disk
    HasDataKeys ---------------------------->
    Attach    ------------------------------> a single container is to be on a network of the swarm's
              <------------------------------ Attached | NotAttached
              <------------------------------ SayAddresses: which of them are in use?
    HasAddresses ---------------------------> where that changed, and where it was asked
              <------------------------------ MeshTold(complete=True), then what changes: published ports
    MeshApplied  ---------------------------> what of that the node cannot do, as it changes
              <------------------------------ MeshLook: somebody wants to know what there is
    MeshSeen  ------------------------------>
              <------------------------------ UsageAsk: somebody wants to know what hosts and tasks take
    UsageSaid ------------------------------>
              <------------------------------ ReadLogs: the node brings them over a connection of their own
                                              (`rpc.log_streams`)

No acknowledgement of statuses is needed: a connection delivers in order or breaks, a new session starts
with everything again, and the manager lets go of a task only after its result is committed.
"""

from __future__ import annotations

import msgspec

from skep.model.task import TaskStatus
from skep.rpc.messages.attachments import ATTACH, Attach, Attached, HasAddresses, NotAttached, SayAddresses
from skep.rpc.messages.data_keys import DATA_KEYS, DataKeys, HasDataKeys
from skep.rpc.messages.host_networks import HOST_NETWORKS, HostNetworks
from skep.rpc.messages.logs import LOGS, ReadLogs
from skep.rpc.messages.managers import Manage, Managing, NotNow, Role
from skep.rpc.messages.mesh import (
    LOOK,
    MESH,
    MESH_CHANGES,
    MESH_PARTS,
    MeshApplied,
    MeshLook,
    MeshSeen,
    MeshTold,
)
from skep.rpc.messages.overlay_keys import OverlayKeysTold
from skep.rpc.messages.overlays import (
    OVERLAY,
    RESOLVE,
    OverlayAnswered,
    OverlayAsk,
    OverlaysHeld,
    OverlayTold,
)
from skep.rpc.messages.session import (
    DATA_PATH,
    NOT_LEADER,
    REFUSED,
    REMOVED,
    REPLACED,
    SELF_REPORTED,
    Described,
    Goodbye,
    Heartbeat,
    HeartbeatAck,
    Lead,
    Register,
    Registered,
    StandbyWish,
)
from skep.rpc.messages.tasks import Assign, AssignedTask, ServiceTemplate, Statuses, TaskNetwork
from skep.rpc.messages.tls import HasTls, Renew, Renewed, WantedTls
from skep.rpc.messages.usage import TASKS_SAID_MAX, USAGE, UsageAsk, UsageSaid
from skep.runtime.errors import Invalid
from skep.runtime.unreadable import UNREADABLE

__all__ = [
    "ATTACH",
    "DATA_KEYS",
    "DATA_PATH",
    "FEATURES",
    "HOST_NETWORKS",
    "LOGS",
    "LOOK",
    "MESH",
    "MESH_CHANGES",
    "MESH_PARTS",
    "NOT_LEADER",
    "OVERLAY",
    "REFUSED",
    "REMOVED",
    "REPLACED",
    "RESOLVE",
    "SELF_REPORTED",
    "TASKS_SAID_MAX",
    "UNREADABLE",
    "USAGE",
    "Assign",
    "AssignedTask",
    "Attach",
    "Attached",
    "DataKeys",
    "Described",
    "FromAgent",
    "FromManager",
    "Goodbye",
    "HasAddresses",
    "HasDataKeys",
    "HasTls",
    "Heartbeat",
    "HeartbeatAck",
    "HostNetworks",
    "Lead",
    "Manage",
    "Managing",
    "MeshApplied",
    "MeshLook",
    "MeshSeen",
    "MeshTold",
    "NotAttached",
    "NotNow",
    "OverlayAnswered",
    "OverlayAsk",
    "OverlayKeysTold",
    "OverlayTold",
    "OverlaysHeld",
    "ReadLogs",
    "Register",
    "Registered",
    "Renew",
    "Renewed",
    "Role",
    "SayAddresses",
    "ServiceTemplate",
    "StandbyWish",
    "Statuses",
    "TaskNetwork",
    "UsageAsk",
    "UsageSaid",
    "WantedTls",
    "decode_from_agent",
    "decode_from_manager",
    "decode_statuses",
    "encode",
    "is_statuses",
]

FromAgent = (
    Register
    | Described
    | Statuses
    | Heartbeat
    | Renew
    | HasTls
    | Manage
    | HasDataKeys
    | Attach
    | HasAddresses
    | MeshApplied
    | MeshSeen
    | OverlayAsk
    | HostNetworks
    | UsageSaid
)
FromManager = (
    Registered
    | Assign
    | HeartbeatAck
    | Renewed
    | WantedTls
    | Role
    | Managing
    | NotNow
    | DataKeys
    | ReadLogs
    | Attached
    | NotAttached
    | SayAddresses
    | MeshTold
    | MeshLook
    | OverlayTold
    | OverlaysHeld
    | OverlayKeysTold
    | OverlayAnswered
    | UsageAsk
    | Goodbye
)
# What either end may say that it understands, and earlier ones did not.
FEATURES = (
    *(LOGS, ATTACH, SELF_REPORTED, MESH, DATA_KEYS, OVERLAY, RESOLVE, LOOK, MESH_CHANGES, HOST_NETWORKS),
    *(DATA_PATH, MESH_PARTS, USAGE),
)

encode = msgspec.msgpack.Encoder().encode
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
