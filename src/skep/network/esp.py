"""What goes between nodes on encrypted networks, as IPsec's ESP (RFC 4303) has it in the kernel. Pure.

Encrypted networks' tunnels have a UDP port of their own, and the kernel's policies say of it: nothing leaves
this host for that port, or is taken at it, but by ESP, in transport mode. One security association leads to
each other node, and one from it for each key, as some may send by an earlier one still. All secrets come from
the swarm's key, for each direction between two nodes another one: two nodes never encrypt by the same. Rules
of nftables hold for what the policies would do, where somebody flushed these.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from skep.model.ipv4 import number_of
from skep.model.overlay_keys import OverlayKey, OverlayKeys
from skep.network.chains import elements
from skep.network.objects import EspPolicy, EspState, Object, chain
from skep.network.segment import Segment

IN, OUT = "in", "out"
SEALED_OUT, SEALED_IN = "sealed-out", "sealed-in"
_SPI_MIN = 256  # smaller ones have a meaning (RFC 4303, 2.1)
_SECRET_BYTES = 20  # AES of 128 bits, and four bytes of salt (RFC 4106)


class End(Struct, frozen=True):
    """Where tunnels of encrypted networks end here, and the addresses of those that may send to it."""

    own: str
    port: int
    others: frozenset[str]


def ends_of(segments: Iterable[Segment]) -> tuple[End, ...]:
    """Returns where what is to be encrypted leaves this host; none where nothing is."""
    encrypted = [each for each in segments if each.is_encrypted and each.has_tunnel]
    return tuple(End(each.own, each.network.data_port, each.ways.reach.senders) for each in encrypted)


def esp_objects(
    ends: Sequence[End], keys: OverlayKeys, found: frozenset[EspState] = frozenset()
) -> tuple[Object, ...]:
    """Returns what encrypts, and what drops all that is plain, whatever becomes of that. `found` are the
    associations that the kernel has: of keys that this process may not have heard of, as it is new, and by
    which others send until the leader's next key."""
    policies = [EspPolicy(way, a, p) for a, p in sorted({(e.own, e.port) for e in ends}) for way in (OUT, IN)]
    states: dict[object, EspState] = {}
    if len(keys.keys) < 2:  # else it knows what there was before
        owns = {each.own for each in ends}
        states = {each.key: each for each in found if each.to in owns}
    sent = {(each.source, each.to): each for each in found} if not keys.sending else {}
    for own, other in sorted({(each.own, other) for each in ends for other in each.others}):
        made = [_state(other, own, key) for key in keys.keys]
        if (before := sent.get((own, other))) is not None:
            made.append(before)
        elif (key_to := keys.to(other)) is not None:
            made.append(_state(own, other, key_to))
        states.update((each.key, each) for each in made)
    here = elements({each.own for each in ends})
    ports = elements({str(each.port) for each in ends})
    out = chain(SEALED_OUT, [f"ip saddr {here} udp dport {ports} rt ipsec missing drop"], _hook("output"))
    back = chain(SEALED_IN, [f"ip daddr {here} udp dport {ports} meta ipsec missing drop"], _hook("input"))
    return (*states.values(), *policies, out, back)


def esp_failures(segments: Iterable[Segment], keys: OverlayKeys) -> Iterator[str]:
    """Yields which networks lead nowhere, as nothing can be encrypted yet, for people."""
    if not keys.keys:
        for each in segments:
            if each.is_encrypted and each.ways.reach.others:
                yield f"network {each.network.name} is encrypted, and no manager has told this node a key yet"


def _state(source: str, to: str, key: OverlayKey) -> EspState:
    """Who receives knows an association by its number (SPI) alone: it is another for each sender, and key."""
    spi = number_of(source) ^ key.number
    spi = spi if spi >= _SPI_MIN else spi | 1 << 31
    secret = hmac.digest(key.secret, f"skep esp {source} {to}".encode(), hashlib.sha256)[:_SECRET_BYTES]
    return EspState(source, to, spi, secret)


def _hook(name: str) -> tuple[str, str, int]:
    return "filter", name, -150
