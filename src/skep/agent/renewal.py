"""A node's certificate is renewed at a random point of its second half, for a new key (as SwarmKit does).

It is renewed at once, too, when the leader wants another than the node has: of another issuer, for another
time. Which root is trusted, the leader says over the session, whose peer the root of before vouches for.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

import structlog

from skep.rpc.certificates import (
    BACKDATE_S,
    NodeKeys,
    der_of,
    identity_of,
    is_key_of,
    new_key_and_request,
    validity_of,
    verify_issued_by,
)
from skep.rpc.interfaces import Identity
from skep.rpc.messages import HasTls, Renewed, WantedTls
from skep.rpc.trust import chain_of, has_tls, is_wanted
from skep.runtime.clock import Clock
from skep.runtime.errors import Denied, SkepError

log = structlog.get_logger()

EARLIEST, LATEST = 0.5, 0.8  # of the certificate's life: a swarm's nodes must not all come at once
LOOK_S = 600.0  # the wall clock is looked at as often: it may jump
TICK_S = 0.001  # a wait that is too short for the clock's precision must still end
RETRY_SHARE = 0.02  # of the life, after a renewal that failed: ten tries are left at the latest point
RETRY_MIN_S = 1.0
RETRY_TOLD_S = 2.0  # after what the leader wants could not be had; a new session says it again anyway

Ask = Callable[[bytes], Awaitable[Renewed]]


def renew_at(not_before: float, not_after: float, chance: float) -> float:
    """Returns when to renew; `chance` is a random number from 0 to 1."""
    return not_after - life_s(not_before, not_after) * (1 - EARLIEST - (LATEST - EARLIEST) * chance)


def life_s(not_before: float, not_after: float) -> float:
    """Returns how long the certificate lasts: it is dated back, for clocks that are behind."""
    return max(0.0, not_after - not_before - BACKDATE_S)


class Renewal:
    """`ask` sends a request to the leader; `renewed` stores and uses the new keys; `say` tells the leader."""

    def __init__(
        self,
        keys: NodeKeys,
        ask: Ask,
        renewed: Callable[[NodeKeys], Awaitable[None]],
        clock: Clock,
        rng: random.Random,
        say: Callable[[HasTls], None] = lambda has: None,
    ) -> None:
        self.keys = keys
        self._ask = ask
        self._renewed = renewed
        self._clock = clock
        self._rng = rng
        self._say = say
        self._wanted: WantedTls | None = None
        self._told = asyncio.Event()
        self._one = asyncio.Lock()

    def told(self, wanted: WantedTls) -> None:
        """The leader says what this node should have; only the latest word counts."""
        self._wanted = wanted
        self._told.set()

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            not_before, not_after = validity_of(self.keys.certificate_pem)
            is_told = await self._wait_until(renew_at(not_before, not_after, self._rng.random()))
            try:
                await (self._follow() if is_told else self.renew())
            except SkepError as error:
                log.warning("certificate.not_renewed", error=str(error), valid_until=not_after)
                retry_s = max(RETRY_MIN_S, RETRY_SHARE * life_s(not_before, not_after))
                by_chance = 0.5 + self._rng.random()
                if is_told:
                    await asyncio.sleep(RETRY_TOLD_S * by_chance)
                    self._told.set()
                else:  # hours; the leader may want another certificate before
                    await self._wait_told(retry_s * by_chance)

    async def _wait_until(self, at: float) -> bool:
        """Returns True where the leader spoke before."""
        left_s = at - self._clock.now()
        while left_s > 0 and not self._told.is_set():
            await self._wait_told(min(left_s, LOOK_S) + TICK_S)
            left_s = at - self._clock.now()
        return self._told.is_set()

    async def _wait_told(self, time_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(time_s):
                await self._told.wait()

    async def _follow(self) -> None:
        """Does what the leader wants, if it is not so. Errors: `SkepError`: it is to be tried again."""
        self._told.clear()
        wanted = self._wanted
        assert wanted is not None
        await self._trust(wanted.ca_pem)
        self._say(has_tls(self.keys))
        if is_wanted(self.keys, wanted):
            return
        await asyncio.sleep(wanted.spread_s * self._rng.random())
        await self.renew()
        if not self._told.is_set() and not is_wanted(self.keys, wanted):
            log.warning("certificate.not_as_wanted")

    async def _trust(self, ca_pem: bytes) -> None:
        """Goes by this root from now on, unless it would not vouch for the node's own certificate."""
        if ca_pem == self.keys.ca_pem:
            return
        keys = NodeKeys(self.keys.key_pem, self.keys.certificate_pem, ca_pem)
        try:
            _identity_by_root(keys, self._clock.now())
        except Denied:
            return  # the certificate that is renewed now brings the root with it
        await self._renewed(keys)
        self.keys = keys
        log.info("trust.changed")

    async def renew(self) -> None:
        """Errors: `Unavailable` no leader answers, `Denied` what came is not ours, `Invalid`."""
        async with self._one:  # a new role, a new issuer: an answer does not say which request it is to
            key_pem, request_pem = new_key_and_request()
            answer = await self._ask(request_pem)
            keys = NodeKeys(key_pem, answer.certificate_pem, answer.ca_pem)
            check_renewed(self.keys, keys, self._clock.now(), self._wanted.ca_pem if self._wanted else None)
            await self._renewed(keys)
            self.keys = keys
        log.info("certificate.renewed", valid_until=validity_of(keys.certificate_pem)[1])
        self._say(has_tls(keys))


def check_renewed(old: NodeKeys, new: NodeKeys, now: float, told_ca_pem: bytes | None = None) -> None:
    """Errors: `Denied` where the new certificate is another's, or not of the root that the node knows, or
    was told to trust."""
    if new.ca_pem not in (old.ca_pem, told_ca_pem):
        raise Denied("the new certificate is of another CA than the swarm's")
    was, is_now = identity_of(old.certificate_pem), _identity_by_root(new, now)
    if (was.node_id, was.cluster_id) != (is_now.node_id, is_now.cluster_id):
        raise Denied(f"the new certificate is of node {is_now.node_id}, not of {was.node_id}")
    if not is_key_of(new.key_pem, new.certificate_pem):
        raise Denied("the new certificate is for another key than it was asked for")  # a late answer


def _identity_by_root(keys: NodeKeys, now: float) -> Identity:
    """Errors: `Denied` where the root does not vouch for the certificate."""
    return verify_issued_by(keys.ca_pem, der_of(keys.certificate_pem), now, chain_of(keys.certificate_pem))
