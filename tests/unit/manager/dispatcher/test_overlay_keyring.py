"""Who is told which keys of encrypted overlay networks, and when."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from skep.manager.attachments import AttachmentKeeper
from skep.manager.control.validate_network import check_encryption, validate_network
from skep.manager.dispatcher import overlay_keys
from skep.manager.dispatcher.overlay_views import overlay_network
from skep.manager.scheduler.nodes import missing_plugins, needed_plugins
from skep.model.container import NetworkAttachmentConfig
from skep.model.network import NetworkSpec
from skep.model.node import NodeDescription
from skep.model.overlay_keys import ESP, OverlayKey
from skep.model.spec import TaskSpec
from skep.rpc.messages import OverlayKeysTold, OverlayTold
from skep.runtime.errors import Denied, Unsupported
from skep.store.view import View
from tests.unit.overlays import NET, Line, Swarm, add_on_net, overlay_view

SPEC = replace(NET.spec, options={"encrypted": ""})
ABLE = NodeDescription(hostname="h").having(ESP)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay_keys, "SETTLE_S", 0.05)
    monkeypatch.setattr(overlay_keys, "NEWS_S", 0.01)


def _view(*nodes: str) -> View:
    view = overlay_view(*nodes)
    view.put_network(replace(NET, spec=SPEC))
    for slot, node_id in enumerate(nodes, 1):
        add_on_net(view, f"t{slot}", node_id, slot)
    return view


def _keys(line: Line) -> list[OverlayKeysTold]:
    return [each for each in line.heard if isinstance(each, OverlayKeysTold)]


async def _until_sending(line: Line) -> OverlayKeysTold:
    async with asyncio.timeout(5):
        while not _keys(line)[-1].sending:
            await asyncio.sleep(0.01)
    return _keys(line)[-1]


async def test_a_node_has_the_key_before_it_hears_of_its_encrypted_network() -> None:
    swarm = Swarm(_view("a", "b"))
    a = swarm.come("a", description=ABLE)
    said = [type(each) for each in a.heard if isinstance(each, OverlayKeysTold | OverlayTold)]
    assert said == [OverlayKeysTold, OverlayTold]
    network = overlay_network(swarm.view, "net")
    assert network is not None
    assert network.is_encrypted
    assert network.data_port == 4790
    swarm.dispatcher.stop()


async def test_no_key_goes_to_who_has_nobody_on_an_encrypted_network() -> None:
    view = overlay_view("a")
    add_on_net(view, "t1", "a", 1)
    swarm = Swarm(view)
    assert not _keys(swarm.come("a", description=ABLE))


async def test_a_node_that_cannot_encrypt_hears_nothing_of_it() -> None:
    swarm = Swarm(_view("a"))
    a = swarm.come("a")
    assert not [each for each in a.heard if isinstance(each, OverlayKeysTold | OverlayTold)]
    add_on_net(swarm.view, "t9", "a", 9, observed=None)
    swarm.publish(swarm.view.tasks["t9"])
    assert "net" not in a.overlays


async def test_all_have_the_key_before_anybody_sends_by_it() -> None:
    swarm = Swarm(_view("a", "b"))
    a, b = (swarm.come(each, description=ABLE) for each in ("a", "b"))
    assert [each[-1].sending for each in (_keys(a), _keys(b))] == [0, 0]
    assert _keys(a)[-1].keys == _keys(b)[-1].keys
    said = await _until_sending(a)
    assert (said.sending, said.behind) == (said.keys[0].number, [])
    assert await _until_sending(b) == said
    swarm.dispatcher.stop()


async def test_a_node_that_is_away_is_said_to_be_behind_until_it_comes() -> None:
    swarm = Swarm(_view("a", "b"))
    a = swarm.come("a", description=ABLE)
    said = await _until_sending(a)
    assert said.behind == ["192.0.2.2"]
    b = swarm.come("b", description=ABLE)
    assert _keys(b) == [replace(said, behind=[])]
    async with asyncio.timeout(5):
        while _keys(a)[-1].behind:
            await asyncio.sleep(0.01)
    swarm.dispatcher.stop()


async def test_the_key_changes_and_the_one_before_stays_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay_keys, "KEY_S", 0.2)
    swarm = Swarm(_view("a"))
    a = swarm.come("a", description=ABLE)
    first = await _until_sending(a)
    async with asyncio.timeout(5):
        while _keys(a)[-1].sending in (0, first.sending):
            await asyncio.sleep(0.01)
    told = next(each for each in _keys(a) if len(each.keys) == 2)
    assert (told.sending, told.keys[1]) == (first.sending, first.keys[0]), "told before it is sent by"
    assert all(len(each.keys) <= 2 for each in _keys(a))
    swarm.dispatcher.stop()


async def test_who_comes_back_to_an_encrypted_network_is_told_the_key_again() -> None:
    """A node forgets keys with its last encrypted network."""
    view = _view("a", "b")
    swarm = Swarm(view)
    a = swarm.come("a", description=ABLE)
    swarm.come("b", description=ABLE)
    swarm.publish(dropped=(view.tasks["t1"],))
    await swarm.settle()
    assert "net" not in a.overlays
    count = len(_keys(a))
    swarm.publish(add_on_net(view, "t9", "a", 9, observed=None))
    assert len(_keys(a)) == count + 1
    swarm.dispatcher.stop()


async def test_a_node_that_can_encrypt_by_now_is_told_of_its_networks() -> None:
    swarm = Swarm(_view("a"))
    a = swarm.come("a")
    assert "net" not in a.overlays
    swarm.dispatcher.described("a", ABLE)
    await swarm.settle()
    assert "net" in a.overlays
    assert _keys(a)
    swarm.dispatcher.stop()


def test_a_key_that_would_mix_up_two_senders_is_not_taken() -> None:
    one, other = OverlayKey(0x0A000001, b""), OverlayKey(0x0A000003, b"")
    addresses = {0xC0000201, 0xC0000202}
    assert not overlay_keys._is_mixed_up(one, other, {0xC0000201})
    assert overlay_keys._is_mixed_up(one, other, {0xC0000201, 0xC0000203})
    assert not overlay_keys._is_mixed_up(one, other, addresses)


def test_a_task_on_an_encrypted_network_goes_to_who_can_encrypt() -> None:
    view = _view("a")
    spec = TaskSpec(networks=[NetworkAttachmentConfig(target="net")])
    needed = needed_plugins(spec, view)
    node = view.nodes["a"]
    assert missing_plugins(node, needed) == [(ESP.type, ESP.name)]
    assert not missing_plugins(replace(node, description=ABLE), needed)


def test_an_encrypted_network_is_refused_where_nobody_can() -> None:
    view = _view("a")
    with pytest.raises(Unsupported, match="no node of this swarm can encrypt"):
        check_encryption(SPEC, view.nodes.values())
    check_encryption(NET.spec, view.nodes.values())
    view.put_node(replace(view.nodes["a"], description=ABLE))
    check_encryption(SPEC, view.nodes.values())


def test_the_meshs_own_network_is_not_encrypted() -> None:
    spec = NetworkSpec(name="i", driver="overlay", ingress=True, options={"encrypted": ""})
    with pytest.raises(Unsupported, match="routing mesh's own network cannot be encrypted"):
        validate_network(spec)


def test_a_container_comes_to_no_encrypted_network_on_a_node_that_cannot() -> None:
    view = _view("a")
    keeper = AttachmentKeeper.__new__(AttachmentKeeper)
    keeper._view = view
    with pytest.raises(Denied, match="this node cannot encrypt"):
        keeper._check_encryption("a", view.networks["net"])
    assert not view.nodes["a"].description.has(ESP)
