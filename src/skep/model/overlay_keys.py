"""Keys by which what goes between nodes is encrypted (`--opt encrypted`), as a node is told of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from msgspec import Struct

from .node import EnginePlugin

# What a node says that it has, beside its engine's plugins, where its kernel can encrypt: tasks on encrypted
# networks are placed on such nodes only.
ESP = EnginePlugin(type="Encryption", name="esp")
SECRET_BYTES = 32
KEPT_MAX = 3  # keys that a node takes packets of: as Docker's, the last, this, and the next one
KNOWN_MAX = 8  # with those by which is sent to nodes that are away for hours
# The UDP port of encrypted networks' tunnels is the next one: by that alone the kernel knows what must not go
# plain. It is seen by the two hosts only; what goes between them is ESP.
_PORT_MAX = 49151  # of those that `--data-path-port` may be


class OverlayKey(Struct, frozen=True, array_like=True):
    """A swarm's key for some time. `number` is random, of 32 bits: it tells one from another on the wire."""

    number: int
    secret: bytes

    def __repr__(self) -> str:
        """Whatever prints it (a log, a trace) shows no secret."""
        return f"OverlayKey({self.number:#x})"


class OverlayKeys(Struct, frozen=True):
    """All that a node was told of them, the newest first. `sending` is the number of the key that is sent by;
    0: none was named yet. `kept` are nodes (their addresses) that have not heard of that one, each with the
    number of the key by which was sent to it before, and is still."""

    keys: tuple[OverlayKey, ...] = ()
    sending: int = 0
    kept: dict[str, int] = {}

    def told(self, keys: Iterable[OverlayKey], sending: int, behind: Iterable[str]) -> OverlayKeys:
        """Returns those of a manager with the ones of before, by which others may send still. No `sending`: a
        new leader has named none yet, and all is sent as before; `behind` are nodes that have not heard of
        the one that is named."""
        if sending:
            before = {address: self.kept.get(address, self.sending) for address in behind}
            kept = {address: number for address, number in before.items() if number not in (0, sending)}
        else:
            sending, kept = self.sending, self.kept
        new = tuple(keys)
        numbers = {each.number for each in new}
        all_known = (*new, *(each for each in self.keys if each.number not in numbers))
        needed = {sending, *kept.values()}
        known = [e for at, e in enumerate(all_known) if at < KEPT_MAX or e.number in needed]
        return OverlayKeys(tuple(known[:KNOWN_MAX]), sending, kept)

    def to(self, address: str) -> OverlayKey | None:
        """Returns the key for what goes to a node; None: there is none."""
        by_number = {each.number: each for each in self.keys}
        usual = by_number.get(self.sending) or next(iter(self.keys), None)
        return by_number.get(self.kept.get(address, 0), usual)


def key_of(secret: str) -> OverlayKey:
    """Returns the key that a random text makes; nobody tells the rest of it from its number."""
    text = secret.encode()
    number = hashlib.blake2s(text, digest_size=4, person=b"number").digest()
    return OverlayKey(int.from_bytes(number, "big"), hashlib.blake2s(text, digest_size=SECRET_BYTES).digest())


def encrypted_port(data_port: int) -> int:
    """Returns the UDP port of encrypted networks' tunnels, by that of all others."""
    return data_port + 1 if data_port < _PORT_MAX else data_port - 1
