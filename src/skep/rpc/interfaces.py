"""What the manager and the agent need of a link. `rpc.link` does it over TLS, `sim.net` in virtual time.

A connection carries frames (bytes); `rpc.messages` gives them a meaning. Sending never blocks: a peer
that does not read is cut off when `BUFFER_MAX_BYTES` wait for it.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

FRAME_MAX_BYTES = 16 << 20  # one complete assignment set of a node: 16 MB is 100,000 tasks on one node
# Of a peer without a certificate. Enrolment asks with some 2 kB; to decode what anybody may send must be
# nothing to the loop: 64 kB take half a millisecond at the worst.
STRANGER_FRAME_MAX_BYTES = 64 << 10
BUFFER_MAX_BYTES = 32 << 20  # two such frames; more means that the peer does not read


class Identity(Struct, frozen=True):
    """Who a certificate says the peer is (Docker's: CN = node id, OU = role, O = cluster id)."""

    node_id: str
    role: str  # "worker" | "manager"
    cluster_id: str
    not_after: float = 0.0  # certificate expiry, seconds since the epoch


class Connection(Protocol):
    """One connection, already authenticated."""

    identity: Identity | None  # None only on a server: a client that showed no certificate (enrolment)
    remote_host: str  # the peer's address as seen from here, without a port
    local_host: str  # our own, as the peer sees it

    def send(self, frame: bytes) -> None:
        """Queues one frame. Does nothing on a closed connection (its handler has been told)."""
        ...

    def close(self) -> None:
        """Ends the connection; the handler's `closed` follows."""
        ...


class Handler(Protocol):
    """Receives what a connection brings; called from the event loop, must not block."""

    def connected(self, connection: Connection) -> None: ...

    def frame(self, data: bytes) -> None: ...

    def closed(self, reason: str) -> None: ...
