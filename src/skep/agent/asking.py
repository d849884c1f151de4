"""What this node asks a manager of large networks: who has a name or an address, and, of what it knew in a
session of before, whether that is so still.

Of each network one question is under way at a time, and what comes meanwhile goes with the next one: however
much containers ask, a manager hears of a node forty times a second at most. What is found is told before the
answer comes (`networking`), and from then on as it changes.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from skep.agent.session import Session
from skep.model.mesh import tunnel_name
from skep.model.overlay import Overlay
from skep.network.segment import subnet_of
from skep.rpc import messages
from skep.runtime.errors import SkepError
from skep.runtime.supervise import cancel_and_wait

if TYPE_CHECKING:
    from skep.network.misses import Misses

NAME, ADDRESS, SERVICE = "name", "address", "service"
ASK_S = 2.0  # of the four seconds that an engine waits for a name, in which others may have to be asked, too
PACE_S = 0.025  # a manager answers 50 questions of a node in a second, and not those beyond
ITEMS_MAX = 256  # as many as a manager takes in one question
MISSED_MAX = 1024  # addresses of one network that wait: a container may miss all there are; it repeats itself
# What nobody has is not asked for again: what is asked for all the time costs one question in it.
UNKNOWN_S, UNKNOWN_MAX = 1.0, 4096
Item = tuple[str, str]  # which of these, and the name, the address or the id itself

Answered = Callable[[str, messages.OverlayAnswered], None]  # (network id, what its manager does not know)


class Asking:
    """A subject of the session. `answered` hears of all answers."""

    def __init__(self, session: Session, answered: Answered) -> None:
        self._session = session
        self._answered = answered
        self._misses: Misses | None = None
        self._networks: dict[str, _Network] = {}  # large ones
        self._by_tunnel: dict[str, _Network] = {}
        self._unknown: dict[tuple[str, Item], float] = {}  # until when they are so, the first to end first
        self._next_at = 0.0  # when the next question may be put
        self._number = 0
        self.failures: list[str] = []  # why addresses cannot be asked for, sentences for people
        session.on(messages.OverlayAnswered, lambda said: None, messages.RESOLVE)

    def told(self, overlays: Mapping[str, Overlay]) -> None:
        """These are all the networks from now on, as this node knows them."""
        large = {i: each for i, each in overlays.items() if each.network.is_large}
        for network_id in self._networks.keys() - large.keys():
            self._networks.pop(network_id).give_up()
        for network_id, overlay in large.items():
            if network_id not in self._networks:
                self._networks[network_id] = _Network(network_id)
            self._networks[network_id].overlay = overlay
        self._by_tunnel = {tunnel_name(o.network.vni): self._networks[i] for i, o in large.items()}
        self._listen()

    async def ask(self, network_id: str, items: Iterable[Item]) -> bool:
        """Returns whether anything of that was told by now: what is found within `ASK_S`, or known before."""
        network = self._networks.get(network_id)
        if network is None or not self._session.manager_knows(messages.RESOLVE):
            return False
        found = [self._want(network, each) for each in items]
        asked = [each for each in found if each is not None]
        if asked:
            # Others may wait for the same: who goes takes nothing from them.
            await asyncio.wait(asked, timeout=ASK_S)
        return any(each.done() and each.result() for each in asked)

    def ask_again(self, network_id: str, items: Iterable[Item]) -> None:
        """Has all of this be asked for until it is answered: the node goes on with it meanwhile."""
        network = self._networks.get(network_id)
        if network is not None:
            for each in items:
                network.kept.add(each)
                # Also what is being asked for: that answer may have been on its way before all was told anew.
                self._put_next(network, each)

    def missed(self, tunnel: str, address: str) -> None:
        """Somebody on that tunnel's bridge does not know who has an address."""
        network = self._by_tunnel.get(tunnel)
        if network is None or not self._session.manager_knows(messages.RESOLVE):
            return
        if len(network.waiting) < MISSED_MAX and network.may_miss(address):
            self._want(network, (ADDRESS, address))

    async def close(self) -> None:
        if self._misses is not None:
            self._misses.end()
        for each in self._networks.values():
            each.give_up()
            await cancel_and_wait(each.work)
        self._networks = {}

    # Inside

    def _listen(self) -> None:
        """While it is on a large network: others are told whole."""
        if not self._networks:
            if self._misses is not None:
                self._misses.end()
            return
        from skep.network.misses import Misses  # what it loads few nodes need

        try:
            self._misses = self._misses or Misses(self.missed)
            self._misses.begin()
            self.failures = []
        except OSError as error:
            what = "tasks on large networks are not reached by address before they are by name"
            self.failures = [f"{what}, as the kernel does not say whom they miss: {error}"]

    def _want(self, network: _Network, item: Item) -> asyncio.Future[bool] | None:
        """Returns what becomes of it; None where nobody had it a moment ago."""
        until = self._unknown.get((network.id, item), 0.0)
        return None if asyncio.get_running_loop().time() < until else self._put(network, item)

    def _put(self, network: _Network, item: Item) -> asyncio.Future[bool]:
        known = network.under_way.get(item)
        return known if known is not None else self._put_next(network, item)

    def _put_next(self, network: _Network, item: Item) -> asyncio.Future[bool]:
        known = network.waiting.get(item)
        if known is None:
            known = network.waiting[item] = asyncio.get_running_loop().create_future()
            if network.work is None or network.work.done():
                network.work = asyncio.ensure_future(self._work(network))
        return known

    async def _work(self, network: _Network) -> None:
        while network.waiting:
            await self._take_turn()
            network.take(ITEMS_MAX)
            said = None
            try:
                said = await self._said(network.id, list(network.under_way))
                if said is not None:
                    self._answered(network.id, said)
            finally:
                self._settle(network, said)

    async def _take_turn(self) -> None:
        """All networks' questions have one pace."""
        now = asyncio.get_running_loop().time()
        at = max(now, self._next_at)
        self._next_at = at + PACE_S
        if at > now:
            await asyncio.sleep(at - now)

    async def _said(self, network_id: str, items: list[Item]) -> messages.OverlayAnswered | None:
        """Returns a manager's answer; None where there is none in time."""
        self._number += 1
        names, addresses, services = ([t for k, t in items if k == kind] for kind in (NAME, ADDRESS, SERVICE))
        asked = messages.OverlayAsk(self._number, network_id, names, addresses, services)
        try:
            async with asyncio.timeout(ASK_S):
                return await self._session.ask(asked, messages.OverlayAnswered)
        except (TimeoutError, SkepError):
            return None

    def _settle(self, network: _Network, said: messages.OverlayAnswered | None) -> None:
        """Tells who waits what became of what was under way; what must be answered is asked for again."""
        unknown = _unknown_in(said) if said is not None else frozenset(network.under_way)
        until = asyncio.get_running_loop().time() + UNKNOWN_S
        for item, future in network.under_way.items():
            if not future.done():
                future.set_result(item not in unknown)
            if item in unknown and (said is not None or item not in network.kept):
                self._unknown.pop((network.id, item), None)
                self._unknown[network.id, item] = until
        while len(self._unknown) > UNKNOWN_MAX:
            del self._unknown[next(iter(self._unknown))]
        again = network.kept & network.under_way.keys()
        network.under_way = {}
        if said is not None:
            network.kept -= again - network.waiting.keys()
        elif again:
            asyncio.get_running_loop().call_later(ASK_S, self._again, network)

    def _again(self, network: _Network) -> None:
        if self._networks.get(network.id) is network:
            for each in network.kept:
                self._put(network, each)


