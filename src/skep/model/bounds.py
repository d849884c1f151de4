"""How large anything may be that the swarm keeps, in bytes; each number with its reason beside it.

One table, so that it can be added up: what is stored (`SHARES`) must fit etcd's quota and a manager's memory
(`check_sum`), each value must fit a transaction, and each transaction etcd's limit, with room to spare.
Sizes are of what is encoded (msgpack), as it is written. Pure.
"""

from __future__ import annotations

from msgspec import Struct

from skep.runtime.errors import Invalid

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# One request to etcd. Its authors support up to 10 MiB, and its log cannot be read again with a larger entry
# in it. What we send has to fit with everything that etcd wraps around it.
ETCD_REQUEST_MAX_BYTES = 4 * MIB
TXN_MAX_BYTES = 2 * MIB  # a transaction, keys and values: half of that. SwarmKit's has 1.5 MB at most
TXN_CUT_BYTES = 1 * MIB  # what is cut (tasks, nodes, a restored store) begins another one here: 10 ms of disk
OP_BYTES = 64  # reckoned beside each key and value of a transaction; it is some 20
VALUE_MAX_BYTES = TXN_MAX_BYTES - 64 * KIB  # one value, with the keys and names that are written with it

# What users write
BODY_MAX_BYTES = (
    2 * MIB
)  # of a request: JSON and base64 of the largest config (1.4 MB); its parts have their own
# Of a request's body, members of objects and elements of lists in all: each is looked at several times on the
# loop, for 5 µs.
ELEMENTS_MAX = 60_000
# Of a container's, which is the engine's own and looked at in a thread: every port there is, published, is
# 330,000 elements and 4 MB.
CONTAINER_BODY_MAX_BYTES = 8 * MIB
CONTAINER_ELEMENTS_MAX = 400_000
SERVICE_SPEC_MAX_BYTES = 200 * KIB  # with every field full it is some 100 kB. It is kept four times and more:
SERVICE_MAX_BYTES = 1536 * KIB  # the spec, the one before, and the versions that tasks run: seven such specs
SERVICE_NETWORKS_MAX = 64  # an address of each is written with each task
# Each is held against each node, for 1 µs, so these are 0.1 s in a swarm of a thousand. People write five.
CONSTRAINTS_MAX = 100
PLATFORMS_MAX = 100  # clients copy an image's list; the longest in use have twenty
GENERIC_MAX = 16  # kinds of generic resources; each costs ten times as much, and hosts have one or two
PREFERENCES_MAX = 16  # each divides the nodes once more
NETWORK_MAX_BYTES = 128 * KIB  # 64 subnets with a thousand reserved addresses are some 40 kB
AUXILIARY_MAX = 1000  # reserved addresses of a network: each is read whenever a manager begins to lead
SECRET_DATA_MAX_BYTES = 500 * KIB  # Docker's, not reached
CONFIG_DATA_MAX_BYTES = 1000 * KIB  # Docker's, not reached
LABELS_MAX_BYTES = 64 * KIB  # of a secret, a config or a node, as its user gives them: a thousand
SWARM_SPEC_MAX_BYTES = 64 * KIB  # some hundred bytes, 10 kB where a root is given
CLUSTER_MAX_BYTES = 256 * KIB  # that, two roots and their chains

# What nodes say
ADDRESS_MAX_BYTES = 300  # host:port, where the host may be a name of 253
NODE_LABELS_MAX_BYTES = 16 * KIB  # of an engine, in all: some hundred
NODE_DESCRIPTION_MAX_BYTES = 32 * KIB  # in all: some 2 kB as a rule, 10 kB with many labels and devices
NODE_DESCRIPTION_SAID_MAX_BYTES = 100 * KIB  # as it arrives: what is too much of it is left out, in 1 ms
STATUS_MESSAGE_MAX_BYTES = 500  # the engine's and ours are some 60
STATUS_ERROR_MAX_BYTES = 2000  # the engine's longest are some 600, and a slot keeps several of them
STATUS_PORTS_MAX = 4096  # host ports of one task; a service's are named one by one

