"""Certificates of nodes, and the root that they trust."""

from __future__ import annotations

from msgspec import Struct


class Renew(Struct, frozen=True, tag="renew"):
    """Asks for a new certificate, for a new key; who asks is known from the present one."""

    request_pem: bytes


class Renewed(Struct, frozen=True, tag="renewed"):
    """The new certificate. The session goes on as it is; the next one shows it."""

    certificate_pem: bytes
    ca_pem: bytes


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