class _Network:
    """What is asked for of one. `kept` is what is asked for until it is answered."""

    def __init__(self, network_id: str) -> None:
        self.id = network_id
        self.waiting: dict[Item, asyncio.Future[bool]] = {}
        self.under_way: dict[Item, asyncio.Future[bool]] = {}
        self.kept: set[Item] = set()
        self.work: asyncio.Task[None] | None = None
        self.overlay: Overlay | None = None
        self._known = _Known()

    def may_miss(self, address: str) -> bool:
        """False for what is known, or none of its addresses: containers ask for both, and for each other."""
        if self.overlay is None:
            return False
        if self._known.of is not self.overlay:
            self._known = _known(self.overlay)
        return address not in self._known.addresses and ipaddress.IPv4Address(address) in self._known.subnet

    def take(self, count: int) -> None:
        """So many of those that wait are under way now, addresses last: there may be many."""
        for each in sorted(self.waiting, key=lambda item: item[0] == ADDRESS)[:count]:
            self.under_way[each] = self.waiting.pop(each)

    def give_up(self) -> None:
        """Nobody is asked any more."""
        for each in (*self.waiting.values(), *self.under_way.values()):
            if not each.done():
                each.set_result(False)
        self.waiting.clear()
        self.kept.clear()


class _Known(Struct, frozen=True):
    """The addresses that are known `of` a network as it was."""

    of: Overlay | None = None
    addresses: frozenset[str] = frozenset()
    subnet: ipaddress.IPv4Network = ipaddress.IPv4Network("0.0.0.0/32")


def _known(overlay: Overlay) -> _Known:
    vips = {each.vip for each in overlay.services.values()}
    addresses = frozenset(vips | {each.address for each in overlay.everyone()})
    return _Known(overlay, addresses, subnet_of(overlay.network))


def _unknown_in(said: messages.OverlayAnswered) -> frozenset[Item]:
    return frozenset(
        [(NAME, each) for each in said.unknown_names]
        + [(ADDRESS, each) for each in said.unknown_addresses]
        + [(SERVICE, each) for each in said.unknown_services]
    )