# Tasks: those of one service on one node are one value of the store, a bucket
BUCKET_MAX_BYTES = VALUE_MAX_BYTES  # texts of tasks that ended are shortened, the oldest first, until it fits
TASK_BYTES = 104  # one without texts and addresses: id 26, five times 45, states, slot, version, numbers
TASK_ADDRESS_BYTES = 120  # an address on one network with its node's own; IPv4's are some 70
TASK_CLAIM_BYTES = 16  # beside the name of each kind of generic resources
NAMED_CLAIMS_MAX_BYTES = 64 * KIB  # names of generic resources of a node's tasks: each is one task's
COMPLETIONS_MAX = 18_000  # of a job: all are kept, and one node may have done them all
REPLICAS_MAX = 1_000_000  # of all services: ten times the largest swarm measured; more is a slip of the key

# The store as a whole
ETCD_QUOTA_BYTES = 8 * GIB  # of its file, as its authors advise at most
HISTORY_SHARE = 4  # so many times what lives: etcd keeps what was written over until it compacts
ATTACHMENT_MAX_BYTES = 1 * KIB  # ids and two addresses are some 200 bytes
NAME_MAX_BYTES = 256  # an id, under a name of 64 characters at most
NODE_MAX_BYTES = NODE_DESCRIPTION_MAX_BYTES + LABELS_MAX_BYTES + 4 * KIB  # with its addresses and times
_RECORD = "its spec, the one before, and the versions that its tasks run"


class Share(Struct, frozen=True):
    """What one kind of object may take of the store: each value, and all together with their keys. `one` is
    what a user is told that is too large."""

    kind: str
    one: str
    value_max_bytes: int
    total_max_bytes: int


# A manager has all of it in memory, twice while it begins to lead: 1.1 GB at the very most.
SHARES = (
    # 64,000 of 2 kB
    Share(
        "secrets and configs", "this, with its labels,", CONFIG_DATA_MAX_BYTES + LABELS_MAX_BYTES, 128 * MIB
    ),
    # 13,000 of 5 kB; also those that are being removed
    Share("services", "the service's record (" + _RECORD + ")", SERVICE_MAX_BYTES, 64 * MIB),
    # 8,000 of 1 kB
    Share("networks", "the network's record", NETWORK_MAX_BYTES, 8 * MIB),
    # 20,000 of 3 kB
    Share("nodes", "the node's record", NODE_MAX_BYTES, 64 * MIB),
    # 100,000 replicas with a history of five and its texts; or two millions of 130 bytes
    Share("tasks", "what is kept of the service's tasks on one node", BUCKET_MAX_BYTES, 256 * MIB),
    # 60,000 single containers on the swarm's networks
    Share("attachments", "the attachment", ATTACHMENT_MAX_BYTES, 16 * MIB),
    # Of services, networks, secrets and configs: 80,000
    Share("names", "the name", NAME_MAX_BYTES, 8 * MIB),
    Share("the swarm itself", "the swarm's own record", CLUSTER_MAX_BYTES, 1 * MIB),
)


def live_max_bytes() -> int:
    """Returns how much a swarm keeps at most."""
    return sum(share.total_max_bytes for share in SHARES)


def check_sum(quota_bytes: int = ETCD_QUOTA_BYTES) -> None:
    """Adds the table up. Errors: `Invalid` where something does not fit what it is to fit into."""
    needed = HISTORY_SHARE * live_max_bytes()
    if quota_bytes < needed:
        raise Invalid(
            f"etcd's quota of {quota_bytes // MIB} MiB is too small: {needed // MIB} MiB are needed,"
            f" {HISTORY_SHARE} times the {live_max_bytes() // MIB} MiB that a swarm keeps at most"
        )
    largest = max(SHARES, key=lambda share: share.value_max_bytes)
    for what, size, room in (
        (f"a value of {largest.kind}", largest.value_max_bytes, VALUE_MAX_BYTES),
        ("a service with its spec kept seven times", 7 * SERVICE_SPEC_MAX_BYTES, SERVICE_MAX_BYTES),
        ("a job on one node", COMPLETIONS_MAX * TASK_BYTES + NAMED_CLAIMS_MAX_BYTES, BUCKET_MAX_BYTES),
        ("a transaction twice", 2 * TXN_MAX_BYTES, ETCD_REQUEST_MAX_BYTES),
        ("a request to etcd twice", 2 * ETCD_REQUEST_MAX_BYTES, 10 * MIB),
    ):
        if size > room:
            raise Invalid(f"the bounds do not add up: {what} takes {size} bytes, {room} may be")
