"""The keys of encrypted overlay networks: made by the leader, in its memory only, told to who needs them.

A key is told first, and sent by a moment later, when all have it: nobody is sent what he cannot open. A new
leader makes a new one, for it knows of none; nodes go on with what they have until then. To a node that was
away when the key changed (a skepd that is down, while its containers run) the others send by the one it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog

from skep.model.ipv4 import number_of
from skep.model.node import NodeDescription
from skep.model.overlay import OverlayNetwork
from skep.model.overlay_keys import ESP, OverlayKey
from skep.rpc.messages import OverlayKeysTold

from .sessions import Sessions

log = structlog.get_logger()

# An association ends with its 2^32nd packet: within an hour more than a processor can encrypt for one node.
KEY_S = 3600.0
# From when a key is told until it is sent by: all nodes that there are have come to a new leader by then, and
# have their kernels know it.
SETTLE_S = 10.0
NEWS_S = 1.0  # nodes that were away come together: the others are told of them together
OF_LEADER_MAX = 2  # nodes keep one more (`model.overlay_keys.KEPT_MAX`)
BEHIND_MAX = 64  # addresses in each message; were there more, that is no moment in which one is missing

TRIES_MAX = 8  # for a key whose associations' numbers are no other one's: once in 60,000 the first is none

Located = Callable[[], Iterable[tuple[str, str]]]


class OverlayKeyring:
    """`located` are the nodes with somebody on an encrypted network: (node id, where its tunnels end)."""

    def __init__(self, sessions: Sessions, located: Located, new_key: Callable[[], OverlayKey]) -> None:
        self._sessions = sessions
        self._located = located
        self._new_key = new_key
        self._keys: list[OverlayKey] = []  # the newest first
        self._sending = 0
        self._behind: dict[str, str] = {}  # node -> address
        self._able: set[str] = set()  # nodes with a session that can encrypt
        self._heard: set[str] = set()  # nodes with a session that were told all of this
        self._switch_at: float | None = None  # loop time
        self._rotate_at = 0.0
        self._is_news = False
        self._timer: asyncio.TimerHandle | None = None

    def described(self, node_id: str, said: NodeDescription) -> bool:
        """A node with a session says what it can. Returns whether it can encrypt, and could not before."""
        could = node_id in self._able
        (self._able.add if said.has(ESP) else self._able.discard)(node_id)
        return said.has(ESP) and not could

    def admits(self, node_id: str, network: OverlayNetwork) -> bool:
        """False for a node that would send plainly what is to be encrypted: nothing is placed there, but for
        what came before it was started with another kernel."""
        return not network.is_encrypted or node_id in self._able

    def comes(self, node_id: str, network: OverlayNetwork) -> None:
        """The node is told of the network next: first of the keys, where it needs them."""
        if not network.is_encrypted or node_id in self._heard:
            return
        if not self._keys:
            self._make_key()
        self._heard.add(node_id)
        self._is_news |= self._behind.pop(node_id, None) is not None
        self._sessions.send(node_id, self._told())
        self._wait()

    def left(self, node_id: str) -> None:
        """The node has nobody on an encrypted network any more."""
        self._heard.discard(node_id)

    def ended(self, node_id: str) -> None:
        """The node's session has ended."""
        self._heard.discard(node_id)
        self._able.discard(node_id)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _make_key(self) -> None:
        now = asyncio.get_running_loop().time()
        addresses = {number_of(address) for _, address in self._located()}
        key = self._new_key()
        for _ in range(TRIES_MAX):
            if not any(_is_mixed_up(key, each, addresses) for each in self._keys):
                break
            key = self._new_key()
        self._keys = [key, *self._keys][:OF_LEADER_MAX]
        self._switch_at, self._rotate_at = now + SETTLE_S, now + KEY_S
        log.info("overlays.new_key", number=self._keys[0].number)

    def _wait(self) -> None:
        """Has a look taken when something is next to be done."""
        self.stop()
        loop = asyncio.get_running_loop()
        at = min(self._rotate_at, self._switch_at or self._rotate_at)
        at = min(at, loop.time() + NEWS_S) if self._is_news else at
        self._timer = loop.call_at(at, self._look)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self._heard:  # nobody to tell: whoever comes next begins it anew
            self._keys, self._sending, self._behind, self._is_news = [], 0, {}, False
            return
        if now >= self._rotate_at:
            self._make_key()
            self._is_news = True
        elif self._switch_at is not None and now >= self._switch_at:
            self._switch_at, self._sending, self._is_news = None, self._keys[0].number, True
            away = ((node, at) for node, at in self._located() if node not in self._heard)
            self._behind = dict(sorted(away)[:BEHIND_MAX])
        if self._is_news:
            self._is_news = False
            told = self._told()
            for node_id in self._heard:
                self._sessions.send(node_id, told)
        self._wait()

    def _told(self) -> OverlayKeysTold:
        behind = sorted(self._behind.values())
        return OverlayKeysTold(list(self._keys), self._sending, behind, self._sessions.lead)


def _is_mixed_up(one: OverlayKey, other: OverlayKey, addresses: set[int]) -> bool:
    """True where two senders would have one number for their associations, which is all that who receives
    goes by (`network.esp`)."""
    return not addresses.isdisjoint(each ^ one.number ^ other.number for each in addresses)
