"""What a node keeps of large networks from one manager to the next."""

from __future__ import annotations

from msgspec.structs import replace

from skep.agent.keeping import SERVICES_MAX, KnownOverlays, keep
from skep.model.overlay import Overlay, OverlayEndpoint, OverlayNetwork, OverlayService
from skep.rpc.messages import OverlayAnswered, OverlayTold

LARGE = OverlayNetwork("net", "10.1.0.0/16", 4098, 4789, "back", is_large=True)
SMALL = replace(LARGE, is_large=False)
OWN = OverlayEndpoint("10.1.0.1", "n1", "own.1.a")
FAR = OverlayEndpoint("10.1.0.2", "n2", "web.1.b")
ASKED = OverlayEndpoint("10.1.0.3", "n3", "db.1.c")
NODES = {"n1": "192.0.2.1", "n2": "192.0.2.2", "n3": "192.0.2.3"}
WEB = OverlayService("w", "web", vip="10.1.9.9", endpoints=(FAR,))
WHOLE = Overlay(LARGE, NODES, {"w": WEB}, {OWN.address: OWN, ASKED.address: ASKED})
ANEW = OverlayTold(LARGE, True, [("n1", NODES["n1"])], endpoints=[OWN])


def known() -> KnownOverlays:
    made = KnownOverlays()
    made.told(replace(ANEW, nodes=list(NODES.items()), services=[WEB], endpoints=[OWN, ASKED]))
    assert made.all == {"net": WHOLE}
    return made


def test_what_was_asked_for_stays_and_is_asked_for_again() -> None:
    made = known()
    kept = made.told(ANEW)
    assert made.all == {"net": WHOLE}
    assert (kept.overlay, kept.services, kept.addresses) == (WHOLE, {"w"}, {ASKED.address})


def test_what_nobody_knows_any_more_goes_with_its_node() -> None:
    made = known()
    made.told(ANEW)
    assert made.answered("net", OverlayAnswered(1, unknown_services=["w"], unknown_addresses=["10.1.0.3"]))
    own = {OWN.address: OWN}
    assert made.all == {"net": Overlay(LARGE, {"n1": NODES["n1"]}, {}, own)}
    assert not made.answered("net", OverlayAnswered(1, unknown_services=["w"]))


def test_what_was_told_since_is_not_taken_for_what_nobody_knows() -> None:
    """An address that nobody had when it was asked for is that of a task of this node a moment later."""
    made = known()
    made.told(ANEW)
    mine = replace(ASKED, node_id="n1", name="own.2.d")
    made.told(OverlayTold(LARGE, services=[WEB], endpoints=[mine]))
    assert not made.answered("net", OverlayAnswered(1, [], [ASKED.address, OWN.address], ["w"]))
    assert made.all["net"].endpoints == {OWN.address: OWN, ASKED.address: mine}
    assert made.all["net"].services == {"w": WEB}


def test_own_endpoints_that_are_not_told_again_are_gone() -> None:
    made = known()
    other = OverlayEndpoint("10.1.0.4", "n1", "own.3.e")
    kept = made.told(replace(ANEW, endpoints=[other]))
    assert made.all["net"].endpoints == {other.address: other, ASKED.address: ASKED}
    assert kept.addresses == {ASKED.address}


def test_an_address_that_is_a_container_of_this_node_now_is_nobody_elses() -> None:
    made = known()
    mine = replace(FAR, node_id="n1", name="own.4.f")
    made.told(replace(ANEW, endpoints=[OWN, mine]))
    assert made.all["net"].services == {"w": replace(WEB, endpoints=())}
    assert sorted(each.name for each in made.all["net"].everyone()) == ["db.1.c", "own.1.a", "own.4.f"]
    made = known()
    made.told(replace(ANEW, endpoints=[OWN, FAR]))
    assert made.all["net"].services == {"w": WEB}, "the same one, told by itself, too"


def test_in_several_messages_it_is_whole_with_the_last_also_of_the_next_session() -> None:
    made = known()
    assert made.told(replace(ANEW, endpoints=[], more=True)).services == frozenset()
    assert made.all["net"].services == {}
    made.told(replace(ANEW, endpoints=[], more=True))  # that session ended in the middle
    kept = made.told(OverlayTold(LARGE, endpoints=[OWN]))
    assert (made.all, kept.services) == ({"net": WHOLE}, {"w"})


