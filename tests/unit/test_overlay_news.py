"""What is told of a service on an overlay network: all, what has changed, a share."""

from __future__ import annotations

import random

from msgspec.structs import replace

from skep.manager.dispatcher.overlay_news import (
    OVERLAY_ENDPOINTS_MAX,
    SERVICE_ENDPOINTS_MIN,
    News,
    changes,
    stride_for,
    thinned,
    whole,
)
from skep.manager.dispatcher.overlay_state import KnownOverlay
from skep.model.overlay import Overlay, OverlayEndpoint, OverlayNetwork, OverlayService
from skep.rpc import messages

NETWORK = OverlayNetwork("net", "10.0.0.0/16", 4098, 4789)


def _service(count: int) -> OverlayService:
    found = (OverlayEndpoint(f"10.0.{n >> 8}.{n & 255}", f"n{n % 100}") for n in range(count))
    return OverlayService("s", "web", endpoints=tuple(found))


def test_of_very_many_endpoints_some_are_told_from_all_of_them() -> None:
    whole = _service(4 * OVERLAY_ENDPOINTS_MAX)
    stride = stride_for(len(whole.endpoints), 1)
    told = thinned(whole, stride)
    assert stride == 4
    assert len(set(told.endpoints)) == OVERLAY_ENDPOINTS_MAX
    per_node = [sum(e.node_id == f"n{n}" for e in told.endpoints) for n in range(100)]
    assert min(per_node) > 10, "spread over all nodes: 30 each, of 120"


def test_those_that_are_told_stay_the_same_as_others_come_and_go() -> None:
    whole = _service(2 * OVERLAY_ENDPOINTS_MAX)
    told = set(thinned(whole, 2).endpoints)
    left = replace(whole, endpoints=whole.endpoints[50:])
    still = set(thinned(left, 2).endpoints)
    assert len(told - still - set(whole.endpoints[:50])) <= 30


def test_of_a_small_service_on_a_large_network_some_are_told() -> None:
    assert len(thinned(_service(10), 64).endpoints) == SERVICE_ENDPOINTS_MIN
    assert thinned(_service(3), 64) == _service(3)
    assert thinned(_service(OVERLAY_ENDPOINTS_MAX), 1) == _service(OVERLAY_ENDPOINTS_MAX)


def test_a_network_at_a_border_is_not_told_anew_with_each_task() -> None:
    border = OVERLAY_ENDPOINTS_MAX
    assert stride_for(border, 1) == 1
    assert stride_for(border + 1, 1) == 2
    assert stride_for(border, 2) == 2
    assert stride_for(border // 2, 2) == 1
    assert stride_for(0, 1) == 1


def test_a_change_of_one_endpoint_is_told_as_that() -> None:
    before = _service(1000)
    leaving, *rest = before.endpoints
    now = replace(
        before, endpoints=(*rest[1:], replace(leaving, takes_new=False), OverlayEndpoint("10.0.9.9", "n1"))
    )
    told = changes(before, now, 1)
    assert told == News(
        OverlayService(
            "s",
            "web",
            endpoints=(replace(leaving, takes_new=False), OverlayEndpoint("10.0.9.9", "n1")),
            gone=(rest[0].address,),
        )
    )
    assert len(messages.encode(told)) < 200


def test_a_change_of_most_is_told_whole() -> None:
    before = _service(4)
    now = replace(before, endpoints=tuple(replace(each, takes_new=False) for each in before.endpoints))
    assert changes(before, now, 1) == whole(now, 1) == News(now)


def test_a_change_of_names_alone_is_told() -> None:
    before = _service(10)
    now = replace(before, aliases=("www",), vip="10.0.0.5")
    told = changes(before, now, 1).shared
    assert told == OverlayService("s", "web", ("www",), "10.0.0.5", (), ())
    known = Overlay(NETWORK).told([], [], [before], []).told([], [], [told], [])
    assert known.services["s"] == now


def test_what_has_changed_of_a_service_that_is_not_known_is_what_is_known_of_it() -> None:
    endpoint = OverlayEndpoint("10.0.9.9", "n1")
    told = Overlay(NETWORK).told([], [], [OverlayService("s", endpoints=(endpoint,), gone=("10.0.0.1",))], [])
    assert told.services["s"] == OverlayService("s", endpoints=(endpoint,))


def test_all_nodes_know_a_share_and_their_own_whatever_changes() -> None:
    """By chance, with each share: who was told all changes knows the same as who comes now."""
    rng = random.Random(1)
    nodes = [f"n{n}" for n in range(12)]
    for stride in (1, 2, 4, 64):
        service = OverlayService("s", "web")
        known = {each: Overlay(NETWORK) for each in nodes}
        for _ in range(60):
            before = service
            found = {each.address: each for each in service.endpoints}
            for _ in range(rng.choice((1, 1, 2, 40))):
                address = f"10.0.0.{rng.randrange(120)}"
                node_id = (
                    found[address].node_id if address in found and rng.random() < 0.9 else rng.choice(nodes)
                )
                found[address] = OverlayEndpoint(address, node_id, takes_new=rng.random() < 0.5)
                for gone in rng.sample(sorted(found), min(len(found), rng.choice((0, 0, 1)))):
                    del found[gone]
            service = replace(service, endpoints=tuple(found.values()))
            news = changes(before, service, stride)
            for node_id in nodes:
                told = news.own.get(node_id, news.shared)
                known[node_id] = known[node_id].told([], [], [told], [])
                want = set(thinned(service, stride).endpoints)
                want |= {each for each in service.endpoints if each.node_id == node_id}
                assert set(known[node_id].services["s"].endpoints) == want
                all_of_it = whole(service, stride)
                assert set(all_of_it.own.get(node_id, all_of_it.shared).endpoints) == want


def test_what_has_changed_twice_is_told_as_from_what_is_known() -> None:
    known, service = KnownOverlay(NETWORK), _service(10)
    known.put("s", service)
    known.hearers.add("n1")
    known.put("s", replace(service, endpoints=service.endpoints[1:]))
    known.put("s", replace(service, endpoints=service.endpoints[2:]))
    news = known.take_news(lambda node_ids: [], None)
    assert news is not None
    assert [each.gone for each in news.told.services] == [("10.0.0.0", "10.0.0.1")]
    assert known.take_news(lambda node_ids: [], None) is None
