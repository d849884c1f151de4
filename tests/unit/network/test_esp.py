"""What encrypts an overlay network on its way between nodes."""

from __future__ import annotations

from msgspec.structs import replace

from skep.model.mesh import Mesh
from skep.model.network import ENCRYPTED_OPTION
from skep.model.overlay import (
    ENCRYPTED_MTU,
    MTU,
    MTU_OPTION,
    Overlay,
    OverlayEndpoint,
    OverlayNetwork,
    OverlayService,
    mtu_of,
)
from skep.model.overlay_keys import OverlayKey, OverlayKeys, encrypted_port, key_of
from skep.network.desired import desired
from skep.network.diff import diff
from skep.network.host import HostFacts, HostRoute
from skep.network.objects import Chain, EspPolicy, EspState, Object, Tunnel

PORT = 4790
SECRET = OverlayNetwork("id", "10.1.0.0/24", 4098, PORT, "secret", ENCRYPTED_MTU, is_encrypted=True)
NODES = {"n1": "192.0.2.1", "n2": "192.0.2.2"}
A, B = NODES.values()
OLD, NEW = OverlayKey(0xAAAA0000, b"o" * 32), OverlayKey(0xBBBB0000, b"n" * 32)


def _mesh(keys: OverlayKeys, network: OverlayNetwork = SECRET) -> Mesh:
    on_it = (OverlayEndpoint("10.1.0.11", "n1"), OverlayEndpoint("10.1.0.12", "n2"))
    services = {"s": OverlayService("s", "web", endpoints=on_it)}
    return Mesh(nodes=NODES, overlays={"id": Overlay(network, NODES, services)}, keys=keys)


def _objects(node_id: str, keys: OverlayKeys, network: OverlayNetwork = SECRET) -> tuple[Object, ...]:
    host = HostFacts(
        frozenset({NODES[node_id], "127.0.0.1"}), routes=frozenset({HostRoute("192.0.2.0/24", ("eth0",))})
    )
    return desired(_mesh(keys, network), node_id, host).objects


def _states(node_id: str, keys: OverlayKeys) -> set[EspState]:
    return {each for each in _objects(node_id, keys) if isinstance(each, EspState)}


def test_nothing_goes_plain_in_either_direction() -> None:
    objects = _objects("n1", OverlayKeys((NEW,)))
    assert {each for each in objects if isinstance(each, EspPolicy)} == {
        EspPolicy("out", A, PORT),
        EspPolicy("in", A, PORT),
    }
    rules = {each.name: each.rules for each in objects if isinstance(each, Chain)}
    assert rules["sealed-out"] == (f"ip saddr {{ {A} }} udp dport {{ {PORT} }} rt ipsec missing drop",)
    assert rules["sealed-in"] == (f"ip daddr {{ {A} }} udp dport {{ {PORT} }} meta ipsec missing drop",)


def test_what_encrypts_is_there_before_the_tunnel_and_goes_after_it() -> None:
    objects = _objects("n1", OverlayKeys((NEW,)))
    puts = [type(each) for each in diff(objects, ()).puts]
    assert puts.index(EspPolicy) < puts.index(Tunnel)
    drops = [type(each) for each in diff((), objects).drops]
    assert drops.index(Tunnel) < drops.index(EspPolicy)


def test_a_network_that_is_not_encrypted_has_nothing_of_it() -> None:
    objects = _objects("n1", OverlayKeys((NEW,)), replace(SECRET, is_encrypted=False, data_port=4789))
    assert not [each for each in objects if isinstance(each, EspPolicy | EspState)]
    assert not [each for each in objects if isinstance(each, Chain) and each.name.startswith("sealed")]


def test_who_sends_and_who_receives_have_the_same_association() -> None:
    keys = OverlayKeys((NEW,))
    assert _states("n1", keys) == _states("n2", keys)
    there, back = sorted(_states("n1", keys), key=lambda each: each.source)
    assert (there.source, there.to, back.source, back.to) == (A, B, B, A)
    assert there.secret != back.secret, "each direction has its own: no two encrypt by one"
    assert there.spi != back.spi


def test_a_new_key_is_received_by_all_before_anybody_sends_by_it() -> None:
    before = OverlayKeys().told([OLD], OLD.number, [])
    told = before.told([NEW, OLD], OLD.number, [])
    first, then = _states("n1", told), _states("n1", told.told([NEW, OLD], NEW.number, []))
    old_out = {each for each in _states("n1", before) if each.source == A}
    assert {each for each in first if each.source == A} == old_out
    received = {each for each in first if each.source == B}
    assert len(received) == 2
    assert {each for each in then if each.source == B} == received
    sent = {each for each in then if each.source == A}
    assert len(sent) == 1
    assert sent < _states("n2", told), "the other end has it since it heard of the key"


def test_a_new_leaders_key_does_not_take_away_by_which_others_send() -> None:
    before = OverlayKeys().told([OLD], OLD.number, [])
    keys = before.told([NEW], 0, [])
    assert keys.to(B) == OLD
    assert keys.keys == (NEW, OLD)
    assert _states("n1", before) < _states("n1", keys)
    assert OverlayKeys().told([NEW], 0, []).to(B) == NEW, "one that knows no other sends by it"