def test_a_network_that_becomes_large_keeps_some_services_those_with_an_address_first() -> None:
    tasks = [OverlayEndpoint(f"10.1.1.{n}", "n2", f"s{n}.1.t") for n in range(SERVICES_MAX + 10)]
    services = [OverlayService(f"s{n:03}", f"s{n}", endpoints=(each,)) for n, each in enumerate(tasks)]
    services[-1] = replace(services[-1], vip="10.1.9.1")
    single = OverlayService("0", endpoints=(ASKED,))
    before = Overlay(SMALL, NODES, {each.id: each for each in (single, *services)})
    kept = keep(before, Overlay(LARGE, {"n1": NODES["n1"]}, {}, {OWN.address: OWN}))
    wanted = {each.id for each in (services[-1], *services[: SERVICES_MAX - 1])}
    assert (kept.services, kept.overlay.services.keys(), kept.addresses) == (wanted, wanted, set())
    assert kept.overlay.nodes == {"n1": NODES["n1"], "n2": NODES["n2"]}
    assert kept.overlay.endpoints == {OWN.address: OWN}


def test_a_network_that_is_small_is_what_is_told() -> None:
    made = known()
    for each in (SMALL, LARGE):
        made.told(OverlayTold(each, True))
    assert made.all == {"net": Overlay(LARGE)}
    made = known()
    kept = made.told(OverlayTold(SMALL, True, services=[WEB]))
    assert (made.all, kept.services) == ({"net": Overlay(SMALL, {}, {"w": WEB})}, set())


def test_a_network_that_is_not_held_is_forgotten_and_nothing_is_kept_of_it() -> None:
    made = known()
    made.told(replace(ANEW, more=True))
    made.hold(["other"])
    assert made.all == {}
    assert not made.answered("net", OverlayAnswered(1, unknown_services=["w"]))
    made.told(ANEW)
    assert made.all == {"net": Overlay(LARGE, {"n1": NODES["n1"]}, {}, {OWN.address: OWN})}


def test_what_is_kept_has_no_address_that_others_have_by_now() -> None:
    """Until it is answered for a connection would go to whoever had the address before."""
    made = known()
    made.told(ANEW)
    theirs = [replace(each, node_id="n4", name=f"new.{n}.z") for n, each in enumerate((FAR, ASKED))]
    new = OverlayService("s", "new", endpoints=tuple(theirs))
    made.told(OverlayTold(LARGE, nodes=[("n4", "192.0.2.4")], services=[new]))
    now = made.all["net"]
    assert now.services == {"w": replace(WEB, endpoints=()), "s": new}
    assert now.endpoints == {OWN.address: OWN}
    assert now.nodes == {"n1": NODES["n1"], "n4": "192.0.2.4"}
    # What a manager of now has said stays, whatever it says next.
    made.told(OverlayTold(LARGE, services=[WEB]))
    assert made.all["net"].services["w"] == WEB


def test_what_is_kept_has_no_address_that_is_a_services_own_by_now() -> None:
    """Found by the simulation's seed 7115 with large overlays: the answer for such an address is the service that has
    it, and nothing said that the container was gone which had it before."""
    made = known()
    made.told(ANEW)
    new = OverlayService("s", "new", vip=ASKED.address)
    made.told(OverlayTold(LARGE, services=[new]))
    assert made.all["net"].endpoints == {OWN.address: OWN}
    assert not made.answered("net", OverlayAnswered(1, unknown_services=["x"]))
    # So it is of a container that is known by its service, and of a service's own address.
    for address in (FAR.address, WEB.vip):
        made = known()
        made.told(ANEW)
        made.told(OverlayTold(LARGE, services=[replace(new, vip=address)]))
        web = made.all["net"].services["w"]
        assert address not in {web.vip, *(each.address for each in web.endpoints)}
        assert web == replace(WEB, endpoints=web.endpoints, vip=web.vip), "all else stays"
        assert made.all["net"].endpoints.keys() == {OWN.address, ASKED.address}
    made = known()
    made.told(ANEW)
    made.told(OverlayTold(LARGE, services=[replace(new, vip="")]))
    assert made.all["net"].services["w"] == WEB


def test_a_service_of_before_has_no_address_that_a_container_of_this_node_has_now() -> None:
    made = known()
    mine = replace(OWN, address=WEB.vip)
    made.told(replace(ANEW, endpoints=[mine]))
    assert made.all["net"].services == {"w": replace(WEB, vip="")}


def test_what_a_manager_of_now_has_said_is_told_from_what_is_kept() -> None:
    made = known()
    assert made.confirmed("net") == WHOLE
    made.told(ANEW)
    assert made.confirmed("net") == Overlay(LARGE, {"n1": NODES["n1"]}, {}, {OWN.address: OWN})
    made.told(OverlayTold(LARGE, services=[WEB]))
    assert made.confirmed("net") == replace(
        WHOLE, nodes={each: NODES[each] for each in ("n1", "n2")}, endpoints={OWN.address: OWN}
    )
    assert made.confirmed("other") is None
