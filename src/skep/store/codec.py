"""Objects to keys and bytes, and back. The only place that knows how the store is laid out.

    schema                    the layout's version, written once
    incarnation               an id of this history of writes: made with the swarm, and again where a copy
                              goes on that may lack what others had (a backup, or the only one left)
    cluster                   Cluster
    nodes/<id>                Node
    services/<id>             Service
    removed/<id>              RemovedService
    networks/<id>             Network
    attachments/<node>/<id>   Attachment
    names/service/<name>      id of the service that has the name (compared at creation: names are unique)
    names/network/<name>      id of the network that has the name
    tasks/<node>/<service>    every task of that service on that node: the unit of writing and dispatch
    secrets/<id>              Material
    configs/<id>              Material
    names/secret/<name>       id of the secret that has the name, in lower case
    names/config/<name>       id of the config that has the name, in lower case
    leader                    id of the manager that leads, written again at each beat (store.election)

One key per (node, service) holds about 43 tasks at full scale: a fifth of the bytes and half the time of
a key per task (design, section 3). What `is_sealed_key` names is sealed on its way to etcd (`store.sealed`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec
from msgspec import Struct

from skep.model.attachment import Attachment
from skep.model.cluster import Cluster
from skep.model.generic import Claim
from skep.model.material import KINDS, Material
from skep.model.network import Network
from skep.model.node import Node
from skep.model.service import RemovedService, Service
from skep.model.task import Task, TaskAddress, TaskStatus
from skep.runtime.errors import Corrupt

PREFIX = "/skep/"
SCHEMA_KEY = PREFIX + "schema"
SCHEMA_VERSION = 2
SEALED_SINCE = 2  # the schema from which on everything that `is_sealed_key` names is sealed
CLUSTER_KEY = PREFIX + "cluster"
INCARNATION_KEY = PREFIX + "incarnation"
LEADER_KEY = PREFIX + "leader"
_NODES, _SERVICES, _REMOVED = PREFIX + "nodes/", PREFIX + "services/", PREFIX + "removed/"
_MATERIALS = tuple(f"{PREFIX}{kind}s/" for kind in KINDS)
_TASKS, _SERVICE_NAMES = PREFIX + "tasks/", PREFIX + "names/service/"
_ATTACHMENTS, _NAMES = PREFIX + "attachments/", PREFIX + "names/"
_NETWORKS, _NETWORK_NAMES = PREFIX + "networks/", PREFIX + "names/network/"

_KINDS = {
    "nodes": "nodes",
    "services": "services",
    "removed": "services",
    "networks": "networks",
    "attachments": "attachments",
    "names": "names",
    "tasks": "tasks",
    **{f"{kind}s": "secrets and configs" for kind in KINDS},
}
# Where another kind of keys begins or ends, in the order of keys: sizes on both sides differ much.
BORDERS = tuple(sorted(PREFIX + name + end for name in _KINDS for end in ("/", "0")))

_encode = msgspec.msgpack.Encoder().encode
S = TypeVar("S", bound=Struct)


class _StoredTask(Struct, frozen=True, gc=False, array_like=True, omit_defaults=True):
    """A task inside its bucket: node and service are in the key."""

    id: str
    slot: int
    spec_version: int
    desired_state: int
    created_at: float
    updated_at: float
    run_at: float = 0.0
    result: TaskStatus | None = None
    attempt: int = 0
    generic: tuple[Claim, ...] = ()
    addresses: tuple[TaskAddress, ...] = ()


_decode_bucket = msgspec.msgpack.Decoder(list[_StoredTask]).decode


def node_key(node_id: str) -> str:
    return _NODES + node_id


def service_key(service_id: str) -> str:
    return _SERVICES + service_id


def removed_key(service_id: str) -> str:
    return _REMOVED + service_id


def service_name_key(name: str) -> str:
    """Names are one whatever their case, as Docker has it."""
    return _SERVICE_NAMES + name.lower()


def service_name_keys(name: str) -> tuple[str, ...]:
    """Returns all keys that may hold a name: earlier versions of skep kept its case."""
    return tuple(dict.fromkeys((service_name_key(name), _SERVICE_NAMES + name)))


def network_key(network_id: str) -> str:
    return _NETWORKS + network_id


def network_name_key(name: str) -> str:
    return _NETWORK_NAMES + name


def attachment_key(node_id: str, attachment_id: str) -> str:
    return f"{_ATTACHMENTS}{node_id}/{attachment_id}"


def material_key(kind: str, material_id: str) -> str:
    return f"{PREFIX}{kind}s/{material_id}"


def material_name_key(kind: str, name: str) -> str:
    """Names are one whatever their case, as Docker has it."""
    return f"{PREFIX}names/{kind}/{name.lower()}"


def bucket_key(node_id: str, service_id: str) -> str:
    return f"{_TASKS}{node_id}/{service_id}"


def encode_object(
    value: Cluster | Node | Service | RemovedService | Network | Material | Attachment,
) -> bytes:
    """Returns the stored form. The revision is the store's to say, so it is left at zero."""
    return _encode(msgspec.structs.replace(value, version=0))