def test_to_a_node_that_is_away_is_sent_by_the_key_that_it_has_however_often_it_changes() -> None:
    keys = OverlayKeys().told([OLD], OLD.number, []).told([NEW, OLD], OLD.number, [])
    keys = keys.told([NEW, OLD], NEW.number, [B])
    assert (keys.to(B), keys.to("192.0.2.3")) == (OLD, NEW)
    before = NEW
    for number in range(1, 6):  # it is told of a key, then sends by it
        key = OverlayKey(number, b"k")
        keys = keys.told([key, before], before.number, [B])
        assert (keys.to(B), keys.to("192.0.2.3")) == (OLD, before)
        keys = keys.told([key, before], key.number, [B])
        assert (keys.to(B), keys.to("192.0.2.3")) == (OLD, key)
        before = key
    of_new_leader = keys.told([OverlayKey(99, b"l")], 0, [])
    assert (of_new_leader.to(B), of_new_leader.to("192.0.2.3")) == (OLD, before)
    assert of_new_leader.told([OverlayKey(99, b"l")], 99, [B]).to(B) == OLD
    assert of_new_leader.told([OverlayKey(99, b"l")], 99, []).to(B) == OverlayKey(99, b"l")


def test_three_leaders_in_a_moment_do_not_change_what_is_sent_by() -> None:
    keys = OverlayKeys().told([OLD], OLD.number, [])
    for number in (1, 2, 3, 4, 5):
        keys = keys.told([OverlayKey(number, b"")], 0, [])
    assert keys.to(B) == OLD


def test_a_new_process_leaves_what_the_one_before_had_until_the_leaders_next_key() -> None:
    """It hears the new leader's key only, and the others go on with the one before."""
    before = _states("n1", OverlayKeys().told([OLD], OLD.number, []))
    found = frozenset(replace(each, secret=b"") for each in before)
    host = HostFacts(
        frozenset({A, "127.0.0.1"}), routes=frozenset({HostRoute("192.0.2.0/24", ("eth0",))}), esp=found
    )

    def keys_of(keys: OverlayKeys) -> tuple[set[int], set[int]]:
        objects = desired(_mesh(keys), "n1", host).objects
        states = [each for each in objects if isinstance(each, EspState)]
        assert len({each.key for each in states}) == len(states)
        sent = {each.spi for each in states if each.source == A}
        return sent, {each.spi for each in states if each.source == B}

    old_out, old_in = ({e.spi for e in before if e.source == each} for each in (A, B))
    sent, received = keys_of(OverlayKeys().told([NEW], 0, []))
    assert sent == old_out
    assert received > old_in
    sent, received = keys_of(OverlayKeys().told([NEW], NEW.number, []))
    assert len(sent - old_out) == 1
    assert old_out <= sent or not (sent & old_out)
    assert received > old_in, "others may have heard of it a moment later"
    later = OverlayKeys().told([NEW], NEW.number, []).told([OverlayKey(7, b"x"), NEW], 7, [])
    assert not keys_of(later)[1] & old_in


def test_keys_are_bounded_and_the_newest_stay() -> None:
    keys = OverlayKeys()
    for number in range(1, 9):
        keys = keys.told([OverlayKey(number, b"")], number, [])
    assert [each.number for each in keys.keys] == [8, 7, 6]


def test_an_association_that_is_found_is_known_by_its_number() -> None:
    objects = _objects("n1", OverlayKeys((NEW,)))
    found = [replace(each, secret=b"") if isinstance(each, EspState) else each for each in objects]
    assert not diff(objects, found)


def test_nothing_that_is_printed_holds_a_secret() -> None:
    key = key_of("random text")
    texts = [repr(each) for each in (key, OverlayKeys((key,)), *_states("n1", OverlayKeys((key,))))]
    assert not [each for each in texts if "secret" in each or key.secret.hex()[:8] in each]
    assert str(key.secret) not in "".join(texts)


def test_without_a_key_it_is_said() -> None:
    host = HostFacts(frozenset({A, "127.0.0.1"}), routes=frozenset({HostRoute("192.0.2.0/24", ("eth0",))}))
    (failure,) = desired(_mesh(OverlayKeys()), "n1", host).failures
    assert "network secret is encrypted, and no manager has told this node a key yet" in failure


def test_a_packet_with_all_that_encryption_adds_fits_an_ethernet_frame() -> None:
    # IP 20; ESP's header 8, its IV 8; what is encrypted: UDP 8, VXLAN 8, Ethernet 14, the packet, and 2 of
    # ESP's end, filled up to four bytes; its check value 16.
    sealed = -(-(8 + 8 + 14 + ENCRYPTED_MTU + 2) // 4) * 4
    assert 20 + 8 + 8 + sealed + 16 == 1500


def test_the_mtu_is_the_users_where_he_says_one() -> None:
    assert mtu_of({}) == MTU
    assert mtu_of({ENCRYPTED_OPTION: ""}) == ENCRYPTED_MTU
    assert mtu_of({ENCRYPTED_OPTION: "", MTU_OPTION: "8000"}) == 8000


def test_the_port_is_another_one_that_may_be() -> None:
    assert (encrypted_port(4789), encrypted_port(49151)) == (4790, 49150)
