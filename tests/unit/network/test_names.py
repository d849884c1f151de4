"""Which names lead where, and who hears of them."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from skep.model.overlay import Overlay, OverlayEndpoint, OverlayNetwork, OverlayService
from skep.network.names import NameAnswer, Names, Unknown, find, unknown
from skep.network.network_names import NetworkNames


def overlay(name: str, *services: OverlayService, subnet: str = "10.0.1.0/24") -> Overlay:
    network = OverlayNetwork(f"id-{name}", subnet, 4098, 4789, name)
    return Overlay(network, {}, {each.id: each for each in services})


def service(name: str, *addresses: str, aliases: tuple[str, ...] = (), leaving: str = "") -> OverlayService:
    endpoints = tuple(
        OverlayEndpoint(each, "n1", f"{name}.{number}.t{number}", each != leaving)
        for number, each in enumerate(addresses, 1)
    )
    return OverlayService(f"id-{name}", name, aliases, "", endpoints)


WEB = service("Web", "10.0.1.5", "10.0.1.6", "10.0.1.7", aliases=("www", "shop"), leaving="10.0.1.6")
DB = service("db", "10.0.1.8", aliases=("www",))
IDLE = service("idle", "10.0.1.9", leaving="10.0.1.9")
SINGLE = OverlayService("a1", endpoints=(OverlayEndpoint("10.0.1.40", "n1"),))
APP = overlay("App", WEB, DB, IDLE, SINGLE)
# On another network, too, is one task of `Web`; `cache` is there only.
BACK = overlay(
    "back",
    replace(WEB, endpoints=(OverlayEndpoint("10.0.2.5", "n1", "Web.1.t1"),)),
    service("cache", "10.0.2.9"),
    subnet="10.0.2.0/24",
)
ALL = {each.network.id: each for each in (APP, BACK)}


def ask(name: str, kind: str = "A", asker: str = "10.0.1.8", turn: int = 0) -> NameAnswer | None:
    names = Names()
    names.told(ALL)
    return find(names.networks_of(asker), name, kind, turn)


@pytest.mark.parametrize("name", ["web", "WEB", "tasks.web", "Tasks.Web", "shop", "web.app", "TASKS.WEB.APP"])
def test_a_services_names_lead_to_its_tasks_that_take_new_connections(name: str) -> None:
    assert ask(name) == NameAnswer(("10.0.1.5", "10.0.1.7"))


def test_an_alias_of_two_services_leads_to_both() -> None:
    assert ask("www") == NameAnswer(("10.0.1.5", "10.0.1.7", "10.0.1.8"))
    assert ask("tasks.www") == ask("www"), "a stack's services are known by such names to each other"


def test_each_address_is_the_first_in_its_turn() -> None:
    found = [ask("www", turn=turn) for turn in range(6)]
    assert [each.addresses[0] for each in found if each] == 2 * ["10.0.1.5", "10.0.1.7", "10.0.1.8"]


@pytest.mark.parametrize("name", ["web.2.t2", "WEB.2.T2", "web.2.t2.app"])
def test_a_container_is_found_by_its_name_also_when_it_is_leaving(name: str) -> None:
    assert ask(name) == NameAnswer(("10.0.1.6",))


@pytest.mark.parametrize("kind", ["AAAA", "TXT", "SRV", "HTTPS", "MX", "PTR", "TYPE65280"])
def test_of_what_is_known_other_types_are_nothing_and_nobody_else_is_asked(kind: str) -> None:
    assert ask("web", kind) == NameAnswer()
    assert ask("web.1.t1.app", kind) == NameAnswer()


def test_a_service_without_a_task_that_serves_is_known_and_leads_nowhere() -> None:
    assert ask("idle") == ask("tasks.idle") == NameAnswer()
    assert ask("idle.1.t1") == NameAnswer(("10.0.1.9",))


@pytest.mark.parametrize(
    "name", ["cache", "cache.back", "example.com", "web.other", "app", "", "tasks.", "."]
)
def test_what_is_not_known_on_the_askers_networks_is_others_to_answer(name: str) -> None:
    assert ask(name) is None
    assert ask(name, "AAAA") is None


def test_who_is_on_two_networks_hears_of_both_the_nearer_one_first() -> None:
    assert ask("cache", asker="10.0.1.5") == NameAnswer(("10.0.2.9",))
    assert ask("db", asker="10.0.2.5") == NameAnswer(("10.0.1.8",))
    assert ask("web", asker="10.0.1.5") == NameAnswer(("10.0.1.5", "10.0.1.7"))
    assert ask("web", asker="10.0.2.5") == NameAnswer(("10.0.2.5",))
    assert ask("web.app", asker="10.0.2.5") == NameAnswer(("10.0.1.5", "10.0.1.7"))
    assert ask("cache", asker="10.0.1.7") is None, "another task of the same service, which is not there"


@pytest.mark.parametrize("asker", ["10.0.3.5", "127.0.0.1", "192.0.2.1"])
def test_a_stranger_is_on_no_network(asker: str) -> None:
    names = Names()
    names.told(ALL)
    assert names.networks_of(asker) == ()


def test_who_has_an_address_of_a_network_is_on_it_and_on_no_other() -> None:
    assert ask("db", asker="10.0.1.200") == NameAnswer(("10.0.1.8",))
    assert ask("cache", asker="10.0.1.200") is None
    assert ask("cache", asker="10.0.1.40") is None, "a single container has no name to be known by elsewhere"


def test_an_address_has_the_name_of_its_container() -> None:
    assert ask("6.1.0.10.in-addr.arpa", "PTR") == NameAnswer(name="Web.2.t2.App")
    assert ask("6.1.0.10.IN-ADDR.ARPA", "TXT") == NameAnswer()
    assert ask("9.2.0.10.in-addr.arpa", "PTR") is None, "of a network that the asker is not on"
    assert ask("9.2.0.10.in-addr.arpa", "PTR", asker="10.0.1.5") == NameAnswer(name="cache.1.t1.back")
    for nobodys in ("77.1.0.10", "40.1.0.10", "1.0.10", "x.1.0.10", "6.1.0.10.1", "256.1.0.10", ""):
        assert ask(f"{nobodys}.in-addr.arpa", "PTR") is None


def test_what_is_new_of_one_network_is_not_paid_for_by_others() -> None:
    names = Names()
    names.told(ALL)
    before = {each.id: each for each in names.networks_of("10.0.1.5")}
    names.told({**ALL, "id-App": APP.told((), (), (), ("id-db",))})
    after = {each.id: each for each in names.networks_of("10.0.1.5")}
    assert after["id-back"] is before["id-back"]
    assert find(names.networks_of("10.0.1.5"), "db", "A", 0) is None
    names.told({"id-back": BACK})
    assert names.networks_of("10.0.1.5") == ()


# Large networks: a node knows its own containers, and what it asked for.

OWN = OverlayEndpoint("10.1.0.5", "n1", "Web.1.t1")
LARGE = Overlay(
    OverlayNetwork("id-large", "10.1.0.0/16", 4099, 4789, "Large", is_large=True),
    {},
    {"id-db": replace(DB, endpoints=(OverlayEndpoint("10.1.0.8", "n2", "db.1.t1"),))},
    {OWN.address: OWN, "10.1.0.8": OverlayEndpoint("10.1.0.8", "n2", "db.1.t1")},
)


def large(name: str, kind: str = "A", asker: str = OWN.address) -> NameAnswer | None:
    names = Names()
    names.told({**ALL, LARGE.network.id: LARGE})
    return find(names.networks_of(asker), name, kind, 0)


def test_a_containers_own_name_is_known_and_not_that_of_its_service() -> None:
    assert large("web.1.t1.large") == NameAnswer((OWN.address,))
    assert large("5.0.1.10.in-addr.arpa", "PTR") == NameAnswer(name="Web.1.t1.Large")
    assert large("web.large") is None, "nobody asked for it: others may be its tasks, too"
    assert large("db.large") == large("db.1.t1.large") == NameAnswer(("10.1.0.8",))
    assert large("8.0.1.10.in-addr.arpa", "PTR") == NameAnswer(name="db.1.t1.Large")


def test_the_same_container_is_known_on_small_networks_where_its_service_is_told() -> None:
    assert large("cache") == NameAnswer(("10.0.2.9",))
    assert large("db.large", asker="10.0.2.5") == NameAnswer(("10.1.0.8",))
    assert large("db.large", asker="10.0.2.9") is None


def test_what_is_not_known_is_to_be_asked_for_of_the_askers_large_networks() -> None:
    names = Names()
    names.told({**ALL, LARGE.network.id: LARGE})
    on_it, not_on_it = names.networks_of(OWN.address), names.networks_of("10.0.2.9")
    for name, asked in (
        ("Shop", ("shop",)),
        ("tasks.Shop", ("shop",)),
        ("tasks.shop.LARGE", ("shop.large", "shop")),
        ("shop.1.t9.large", ("shop.1.t9.large", "shop.1.t9")),
        ("example.com", ("example.com",)),
    ):
        assert unknown(on_it, name) == (Unknown("id-large", asked),), name
        assert unknown(not_on_it, name) == ()
    assert unknown(on_it, "9.0.1.10.in-addr.arpa") == (Unknown("id-large", address="10.1.0.9"),)
    for name in (
        "9.0.2.10.in-addr.arpa",
        "x.in-addr.arpa",
        "a b",
        "caf\xe9",
        "\n",
        "",
        ".\0",
        "tasks.",
        "x" * 256,
    ):
        assert unknown(on_it, name) == (), name


# Networks of a few services that share names, of tasks that are on several.

LABELS = st.sampled_from(["a", "b", "tasks.a", "a.n0", "n1"])


@st.composite
def overlays(draw: st.DrawFn) -> dict[str, Overlay]:
    found = {}
    for number in range(draw(st.integers(1, 3))):
        services = []
        for place in range(draw(st.integers(0, 3))):
            endpoints = tuple(
                OverlayEndpoint(
                    f"10.0.{number}.{10 * place + slot + 1}",
                    "n",
                    draw(LABELS) + f".{slot}",
                    draw(st.booleans()),
                )
                for slot in range(draw(st.integers(0, 3)))
            )
            aliases = tuple(draw(st.lists(LABELS, max_size=2)))
            services.append(OverlayService(f"s{place}", draw(LABELS), aliases, "", endpoints))
        made = overlay(f"n{number}", *services, subnet=f"10.0.{number}.0/24")
        if draw(st.booleans()):  # a large network: of some only the single endpoints are known
            alone = {i for i in made.services if draw(st.booleans())}
            endpoints = {e.address: e for e in made.everyone()}
            left = {i: each for i, each in made.services.items() if i not in alone}
            made = replace(made, services=left, endpoints=endpoints)
        found[made.network.id] = made
    return found


def _is_on(overlay: Overlay, others: dict[str, Overlay], asker: str) -> bool:
    """By the words of the rule, slowly."""
    if ipaddress.ip_address(asker) in ipaddress.ip_network(overlay.network.subnet):
        return True
    who = {e.name for each in others.values() for e in each.everyone() if e.address == asker and e.name}
    return any(e.name in who for e in overlay.everyone())


@given(
    overlays(), st.integers(0, 3), st.integers(1, 40), st.sampled_from(["", "tasks.", "b."]), LABELS, LABELS
)
def test_nobody_is_led_where_he_is_not_or_to_who_takes_nothing_new(
    told: dict[str, Overlay], net: int, host: int, before: str, label: str, behind: str
) -> None:
    names, asker = Names(), f"10.0.{net}.{host}"
    names.told(told)
    for name in (label, before + label, f"{label}.{behind}", f"{label}.{host % 4}"):
        answer = find(names.networks_of(asker), name, "A", host)
        for address in answer.addresses if answer is not None else ():
            (there,) = [
                each
                for each in told.values()
                if ipaddress.ip_address(address) in ipaddress.ip_network(each.network.subnet)
            ]
            assert _is_on(there, told, asker)
            (found,) = [e for e in there.everyone() if e.address == address]
            own = (found.name, f"{found.name}.{there.network.name}")
            assert found.takes_new or name in own, "a service's name, and the task takes nothing new"


def test_a_single_container_has_no_name_that_a_service_or_a_task_has() -> None:
    """Whoever may make a container chooses its names."""
    task = OverlayEndpoint("10.0.1.7", "n1", "web.1.t1")
    web = OverlayService("s1", "web", ("door",), endpoints=(task,))
    names = ("web", "door", "web.back", "tasks.web", "web.1.t1", "own", "own.back")
    lone = OverlayService("c1", aliases=names, endpoints=(OverlayEndpoint("10.0.1.66", "n2"),))
    back = NetworkNames(
        Overlay(OverlayNetwork("b", "10.0.1.0/24", 8, 9, "back"), services={"s1": web, "c1": lone})
    )
    for name in names[:5]:
        found = find((back,), name, "A", 0)
        assert found is not None
        assert found.addresses == ("10.0.1.7",), name
    for name in ("own", "own.back", "own.back.back"):
        found = find((back,), name, "A", 0)
        assert found is not None
        assert found.addresses == ("10.0.1.66",), name
    other = replace(lone, endpoints=(OverlayEndpoint("10.0.2.66", "n2"),))
    front = NetworkNames(Overlay(OverlayNetwork("f", "10.0.2.0/24", 9, 9, "front"), services={"c1": other}))
    found = find((front, back), "web", "A", 0)
    assert found is not None
    assert found.addresses == ("10.0.1.7",), "nor one of another network's"


ENDPOINTS = st.lists(
    st.builds(
        OverlayEndpoint,
        st.sampled_from([f"10.0.1.{n}" for n in range(1, 6)]),
        st.just("n1"),
        st.sampled_from(["", "Web.1.t1", "db.1.t2"]),
        st.booleans(),
    ),
    max_size=3,
    unique_by=lambda each: each.address,
).map(tuple)
NAMED = st.sampled_from(["", "Web", "db"])
ALIASES = st.lists(st.sampled_from(["web", "www", "Shop"]), max_size=2).map(tuple)
VIPS = frozenset({"10.0.1.100"})


@st.composite
def overlays(draw: st.DrawFn) -> Overlay:
    services = {
        key: OverlayService(
            key, draw(NAMED), draw(ALIASES), draw(st.sampled_from(["", *VIPS])), draw(ENDPOINTS)
        )
        for key in draw(st.sets(st.sampled_from(["a", "b", "c"])))
    }
    asked = {each.address: each for each in draw(ENDPOINTS)}
    return replace(overlay("App", *services.values()), endpoints=asked)


@given(st.lists(st.tuples(overlays(), st.sampled_from([frozenset(), VIPS])), min_size=1, max_size=5))
def test_names_that_change_are_those_of_what_was_told_last(
    told: list[tuple[Overlay, frozenset[str]]],
) -> None:
    """Whatever was told before; who has an address that two say is one of them."""
    changed = NetworkNames(*told[0])
    for each in told[1:]:
        changed.told(*each)
    last, vips = told[-1]
    fresh = NetworkNames(last, vips)
    for name in ("web", "tasks.web", "db", "tasks.db", "www", "shop", "web.1.t1", "db.1.t2", "nobody"):
        for of in (NetworkNames.addresses, NetworkNames.single_addresses):
            one, other = of(changed, name), of(fresh, name)
            assert (None if one is None else set(one)) == (None if other is None else set(other))
    for name in ("Web.1.t1", "db.1.t2", "Web"):
        assert changed.has_container(name) == fresh.has_container(name)
    everyone = [*last.endpoints.values(), *(each for s in last.services.values() for each in s.endpoints)]
    for address in (f"10.0.1.{n}" for n in range(1, 6)):
        said = {each.name for each in everyone if each.address == address}
        assert changed.container_at(address) in (said or {None})
        assert (changed.container_at(address) is None) == (fresh.container_at(address) is None)