def encode_bucket(tasks: Iterable[Task]) -> bytes:
    """Returns the stored form of all tasks of one service on one node."""
    return _encode(
        [
            _StoredTask(
                t.id,
                t.slot,
                t.spec_version,
                t.desired_state,
                t.created_at,
                t.updated_at,
                t.run_at,
                t.result,
                t.attempt,
                t.generic,
                t.addresses,
            )
            for t in tasks
        ]
    )


def decode_bucket(key: str, value: bytes, revision: int) -> list[Task]:
    """Returns the tasks stored under a bucket's key. Errors: `Corrupt`."""
    node_id, service_id = bucket_ids(key)
    try:
        stored = _decode_bucket(value)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"the store's key {key} cannot be read: {error}") from error
    return [
        Task(
            t.id,
            service_id,
            node_id,
            t.slot,
            t.spec_version,
            t.desired_state,
            t.created_at,
            t.updated_at,
            t.run_at,
            t.result,
            t.attempt,
            revision,
            t.generic,
            t.addresses,
        )
        for t in stored
    ]


def decode_object(kind: type[S], key: str, value: bytes, revision: int) -> S:
    """Returns the object with its `version` set to the store's revision. Errors: `Corrupt`."""
    try:
        decoded = msgspec.msgpack.decode(value, type=kind)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"the store's key {key} cannot be read: {error}") from error
    return msgspec.structs.replace(decoded, version=revision)


def check_schema(value: bytes | None) -> int:
    """Returns the schema's version; refuses a store that a newer skep has written. Errors: `Corrupt`."""
    if value is None:
        return SCHEMA_VERSION
    try:
        found = int(value)
    except ValueError:
        raise Corrupt(
            f"the store's key {SCHEMA_KEY} cannot be read: it holds no number. Restore the swarm from a"
            " backup"
        ) from None
    if found > SCHEMA_VERSION:
        raise Corrupt(
            f"this swarm's store has schema version {found}; this skepd knows versions up to"
            f" {SCHEMA_VERSION}. Install a newer skep."
        )
    return found


def is_sealed_key(key: str) -> bool:
    """True for what may hold secrets: the CA's key and tokens, services' environments, secrets, configs."""
    return key == CLUSTER_KEY or key.startswith((_SERVICES, _REMOVED, *_MATERIALS))


def bucket_ids(key: str) -> tuple[str, str]:
    """Returns the node's and the service's id of a bucket's key. Errors: `Corrupt`."""
    node_id, slash, service_id = key.removeprefix(_TASKS).partition("/")
    if not (slash and node_id and service_id) or "/" in service_id:
        raise Corrupt(f"the store's key {key} names no node and service")
    return node_id, service_id


def id_of(key: str) -> str:
    """Returns the last part of a key: an object's id."""
    return key.rpartition("/")[2]


def kind_of(key: str) -> str:
    """Returns which share of the store a key belongs to (`model.bounds.SHARES`)."""
    return _KINDS.get(key[len(PREFIX) : key.find("/", len(PREFIX))], "the swarm itself")


def is_node(key: str) -> bool:
    return key.startswith(_NODES)


def is_service(key: str) -> bool:
    return key.startswith(_SERVICES)


def is_removed(key: str) -> bool:
    return key.startswith(_REMOVED)


def is_network(key: str) -> bool:
    return key.startswith(_NETWORKS)


def is_attachment(key: str) -> bool:
    return key.startswith(_ATTACHMENTS)


def is_material(key: str) -> bool:
    return key.startswith(_MATERIALS)


def is_name(key: str) -> bool:
    return key.startswith(_NAMES)


def is_bucket(key: str) -> bool:
    return key.startswith(_TASKS)
