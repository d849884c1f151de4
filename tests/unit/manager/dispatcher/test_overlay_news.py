"""What is told of a service on an overlay network: all, or what has changed."""

from __future__ import annotations

import random

from msgspec.structs import replace

from skep.manager.dispatcher.cutting import part_of
from skep.manager.dispatcher.overlay_bounds import Bounds
from skep.manager.dispatcher.overlay_news import changed, moved, whole
from skep.manager.dispatcher.overlay_state import KnownService
from skep.model.overlay import Overlay, OverlayEndpoint, OverlayNetwork, OverlayService
from skep.rpc import messages

NETWORK = OverlayNetwork("net", "10.0.0.0/16", 4098, 4789)
WORDS = OverlayService("s", "web")


def _endpoints(count: int) -> dict[str, OverlayEndpoint]:
    found = (OverlayEndpoint(f"10.0.{n >> 8}.{n & 255}", f"n{n % 100}") for n in range(count))
    return {each.address: each for each in found}


def _known(*told: OverlayService) -> dict[str, OverlayEndpoint]:
    """Returns what a node makes of it."""
    known = Overlay(NETWORK)
    for each in told:
        known = known.told([], [], [each], [])
    return {each.address: each for each in known.services["s"].endpoints}


def test_a_change_of_one_endpoint_is_told_as_that() -> None:
    before = _endpoints(1000)
    leaving, gone, *_ = before.values()
    now = {a: each for a, each in before.items() if each != gone}
    now[leaving.address] = replace(leaving, takes_new=False)
    now["10.0.9.9"] = OverlayEndpoint("10.0.9.9", "n1")
    told = changed(WORDS, [leaving.address, gone.address, "10.0.9.9"], now)
    assert told == replace(WORDS, endpoints=(now[leaving.address], now["10.0.9.9"]), gone=(gone.address,))
    assert len(messages.encode(told)) < 200
    assert _known(whole(WORDS, before.values()), told) == now


def test_a_change_of_most_is_told_whole() -> None:
    now = _endpoints(4)
    assert changed(WORDS, list(now)[:3], now) == whole(WORDS, now.values())
    assert changed(WORDS, [f"10.1.0.{n}" for n in range(200)], now) == whole(WORDS, now.values())


def test_a_change_of_names_alone_is_told_without_endpoints() -> None:
    words = replace(WORDS, aliases=("www",), vip="10.0.0.5")
    told = changed(words, (), _endpoints(10))
    assert told == OverlayService("s", "web", ("www",), "10.0.0.5", (), ())
    known = Overlay(NETWORK).told([], [], [whole(WORDS, _endpoints(10).values()), told], [])
    assert known.services["s"] == whole(words, _endpoints(10).values())


def test_what_has_changed_of_a_service_that_is_not_known_is_what_is_known_of_it() -> None:
    endpoint = OverlayEndpoint("10.0.9.9", "n1")
    told = Overlay(NETWORK).told([], [], [OverlayService("s", endpoints=(endpoint,), gone=("10.0.0.1",))], [])
    assert told.services["s"] == OverlayService("s", endpoints=(endpoint,))


def test_who_hears_of_another_part_knows_it_whatever_has_changed_meanwhile() -> None:
    """By chance, from one number of parts to another."""
    rng = random.Random(1)
    for _ in range(300):
        some, count, new = rng.randrange(1, 60), rng.choice((1, 2, 4, 8)), rng.choice((1, 2, 4, 8))
        service = KnownService(WORDS)
        for each in _endpoints(some).values():
            service.put(each)
        before = service.cut(count) and [dict(part) for part in service.parts]
        changes: dict[str, None] = {}
        for _ in range(rng.choice((0, 1, 5, 40))):
            address = f"10.0.0.{rng.randrange(80)}"
            changes[address] = None
            if any(address in part for part in service.parts):
                service.drop(address)
            if rng.random() < 0.6:
                service.put(OverlayEndpoint(address, "other", takes_new=rng.random() < 0.5))
        old = service.cut(new)
        for was in range(count):
            for part in range(was % new, new, min(count, new)):
                of_was = [each for each in changes if part_of(each, count) == was]
                told = moved(WORDS, of_was, old[was], service.parts[part])
                assert _known(whole(WORDS, before[was].values()), told) == service.parts[part]


def test_of_a_service_that_is_cut_in_two_a_node_hears_only_what_is_gone() -> None:
    service = KnownService(WORDS)
    for each in _endpoints(400).values():
        service.put(each)
    service.cut(2)
    old = service.cut(4)
    told = moved(WORDS, (), old[1], service.parts[3])
    assert told.endpoints == ()
    assert told.gone is not None
    assert set(told.gone) == set(service.parts[1])


def test_a_network_at_a_border_is_not_told_anew_with_each_task() -> None:
    bounds = Bounds()
    assert not bounds.is_large(3000, before=False)
    assert bounds.is_large(3001, before=False)
    assert bounds.is_large(1500, before=True)
    assert not bounds.is_large(1499, before=True)


def test_a_service_is_told_in_parts_that_stay_as_a_few_come_and_go() -> None:
    bounds = Bounds()
    assert [bounds.parts(each, each, 1) for each in (0, 256, 257, 100_000)] == [1, 1, 4, 1024]
    assert bounds.parts(256, 256, 4) == 4
    assert bounds.parts(129, 129, 4) == 4
    assert bounds.parts(128, 128, 4) == 1
    assert bounds.parts(513, 513, 4) == 8
    assert bounds.parts(512, 512, 8) == 8
    assert bounds.parts(0, 0, 1024) == 1
    for count in range(257, 20_000, 7):
        parts = bounds.parts(count, count, 1)
        assert 32 <= count / parts <= 128


def test_the_parts_of_a_service_are_about_as_large_as_each_other() -> None:
    service = KnownService(WORDS)
    for each in _endpoints(8192).values():
        service.put(each)
    service.cut(64)
    sizes = [len(part) for part in service.parts]
    assert sum(sizes) == 8192
    assert 80 < min(sizes) <= max(sizes) < 180, "128 each"
