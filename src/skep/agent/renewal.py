"""A node's certificate is renewed at a random point of its second half, for a new key (as SwarmKit does)."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable

import structlog

from skep.rpc.certificates import (
    BACKDATE_S,
    NodeKeys,
    identity_of,
    new_key_and_request,
    validity_of,
    verify_issued_by,
)
from skep.rpc.messages import Renewed
from skep.runtime.clock import Clock
from skep.runtime.errors import Denied, SkepError

log = structlog.get_logger()

EARLIEST, LATEST = 0.5, 0.8  # of the certificate's life: a swarm's nodes must not all come at once
LOOK_S = 600.0  # the wall clock is looked at as often: it may jump
TICK_S = 0.001  # a wait that is too short for the clock's precision must still end
RETRY_SHARE = 0.02  # of the life, after a renewal that failed: ten tries are left at the latest point
RETRY_MIN_S = 1.0

Ask = Callable[[bytes], Awaitable[Renewed]]


def renew_at(not_before: float, not_after: float, chance: float) -> float:
    """Returns when to renew; `chance` is a random number from 0 to 1."""
    issued_at = min(not_before + BACKDATE_S, not_after)
    life_s = not_after - issued_at
    return issued_at + life_s * (EARLIEST + (LATEST - EARLIEST) * chance)


class Renewal:
    """`ask` sends a request to the leader; `renewed` stores and uses the new keys."""

    def __init__(
        self,
        keys: NodeKeys,
        ask: Ask,
        renewed: Callable[[NodeKeys], None],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self.keys = keys
        self._ask = ask
        self._renewed = renewed
        self._clock = clock
        self._rng = rng

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            not_before, not_after = validity_of(self.keys.certificate_pem)
            await self._wait_until(renew_at(not_before, not_after, self._rng.random()))
            try:
                await self.renew()
            except SkepError as error:
                log.warning("certificate.not_renewed", error=str(error), valid_until=not_after)
                retry_s = max(RETRY_MIN_S, RETRY_SHARE * (not_after - not_before))
                await asyncio.sleep(retry_s * (0.5 + self._rng.random()))

    async def _wait_until(self, at: float) -> None:
        left_s = at - self._clock.now()
        while left_s > 0:
            await asyncio.sleep(min(left_s, LOOK_S) + TICK_S)
            left_s = at - self._clock.now()

    async def renew(self) -> None:
        """Errors: `Unavailable` no leader answers, `Denied` what came is not ours, `Invalid`."""
        key_pem, request_pem = new_key_and_request()
        answer = await self._ask(request_pem)
        keys = NodeKeys(key_pem, answer.certificate_pem, answer.ca_pem)
        check_renewed(self.keys, keys, self._clock.now())
        self._renewed(keys)
        self.keys = keys
        log.info("certificate.renewed", valid_until=validity_of(keys.certificate_pem)[1])


def check_renewed(old: NodeKeys, new: NodeKeys, now: float) -> None:
    """Errors: `Denied` where the new certificate is another's, or not of the swarm's CA."""
    if new.ca_pem != old.ca_pem:
        raise Denied("the new certificate is of another CA than the swarm's")
    try:
        der = ssl.PEM_cert_to_DER_cert(new.certificate_pem.decode())
    except ValueError as error:
        raise Denied(f"the new certificate cannot be read: {error}") from error
    was, is_now = identity_of(old.certificate_pem), verify_issued_by(new.ca_pem, der, now)
    if (was.node_id, was.cluster_id) != (is_now.node_id, is_now.cluster_id):
        raise Denied(f"the new certificate is of node {is_now.node_id}, not of {was.node_id}")
