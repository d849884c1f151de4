"""Certificates over years of virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.agent.renewal import EARLIEST, LATEST, Renewal, check_renewed, renew_at
from skep.manager.ca.authority import Authority, new_root
from skep.manager.ca.rotation import finished, signer, wanted_tls
from skep.manager.ca.wanted import with_root_wanted
from skep.model.cluster import CAConfig
from skep.rpc.certificates import BACKDATE_S, NodeKeys, identity_of, new_key_and_request, validity_of
from skep.rpc.messages import HasTls, Renewed, WantedTls
from skep.rpc.trust import has_tls, issuer_digest
from skep.runtime.clock import LoopClock
from skep.runtime.errors import Denied, Invalid, Unavailable
from skep.sim.loop import VirtualLoop
from tests.clusters import new_cluster

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
    """Forty lives; three of ten requests fail, and where one is granted the disk is full at times."""
    ca, rng, clock = Ca(), random.Random(3), LoopClock(EPOCH_S)
    renewals: list[float] = []

    async def scenario() -> None:
        keys = ca.keys(clock.now(), expiry_s)
        valid_until = validity_of(keys.certificate_pem)[1]

        async def ask(request_pem: bytes) -> Renewed:
            if rng.random() < 0.3:
                raise Unavailable("no leader")
            return Renewed(ca.sign(request_pem, clock.now(), expiry_s), ca.pem)

        async def renewed(new: NodeKeys) -> None:
            nonlocal valid_until
            assert clock.now() < valid_until, "it had expired before it was renewed"
            if rng.random() < 0.1:
                raise Invalid("the node's certificate cannot be stored")
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
    late = NodeKeys(new_key_and_request()[0], ca.keys(EPOCH_S, DAY_S).certificate_pem, ca.pem)
    with pytest.raises(Denied, match="for another key"):
        check_renewed(mine, late, EPOCH_S)
    assert identity_of(mine.certificate_pem).role == "worker"


class Rotating:
    """A swarm whose root changes, as the leader tells it to its nodes; `asked` are the times of renewals."""

    def __init__(self, clock: LoopClock) -> None:
        cert, key = new_root(EPOCH_S)
        self.clock = clock
        self.asked: list[float] = []
        self.said: list[HasTls] = []
        self.refusals = 0
        self.cluster = new_cluster(id="c" * 25, ca_cert_pem=cert, ca_key_pem=key)

    def sign(self, request_pem: bytes, node_id: str) -> bytes:
        signs, expiry_s = signer(self.cluster), self.cluster.spec.node_cert_expiry_s
        authority = Authority(signs.ca_cert_pem, signs.ca_key_pem, signs.chain_pem)
        return authority.sign(request_pem, node_id, "worker", "c" * 25, self.clock.now(), expiry_s)

    def node(self, number: int) -> Renewal:
        node_id = f"n{number:024d}"

        async def ask(request_pem: bytes) -> Renewed:
            await asyncio.sleep(0.01)
            if self.refusals:
                self.refusals -= 1
                raise Unavailable("the leader is busy")
            self.asked.append(self.clock.now())
            return Renewed(self.sign(request_pem, node_id), self.cluster.ca_cert_pem)

        key, request = new_key_and_request()
        keys = NodeKeys(key, self.sign(request, node_id), self.cluster.ca_cert_pem)
        rng = random.Random(number)

        async def renewed(new: NodeKeys) -> None:
            """It is kept nowhere."""

        return Renewal(keys, ask, renewed, self.clock, rng, self.said.append)

    def wanted(self, node_count: int = 1) -> WantedTls:
        return wanted_tls(self.cluster, node_count)


def virtually(scenario: Callable[[Rotating], Awaitable[None]]) -> None:
    async def run() -> None:
        await scenario(Rotating(LoopClock(EPOCH_S)))

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def test_a_whole_swarm_follows_the_change_of_its_root_not_all_at_once() -> None:
    async def scenario(swarm: Rotating) -> None:
        nodes = [swarm.node(n) for n in range(60)]
        works = [asyncio.ensure_future(node.run()) for node in nodes]
        await asyncio.sleep(5)
        assert not swarm.asked
        swarm.cluster = with_root_wanted(swarm.cluster, CAConfig(force_rotate=1), swarm.clock.now())
        began = swarm.clock.now()
        for node in nodes:
            node.told(swarm.wanted(node_count=2300))
        await asyncio.sleep(6)
        assert len(swarm.asked) == 60, "each once"
        assert max(sum(at <= a < at + 0.5 for a in swarm.asked) for at in swarm.asked) < 20
        assert max(swarm.asked) - began < 5
        assert swarm.cluster.rotation is not None
        issuer = issuer_digest(swarm.cluster.rotation.ca_cert_pem)
        assert [has.issuer for has in swarm.said[-60:]] == [issuer] * 60
        swarm.cluster = finished(swarm.cluster, swarm.clock.now(), "w2", "m2")
        for node in nodes:
            node.told(swarm.wanted())
        await asyncio.sleep(1)
        assert len(swarm.asked) == 60, "trust alone takes no certificate"
        assert {node.keys.ca_pem for node in nodes} == {swarm.cluster.ca_cert_pem}
        assert all(has_tls(node.keys).issuer == issuer for node in nodes)
        for work in works:
            work.cancel()

    virtually(scenario)


def test_a_leader_that_is_busy_is_asked_again_soon() -> None:
    async def scenario(swarm: Rotating) -> None:
        node = swarm.node(1)
        work = asyncio.ensure_future(node.run())
        swarm.cluster = with_root_wanted(swarm.cluster, CAConfig(force_rotate=1), swarm.clock.now())
        swarm.refusals = 3
        node.told(swarm.wanted())
        await asyncio.sleep(12)
        assert len(swarm.asked) == 1
        work.cancel()

    virtually(scenario)


def test_two_wishes_at_once_are_two_requests_one_after_the_other() -> None:
    """A node may be promoted while the root changes."""

    async def scenario(swarm: Rotating) -> None:
        node = swarm.node(1)
        await asyncio.gather(node.renew(), node.renew(), node.renew())
        assert len(set(swarm.asked)) == 3

    virtually(scenario)


def test_a_certificate_that_is_not_as_wanted_is_not_asked_for_without_end() -> None:
    async def scenario(swarm: Rotating) -> None:
        node = swarm.node(1)
        work = asyncio.ensure_future(node.run())
        wanted = swarm.wanted()
        node.told(WantedTls(wanted.ca_pem, wanted.issuer, 3600.0, wanted.spread_s))
        await asyncio.sleep(3600)
        assert len(swarm.asked) == 1
        work.cancel()

    virtually(scenario)


def test_a_root_that_does_not_vouch_for_the_node_is_taken_only_with_its_certificate() -> None:
    async def scenario(swarm: Rotating) -> None:
        node = swarm.node(1)
        before = node.keys.ca_pem
        work = asyncio.ensure_future(node.run())
        told = Rotating(swarm.clock).wanted()
        node.told(told)
        await asyncio.sleep(5)
        assert node.keys.ca_pem == before, "else it would shut itself out"
        assert swarm.asked
        work.cancel()

    virtually(scenario)


def test_a_node_whose_renewal_failed_hears_the_leader_all_the_same() -> None:
    """It waits for hours before the next try, with certificates of ninety days: a new root must not."""
    clock = LoopClock(EPOCH_S)

    async def scenario() -> None:
        swarm = Rotating(clock)
        life_s = swarm.cluster.spec.node_cert_expiry_s
        swarm.refusals = 1
        renewal = swarm.node(1)
        work = asyncio.ensure_future(renewal.run())
        while swarm.refusals:
            await asyncio.sleep(600)
        assert clock.now() > EPOCH_S + life_s * EARLIEST
        renewal.told(swarm.wanted())
        await asyncio.sleep(1)
        assert swarm.said == [has_tls(renewal.keys)]
        work.cancel()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


def test_a_short_certificate_is_tried_for_as_often_as_a_long_one() -> None:
    """It is dated back by an hour: that is no part of its life."""

    async def scenario() -> None:
        ca, clock, asked = Ca(), LoopClock(EPOCH_S), list[float]()

        async def ask(request_pem: bytes) -> Renewed:
            asked.append(clock.now())
            raise Unavailable("no leader")

        async def keep(keys: NodeKeys) -> None:
            raise AssertionError("nothing came")

        expiry_s = 600.0
        keys = ca.keys(clock.now(), expiry_s)
        ends_s = validity_of(keys.certificate_pem)[1]
        renewal = asyncio.ensure_future(Renewal(keys, ask, keep, clock, random.Random(1)).run())
        await asyncio.sleep(expiry_s)
        renewal.cancel()
        late = [at for at in asked if at >= ends_s - (1 - LATEST) * expiry_s]
        assert len(late) >= 6, "of ten, some of which come later by chance"

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())
