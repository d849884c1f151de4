"""Subnets and VXLAN ids of new networks."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from skep.manager.allocator.subnets import give, next_subnet
from skep.model.network import IPAM, OVERLAY, VXLAN_OPTION, IPAMConfig, Network, NetworkSpec
from skep.runtime.errors import Denied, Invalid
from skep.store.addresses import AddressBook

POOL = ["10.0.0.0/8"]


def network(n: int, pools: list[IPAMConfig], vxlan: str = "") -> Network:
    spec = NetworkSpec(name=f"n{n}", driver=OVERLAY)
    options = {VXLAN_OPTION: vxlan} if vxlan else {}
    return Network(id=f"id{n}", spec=spec, created_at=0, updated_at=0, pools=pools, options=options)


def asks_for(*subnets: str) -> NetworkSpec:
    config = [IPAMConfig(subnet=subnet) for subnet in subnets]
    return NetworkSpec(name="x", driver=OVERLAY, ipam=IPAM(config=config))


def test_networks_get_subnets_one_after_the_other_as_with_docker() -> None:
    networks: list[Network] = []
    after = ""
    for n in range(3):
        given_out = give(NetworkSpec(name="x", driver=OVERLAY), networks, [], 0, after)
        after = given_out.pools[0].subnet
        networks.append(network(n, given_out.pools, given_out.options[VXLAN_OPTION]))
    assert [(each.pools[0].subnet, each.pools[0].gateway) for each in networks] == [
        ("10.0.0.0/24", "10.0.0.1"),
        ("10.0.1.0/24", "10.0.1.1"),
        ("10.0.2.0/24", "10.0.2.1"),
    ]
    assert [each.options[VXLAN_OPTION] for each in networks] == ["4096", "4097", "4098"]


def test_a_subnet_that_was_let_go_is_not_given_out_again_at_once() -> None:
    taken = [ipaddress.ip_network("10.0.0.0/24")]
    assert str(next_subnet(taken, POOL, 24, after="10.0.1.0/24")) == "10.0.2.0/24"
    assert str(next_subnet(taken, POOL, 24, after="10.255.255.0/24")) == "10.0.1.0/24"


def test_a_subnet_of_another_network_is_refused() -> None:
    there = [network(1, [IPAMConfig(subnet="10.1.0.0/16")])]
    with pytest.raises(Denied, match="Pool overlaps with other one on this address space"):
        give(asks_for("10.1.3.0/24"), there, POOL, 24)
    with pytest.raises(Denied, match="Pool overlaps"):
        give(asks_for("10.9.0.0/24", "10.9.0.128/25"), [], POOL, 24)


def test_each_subnet_has_a_gateway_and_a_vxlan_id() -> None:
    given_out = give(asks_for("10.93.1.0/24", "10.92.1.0/24"), [], POOL, 24)
    assert [pool.gateway for pool in given_out.pools] == ["10.93.1.1", "10.92.1.1"]
    assert given_out.options[VXLAN_OPTION] == "4096,4097"


@pytest.mark.parametrize(
    ("within", "asked", "gateway"),
    [
        ("10.93.1.64/26", "", "10.93.1.64"),
        ("10.93.1.70/26", "", "10.93.1.64"),
        ("10.93.1.0/25", "", "10.93.1.1"),
        ("10.93.1.128/32", "", "10.93.1.128"),
        ("10.93.1.64/26", "10.93.1.254", "10.93.1.254"),
    ],
)
def test_the_gateway_is_in_the_range_that_addresses_are_taken_from(
    within: str, asked: str, gateway: str
) -> None:
    config = IPAMConfig(subnet="10.93.1.0/24", ip_range=within, gateway=asked)
    given_out = give(NetworkSpec(name="x", driver=OVERLAY, ipam=IPAM(config=[config])), [], POOL, 24)
    assert given_out.pools == [replace(config, gateway=gateway)]
    assert gateway not in {text.partition("/")[0] for text in _addresses(network(1, given_out.pools))}


def _addresses(of: Network) -> list[str]:
    """All that the network has to give out."""
    book = AddressBook(of)
    found = []
    while book.free:
        found.append(book.next_free())
        book.hold(found[-1], "somebody")
    return found


@pytest.mark.parametrize("ids", ["1", "4097", "4098,4099", "x"])
def test_vxlan_ids_asked_for_must_be_free_and_fit(ids: str) -> None:
    there = [network(1, [IPAMConfig(subnet="10.1.0.0/24")], "4097")]
    spec = NetworkSpec(name="x", driver=OVERLAY, options={VXLAN_OPTION: ids})
    with pytest.raises(Invalid, match="vxlanid_list"):
        give(spec, there, POOL, 24)


def test_pools_that_are_used_up_say_so() -> None:
    taken = [IPAMConfig(subnet="10.1.0.0/25"), IPAMConfig(subnet="10.1.0.128/25")]
    with pytest.raises(Invalid, match="all predefined address pools have been fully subnetted"):
        give(NetworkSpec(name="x", driver=OVERLAY), [network(1, taken)], ["10.1.0.0/24"], 25)


subnets = st.builds(
    lambda base, length: ipaddress.IPv4Network((base, length), strict=False),
    st.integers(0x0A000000, 0x0A00FFFF),
    st.integers(22, 30),
)


@settings(deadline=None)
@given(st.lists(subnets, max_size=40), st.integers(22, 29), st.sampled_from(["", "10.0.7.0/24"]))
def test_what_is_given_out_overlaps_nothing_and_is_found_while_there_is_any(
    asked: list[ipaddress.IPv4Network], size: int, after: str
) -> None:
    taken: list[ipaddress.IPv4Network] = []
    for subnet in asked:
        if not any(subnet.overlaps(each) for each in taken):
            taken.append(subnet)
    pool = ipaddress.IPv4Network("10.0.0.0/18")
    found = next_subnet(taken, [str(pool)], size, after)
    free = [s for s in pool.subnets(new_prefix=size) if not any(s.overlaps(each) for each in taken)]
    assert (found is None) == (not free)
    assert found is None or found in free
