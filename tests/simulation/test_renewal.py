"""Certificates over years of virtual time."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.agent.renewal import EARLIEST, LATEST, Renewal, check_renewed, renew_at
from skep.manager.ca.authority import Authority, new_root
from skep.rpc.certificates import BACKDATE_S, NodeKeys, identity_of, new_key_and_request, validity_of
from skep.rpc.messages import Renewed
from skep.runtime.clock import LoopClock
from skep.runtime.errors import Denied, Unavailable
from skep.sim.loop import VirtualLoop

EPOCH_S = 1_700_000_000.0
DAY_S = 86400.0


class Ca:
    def __init__(self) -> None:
        self.pem, key = new_root(EPOCH_S)
        self._authority = Authority(self.pem, key)

    def sign(self, request_pem: bytes, now: float, expiry_s: float, node_id: str = "n" * 25) -> bytes:
        return self._authority.sign(request_pem, node_id, "worker", "c" * 25, now, expiry_s)

    def keys(self, now: float, expiry_s: float, node_id: str = "n" * 25) -> NodeKeys:
        key, request = new_key_and_request()
        return NodeKeys(key, self.sign(request, now, expiry_s, node_id), self.pem)


@given(st.floats(0, 1))
def test_the_point_is_in_the_second_half(chance: float) -> None:
    assert 50 <= renew_at(-BACKDATE_S, 100, chance) <= 80
    assert (EARLIEST, LATEST) == (0.5, 0.8)


@pytest.mark.parametrize("expiry_s", [3600.0, 90 * DAY_S])
def test_a_certificate_never_expires_while_the_manager_mostly_answers(expiry_s: float) -> None:
    """Forty lives; three of ten requests fail."""
    ca, rng, clock = Ca(), random.Random(3), LoopClock(EPOCH_S)
    renewals: list[float] = []

    async def scenario() -> None:
        keys = ca.keys(clock.now(), expiry_s)
        valid_until = validity_of(keys.certificate_pem)[1]

        async def ask(request_pem: bytes) -> Renewed:
            if rng.random() < 0.3:
                raise Unavailable("no leader")
            return Renewed(ca.sign(request_pem, clock.now(), expiry_s), ca.pem)

        def renewed(new: NodeKeys) -> None:
            nonlocal valid_until
            assert clock.now() < valid_until, "it had expired before it was renewed"
            valid_until = validity_of(new.certificate_pem)[1]
            renewals.append(clock.now())

        work = asyncio.ensure_future(Renewal(keys, ask, renewed, clock, rng).run())
        await asyncio.sleep(40 * expiry_s)
        work.cancel()
        assert clock.now() < valid_until

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())
    assert 48 <= len(renewals) <= 82


def test_anothers_certificate_is_not_taken() -> None:
    ca = Ca()
    mine = ca.keys(EPOCH_S, DAY_S)
    check_renewed(mine, ca.keys(EPOCH_S, DAY_S), EPOCH_S)
    with pytest.raises(Denied, match="is of node"):
        check_renewed(mine, ca.keys(EPOCH_S, DAY_S, "m" * 25), EPOCH_S)
    with pytest.raises(Denied, match="of another CA"):
        check_renewed(mine, Ca().keys(EPOCH_S, DAY_S), EPOCH_S)
    forged = Ca().keys(EPOCH_S, DAY_S)
    with pytest.raises(Denied):
        check_renewed(mine, NodeKeys(forged.key_pem, forged.certificate_pem, ca.pem), EPOCH_S)
    assert identity_of(mine.certificate_pem).role == "worker"
