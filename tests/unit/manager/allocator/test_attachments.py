"""Addresses of single containers: who gets which, and when they are free again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from skep.manager.allocator import attachments
from skep.manager.allocator import tasks as addresses
from skep.model.attachment import Attachment
from skep.model.network import OVERLAY, IPAMConfig, Network, NetworkSpec
from skep.model.task import TaskAddress
from skep.runtime.errors import Conflict, Denied, Invalid, Unsupported
from skep.store import codec
from skep.store.view import View
from tests.unit.builders import new_ids

NODES = ("n1", "n2", "n3")


def network(
    view: View, subnet: str = "10.0.9.0/24", attachable: bool = True, driver: str = OVERLAY, within: str = ""
) -> Network:
    spec = NetworkSpec(name="net", driver=driver, attachable=attachable)
    pools = [IPAMConfig(subnet=subnet, ip_range=within, gateway="10.0.9.1")] if driver == OVERLAY else []
    made = Network(id="id-net", spec=spec, created_at=0, updated_at=0, pools=pools)
    view.put_network(made)
    return made


def attach(view: View, net: Network, node_id: str, name: str, wanted: str = "") -> Attachment:
    made = attachments.attach(view, node_id, net, wanted, name, 1.0)
    view.put_attachment(made)
    return made


def test_each_has_an_address_and_its_nodes_gateway() -> None:
    view = View()
    net = network(view)
    one, two, other = (attach(view, net, n, f"a{i}") for i, n in enumerate(("n1", "n1", "n2")))
    assert one.address == TaskAddress("id-net", "10.0.9.3/24", "10.0.9.2/24")
    assert two.address == TaskAddress("id-net", "10.0.9.4/24", "10.0.9.2/24")
    assert other.address == TaskAddress("id-net", "10.0.9.6/24", "10.0.9.5/24")


def test_a_user_may_say_which() -> None:
    view = View()
    net = network(view)
    assert attach(view, net, "n1", "a", "10.0.9.77").address.address == "10.0.9.77/24"
    for taken in ("10.0.9.77", "10.0.9.1", "10.0.9.0", "10.0.9.255", "10.0.9.2"):
        with pytest.raises(Conflict, match=f"address {taken} of network net is already in use"):
            attachments.attach(view, "n2", net, taken, "b", 1.0)
    for wrong, text in (
        ("10.0.8.1", "does not belong"),
        ("::1", "does not belong"),
        ("x", "invalid address: x"),
    ):
        with pytest.raises(Invalid, match=text):
            attachments.attach(view, "n2", net, wrong, "b", 1.0)
    assert set(view.allocations.books["id-net"].holders.values()) == {"n1", "a"}, (
        "who was refused holds nothing"
    )


def test_the_first_of_a_node_may_want_what_would_have_been_its_gateway() -> None:
    view = View()
    net = network(view)
    assert attach(view, net, "n1", "a", "10.0.9.2").address == TaskAddress(
        "id-net", "10.0.9.2/24", "10.0.9.3/24"
    )


def test_who_is_refused() -> None:
    for net_of, error, text in (
        ({"attachable": False}, Denied, "network net not manually attachable"),
        ({"driver": "bridge"}, Unsupported, "net is no overlay network"),
    ):
        view = View()
        net = network(view, **net_of)  # type: ignore[arg-type]
        with pytest.raises(error, match=text):
            attachments.attach(view, "n1", net, "", "a", 1.0)


def test_all_are_in_use() -> None:
    view = View()
    net = network(view, "10.0.9.0/29")  # five beside the network's own gateway
    for n in range(4):
        attach(view, net, "n1", f"a{n}")
    with pytest.raises(Conflict, match=r"no free address: all 5 of 10\.0\.9\.0/29 are in use"):
        attachments.attach(view, "n1", net, "", "b", 1.0)


def test_what_is_outside_the_range_takes_no_room_in_it() -> None:
    view = View()
    net = network(view, within="10.0.9.128/29")
    book = view.allocations.books["id-net"]
    outside = [attach(view, net, "n1", f"o{n}", f"10.0.9.{10 + n}") for n in range(9)]
    assert book.free == 7, "the node's own address is of the range"
    inside = [attach(view, net, "n1", f"i{n}") for n in range(7)]
    with pytest.raises(Conflict, match=r"all 8 of 10\.0\.9\.128/29 are in use"):
        attachments.attach(view, "n1", net, "", "b", 1.0)
    outside.append(attach(view, net, "n1", "last", "10.0.9.77"))
    view.put_attachment(inside[0])
    assert book.free == 0, "said twice, it counts once"
    for each in (*outside, *inside):
        view.drop_attachment(each)
    assert (book.free, book.holders) == (8, {})


def test_a_node_has_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "PER_NODE_MAX", 2)
    view = View()
    net = network(view)
    attach(view, net, "n1", "a")
    attach(view, net, "n1", "b")
    with pytest.raises(Conflict, match="may have no more"):
        attachments.attach(view, "n1", net, "", "c", 1.0)
    attach(view, net, "n2", "c")


def test_what_a_node_does_not_name_is_free_and_what_nobody_knew_of_is_held() -> None:
    view = View()
    net = network(view)
    kept, gone, others = (
        attach(view, net, "n1", "a"),
        attach(view, net, "n1", "b"),
        attach(view, net, "n2", "c"),
    )
    lost = replace(kept.address, address="10.0.9.99/24")  # of a store that was restored
    said = [kept.address, lost, others.address, replace(lost, network_id="gone")]
    unused, missing = attachments.recount(view, "n1", said, new_ids(), 2.0)
    assert unused == [gone]
    assert [each.address for each in missing] == [lost], "neither another's nor a network that is gone"


def test_a_removed_node_holds_nothing() -> None:
    view = View()
    net = network(view)
    attach(view, net, "n1", "a")
    view.drop_node("n1")
    assert view.attached == {}
    assert view.allocations.books["id-net"].holders == {}


def test_it_is_stored_and_read_again() -> None:
    made = Attachment("a", "n1", TaskAddress("net", "10.0.9.3/24", "10.0.9.2/24"), 1.0)
    key = codec.attachment_key("n1", "a")
    assert codec.is_attachment(key)
    assert codec.decode_object(Attachment, key, codec.encode_object(made), 7) == replace(made, version=7)


@given(st.lists(st.tuples(st.sampled_from(NODES), st.integers(0, 3), st.booleans()), max_size=60))
def test_no_address_is_anybodys_twice(steps: list[tuple[str, int, bool]]) -> None:
    """Containers come and go in any order on nodes with tasks, on a network that is nearly full."""
    view = View()
    net = network(view, "10.0.9.0/28")
    book = view.allocations.books["id-net"]
    for n, (node_id, which, comes) in enumerate(steps):
        held = list(view.attached.get(node_id, {}).values())
        if comes:
            try:
                attach(view, net, node_id, f"a{n}")
            except Conflict:
                assert book.free < 2
        elif held:
            view.drop_attachment(held[which % len(held)])
        mine = [each for of in view.attached.values() for each in of.values()]
        given = [each.address.address for each in mine]
        gateways = {each.node_id: each.address.gateway for each in mine}
        assert len({*given, *gateways.values()}) == len(given) + len(gateways) == len(book.holders)
        assert all(each.address.gateway == gateways[each.node_id] for each in mine)
    assert addresses.take(book, "n9", "t") is None or book.free >= 0


def test_names_are_those_that_the_node_said_last() -> None:
    view = View()
    net = network(view)
    one, two = (attach(view, net, "n1", each) for each in ("a1", "a2"))
    both, names = (one.address, two.address), [("one", "alias"), ("two",)]
    changed = attachments.renamed(view, "n1", both, names)
    assert {each.id: each.names for each in changed} == {"a1": ("one", "alias"), "a2": ("two",)}
    for each in changed:
        view.put_attachment(each)
    assert attachments.renamed(view, "n1", both, names) == []
    assert attachments.renamed(view, "n2", both, names) == []
    # An earlier agent says none, and of what it does not name it is told apart.
    (other,) = attachments.renamed(view, "n1", [two.address], [("two",)])
    assert (other.id, other.names) == ("a1", ())
    assert len(attachments.renamed(view, "n1", both, [])) == 2
