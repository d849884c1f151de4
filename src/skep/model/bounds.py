"""How large anything may be that the swarm keeps, in bytes; each number with its reason beside it.

One table, so that it can be added up: what is stored (`SHARES`) must fit etcd's quota and a manager's memory
(`check_sum`), each value must fit a transaction, and each transaction etcd's limit, with room to spare.
Sizes are of what is encoded (msgpack), as it is written. Pure.
"""

from __future__ import annotations

from msgspec import Struct

from skep.runtime.errors import Invalid

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# One request to etcd. Its authors support requests up to 10 MiB, and its log cannot be read again with a larger
# entry in it. What we send has to fit with everything that etcd wraps around it.
ETCD_REQUEST_MAX_BYTES = 4 * MIB
TXN_MAX_BYTES = 2 * MIB  # a transaction, keys and values: half of that. SwarmKit's has 1.5 MB at most
TXN_CUT_BYTES = 1 * MIB  # what is cut (tasks, nodes, a restored store) begins another one here: 10 ms of disk
OP_BYTES = 64  # reckoned beside each key and value of a transaction; it is some 20
VALUE_MAX_BYTES = TXN_MAX_BYTES - 64 * KIB  # one value, with the keys and names that are written with it

# What users write
BODY_MAX_BYTES = (
    8 * MIB
)  # of a request: JSON and base64 of the largest config, with room; see below for its parts
SERVICE_SPEC_MAX_BYTES = 256 * KIB  # with every field full it is some 100 kB. It is kept four times and more:
SERVICE_MAX_BYTES = 1536 * KIB  # the spec, the one before, and the versions that tasks run: six such specs
REGISTRY_AUTH_MAX_BYTES = 16 * KIB  # a header; tokens of registries are some 4 kB
NETWORK_MAX_BYTES = 128 * KIB  # 64 subnets with a thousand reserved addresses are some 40 kB
SECRET_DATA_MAX_BYTES = 500 * KIB  # Docker's, not reached
CONFIG_DATA_MAX_BYTES = 1000 * KIB  # Docker's, not reached
LABELS_MAX_BYTES = 64 * KIB  # of a secret, a config or a node, as its user gives them: a thousand
CLUSTER_MAX_BYTES = 256 * KIB  # the swarm's spec with two roots and their chains is some 10 kB

# What nodes say
HOSTNAME_MAX_BYTES = 255  # DNS's; Linux has 64
ADDRESS_MAX_BYTES = 300  # host:port, where the host may be a name of 253
NODE_LABELS_MAX_BYTES = 16 * KIB  # of an engine, in all: some hundred
NODE_DESCRIPTION_MAX_BYTES = 32 * KIB  # in all: some 2 kB as a rule, 10 kB with many labels and devices
STATUS_MESSAGE_MAX_BYTES = 500  # the engine's and ours are some 60
STATUS_ERROR_MAX_BYTES = 2000  # the engine's longest are some 600, and a slot keeps several of them
STATUS_PORTS_MAX = 4096  # host ports of one task; a service's are named one by one
CONTAINER_ID_MAX_BYTES = 64

# Tasks: those of one service on one node are one value of the store, a bucket
BUCKET_MAX_BYTES = VALUE_MAX_BYTES  # texts of tasks that ended are shortened, the oldest first, until it fits
TASK_BYTES = 96  # one without texts and addresses: id 26, three times 27, state, slot, version, attempt
TASK_ADDRESS_BYTES = 120  # an address on one network with its node's own; IPv4's are some 70
TASK_CLAIM_BYTES = 16  # beside the name of each kind of generic resources
COMPLETIONS_MAX = (
    20_000  # of a job: all are kept, and one node may have done them all: BUCKET_MAX / TASK_BYTES
)
REPLICAS_MAX = 1_000_000  # ten times the largest swarm this was measured with; more is a slip of the key

# The store as a whole
ETCD_QUOTA_BYTES = 8 * GIB  # of its file, as its authors advise at most
HISTORY_SHARE = 4  # so many times what lives: etcd keeps what was written over until it compacts
ATTACHMENT_MAX_BYTES = 1 * KIB  # ids and two addresses are some 200 bytes
NAME_MAX_BYTES = 256  # an id, under a name of 64 characters at most


class Share(Struct, frozen=True):
    """What one kind of object may take of the store: each value, and all together with their keys."""

    kind: str
    value_max_bytes: int
    total_max_bytes: int


# A manager has all of it in memory, twice while it begins to lead: 1.5 GB at the very most.
SHARES = (
    Share("secrets and configs", CONFIG_DATA_MAX_BYTES + LABELS_MAX_BYTES, 128 * MIB),  # 64,000 of 2 kB
    Share("services", SERVICE_MAX_BYTES, 128 * MIB),  # 26,000 of 5 kB
    Share("networks", NETWORK_MAX_BYTES, 16 * MIB),  # 16,000: a third of a VXLAN's ids that tasks could use
    Share("nodes", NODE_DESCRIPTION_MAX_BYTES + LABELS_MAX_BYTES + 4 * KIB, 128 * MIB),  # 40,000 of 3 kB
    Share("tasks", BUCKET_MAX_BYTES, 256 * MIB),  # two millions of 130 bytes, each with a result
    Share("attachments", ATTACHMENT_MAX_BYTES, 32 * MIB),  # 100,000 single containers
    Share("names", NAME_MAX_BYTES, 16 * MIB),  # of services, networks, secrets, configs: 100,000
    Share("the swarm itself", CLUSTER_MAX_BYTES, 1 * MIB),
)


def live_max_bytes() -> int:
    """Returns how much a swarm keeps at most."""
    return sum(share.total_max_bytes for share in SHARES)


def check_sum(quota_bytes: int = ETCD_QUOTA_BYTES) -> None:
    """Adds the table up. Errors: `Invalid` where something does not fit what it is to fit into."""
    needed = HISTORY_SHARE * live_max_bytes()
    if quota_bytes < needed:
        raise Invalid(
            f"etcd's quota of {quota_bytes // MIB} MiB is too small: {needed // MIB} MiB are needed, {HISTORY_SHARE}"
            f" times the {live_max_bytes() // MIB} MiB that a swarm keeps at most (--etcd-quota-mib)"
        )
    largest = max(SHARES, key=lambda share: share.value_max_bytes)
    for what, size, room in (
        (f"a value of {largest.kind}", largest.value_max_bytes, VALUE_MAX_BYTES),
        ("a service's first two specs, each kept twice", 4 * SERVICE_SPEC_MAX_BYTES, SERVICE_MAX_BYTES),
        ("a job's tasks on one node", COMPLETIONS_MAX * TASK_BYTES, BUCKET_MAX_BYTES),
        ("a transaction twice", 2 * TXN_MAX_BYTES, ETCD_REQUEST_MAX_BYTES),
        ("a request to etcd twice", 2 * ETCD_REQUEST_MAX_BYTES, 10 * MIB),
    ):
        if size > room:
            raise Invalid(f"the bounds do not add up: {what} takes {size} bytes, {room} may be")
