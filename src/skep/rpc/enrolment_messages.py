"""How a node joins, on one TLS connection without a client certificate.

node                             manager
GetCa  ------------------------>
       <------------------------ Ca          the digest must be the token's, and the peer of this very
                                             connection must hold a manager's certificate of that CA
Enrol  ------------------------>             only now the secret is sent
       <------------------------ Enrolled | Refused

One question and one enrolment are all that a connection is for: the manager ends it then, unless the node
may stay on it (ADR 0030): then what follows is a session, as on a connection with the new certificate. A
manager that does not lead sends such a node to the leader (`Elsewhere`).
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from skep.model.node import NodeDescription
from skep.rpc.messages import UNREADABLE
from skep.runtime.errors import Invalid


class GetCa(Struct, frozen=True, tag="get-ca"):
    """Which root certificate do you go by?"""


class Ca(Struct, frozen=True, tag="ca"):
    """`chain_pem` is what leads from the root to the manager's certificate, where it is not direct. `nonce`,
    of this connection alone, is to be in the request of a node that stays; empty: an earlier manager's."""

    pem: bytes
    chain_pem: bytes = b""
    nonce: str = ""


class Enrol(Struct, frozen=True, tag="enrol"):
    """Take me in: as what, the token says. `stays`: this connection may become the node's first session."""

    token: str
    request_pem: bytes
    availability: str
    description: NodeDescription
    stays: bool = False


class Asked(Struct, frozen=True, tag="enrol"):
    """`Enrol` as the manager reads it: what is long is not looked at before the token is."""

    token: str
    request_pem: bytes
    availability: str
    description: msgspec.Raw
    stays: bool = False

    def whole(self) -> Enrol:
        """Returns all of it. Errors: `Invalid`."""
        try:
            description = _description.decode(self.description)
        except UNREADABLE as error:
            raise Invalid(f"not a message of enrolment: {error}") from error
        return Enrol(self.token, self.request_pem, self.availability, description)


class Enrolled(Struct, frozen=True, tag="enrolled"):
    """`stays`: it does, and `managers` begin with this one."""

    node_id: str
    certificate_pem: bytes
    cluster_id: str
    managers: list[str]
    stays: bool = False


class Elsewhere(Struct, frozen=True, tag="elsewhere"):
    """Not taken in yet: the manager there leads, and would have to be asked anyway."""

    host: str
    port: Annotated[int, Meta(ge=1, le=65535)]


class Refused(Struct, frozen=True, tag="refused"):
    """`kind`: denied, unavailable, unsupported, invalid."""

    kind: str
    message: str


FromManager = Ca | Enrolled | Elsewhere | Refused

encode = msgspec.msgpack.Encoder().encode
_description = msgspec.msgpack.Decoder(NodeDescription)
_from_node: msgspec.msgpack.Decoder[GetCa | Asked] = msgspec.msgpack.Decoder(GetCa | Asked)
_from_manager: msgspec.msgpack.Decoder[FromManager] = msgspec.msgpack.Decoder(FromManager)


def decode_from_node(frame: bytes) -> GetCa | Asked:
    """Errors: `Invalid`."""
    try:
        return _from_node.decode(frame)
    except UNREADABLE as error:
        raise Invalid(f"not a message of enrolment: {error}") from error


def decode_from_manager(frame: bytes) -> FromManager:
    """Errors: `Invalid`."""
    try:
        return _from_manager.decode(frame)
    except UNREADABLE as error:
        raise Invalid(f"not a message of enrolment: {error}") from error
