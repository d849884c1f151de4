"""What a node's kernel has of the swarm's networks, as the node finds it."""

from __future__ import annotations

from msgspec import Struct

# Objects that are named, and counts of connections and bytes: what people read, and 200 kB in a message.
# There are thousands where something is very wrong, and a swarm has some hundred ports.
NAMED_MAX, COUNTED_MAX = 50, 2000


class Bytes(Struct, frozen=True, rename="pascal"):
    """What connections have carried, with the headers of IP: from clients, and to them."""

    received: int = 0
    sent: int = 0


class Carried(Struct, frozen=True, gc=False):
    """What a node has led to tasks by one published port (`8080/tcp`), or one service's own address: how many
    connections, and what these carried, with the headers of IP. Since the node has rules for it."""

    of: str
    connections: int
    received_bytes: int
    sent_bytes: int


class KernelNet(Struct, frozen=True, rename="pascal"):
    """`objects` are how many there are of each kind. `missing` is what should be there and is not, or is
    otherwise, `surplus` what should not be there: `NAMED_MAX` of each at most, and how many there are.
    `connections` are those that this node has led to tasks since it has rules for them: by published port,
    as `8080/tcp`, and by services' own addresses on overlay networks; `bytes` are what these carried (an
    earlier agent counts none). `failures` are sentences: what keeps the node from more, or from looking."""

    objects: dict[str, int] = {}
    missing: list[str] = []
    missing_count: int = 0
    surplus: list[str] = []
    surplus_count: int = 0
    connections: dict[str, int] = {}
    failures: list[str] = []
    bytes: dict[str, Bytes] = {}
