"""Keys by which what goes between nodes is encrypted (`--opt encrypted`), as a node is told of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from .node import EnginePlugin, NodeDescription

# What a node says that it has, beside its engine's plugins, where its kernel can encrypt: tasks on encrypted
# networks are placed on such nodes only.
ESP = EnginePlugin(type="Encryption", name="esp")
SECRET_BYTES = 32
KEPT_MAX = 3  # keys that a node takes packets of: as Docker's, the last, this, and the next one
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
    0: by the one by which was sent before. `behind` are addresses of nodes that have not heard of that one:
    what goes to them is encrypted by the newest other one."""

    keys: tuple[OverlayKey, ...] = ()
    sending: int = 0
    behind: frozenset[str] = frozenset()

    def told(self, keys: Iterable[OverlayKey], sending: int, behind: Iterable[str]) -> OverlayKeys:
        """Returns those of a manager with the ones of before, by which others may send still."""
        new = tuple(keys)
        numbers = {each.number for each in new}
        kept = tuple(each for each in self.keys if each.number not in numbers)
        return OverlayKeys((*new, *kept)[:KEPT_MAX], sending or self.sending, frozenset(behind))

    def to(self, address: str) -> OverlayKey | None:
        """Returns the key for what goes to a node; None: there is none."""
        by_number = {each.number: each for each in self.keys}
        usual = by_number.get(self.sending) or next(iter(self.keys), None)
        if address not in self.behind:
            return usual
        return next((each for each in self.keys if each is not usual), usual)


def key_of(secret: str) -> OverlayKey:
    """Returns the key that a random text makes; nobody tells the rest of it from its number."""
    text = secret.encode()
    number = hashlib.blake2s(text, digest_size=4, person=b"number").digest()
    return OverlayKey(int.from_bytes(number, "big"), hashlib.blake2s(text, digest_size=SECRET_BYTES).digest())


def encrypted_port(data_port: int) -> int:
    """Returns the UDP port of encrypted networks' tunnels, by that of all others."""
    return data_port + 1 if data_port < _PORT_MAX else data_port - 1


def can_encrypt(description: NodeDescription) -> bool:
    """True for a node whose kernel can encrypt, and whose agent knows how."""
    return ESP in description.engine.plugins


def as_encrypting(description: NodeDescription) -> NodeDescription:
    """Returns what a node says of itself, with that it can encrypt."""
    engine = description.engine
    return replace(description, engine=replace(engine, plugins=[*engine.plugins, ESP]))
