"""Standby connections: a node has one open to managers that do not lead, for when one of them comes to.

TLS says which they are (ALPN), so that no end takes one for something else: an earlier manager, which would
close it after some seconds or take a word it does not know for a fault of the node's, selects nothing, and
the node lets go of it. Both ends are silent until the node registers; the manager says then that it is there,
before anything else, for it may be a while until somebody leads.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

PROTOCOL = "skep-standby/1"
# How often the kernel asks whether the other end of one that waits is there. Sessions are asked every two
# seconds; a standby that is dead is noticed at its use as well, and 4,600 of them must cost next to nothing.
KEEPALIVE_S = 30


class Here(Struct, frozen=True, tag="here"):
    """What a manager says as soon as a standby connection is used."""


HERE = msgspec.msgpack.encode(Here())
