"""Keys of encrypted overlay networks, to nodes that have somebody on one."""

from __future__ import annotations

from msgspec import Struct

from skep.model.overlay_keys import OverlayKey
from skep.rpc.messages.session import Lead


class OverlayKeysTold(Struct, frozen=True, tag="overlay-keys", omit_defaults=True):
    """The leader's keys, the newest first, whole each time (`model.overlay_keys.OverlayKeys` says what the
    rest means). A node keeps what it has heard from an earlier leader, which this one does not know."""

    keys: list[OverlayKey]
    sending: int = 0
    behind: list[str] = []
    lead: Lead | None = None
