"""Whose connections are forgotten: of who is gone, and of who may be there none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from skep.model.mesh import Mesh
from skep.model.overlay import Overlay, OverlayEndpoint, OverlayNetwork, OverlayService
from skep.network import flows
from skep.network.diff import Changes
from skep.network.flows import UNSURE_MAX, Flows
from skep.network.host import HostFacts
from skep.network.objects import VipJump
from skep.runtime.errors import Unavailable

SMALL = OverlayNetwork("small", "10.1.0.0/24", 4098, 4789, "small")
LARGE = OverlayNetwork("large", "10.2.0.0/16", 4099, 4789, "large", is_large=True)


class Kernel:
    """What it is told to forget."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tasks: list[set[str]] = []
        self.vips: list[set[str]] = []
        self.meanwhile: Callable[[], object] = lambda: None  # while connections are forgotten
        monkeypatch.setattr(flows, "forget_tasks", self._forget_tasks)
        monkeypatch.setattr(flows, "forget_untranslated", self.vips.append)
        self.flows = Flows()

    def _forget_tasks(self, addresses: set[str]) -> None:
        asked = set(addresses)
        self.meanwhile()
        self.tasks.append(asked & addresses)  # each is looked at when it comes to it

    def told(self, *addresses: str) -> None:
        self._told(addresses, (), ())

    def forget(self, *addresses: str, gone: tuple[str, ...] = (), vips: tuple[str, ...] = ()) -> None:
        self._told(addresses, gone, vips)
        self.flows.forget_lost()

    def _told(self, addresses: tuple[str, ...], gone: tuple[str, ...], vips: tuple[str, ...]) -> None:
        overlays = {}
        for network in (SMALL, LARGE):
            start = network.subnet[:5]
            here = {a: OverlayEndpoint(a, "n1") for a in addresses if a.startswith(start)}
            service = OverlayService("s", "web", endpoints=tuple(here.values()))
            overlays[network.id] = Overlay(network, {}, {"s": service})
        changes = Changes(puts=tuple(VipJump(each, "vip") for each in vips))
        self.flows.forget(HostFacts(), Mesh(overlays=overlays), changes, gone)


def test_of_a_large_network_only_those_whom_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    kernel.forget("10.1.0.1", "10.1.0.2", "10.2.0.1", "10.2.0.2", "10.2.0.3")
    kernel.forget("10.1.0.1", "10.2.0.1")
    assert kernel.tasks == [{"10.1.0.2"}]
    assert kernel.flows.unsure == {"10.2.0.2", "10.2.0.3"}
    kernel.forget("10.1.0.1", "10.2.0.1", "10.2.0.3", gone=("10.2.0.2", "10.2.0.9"))
    assert kernel.tasks[1:] == [{"10.2.0.2"}], "the third is told of again, the last was never known"
    assert kernel.flows.unsure == frozenset()


def test_how_many_are_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    for part in range(2):
        kernel.forget(*(f"10.2.{part * 20 + n // 250}.{n % 250}" for n in range(UNSURE_MAX)))
    kernel.forget()
    assert len(kernel.flows.unsure) == UNSURE_MAX


def test_to_a_service_that_got_a_rule_on_a_large_network(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    kernel.forget(vips=("10.1.0.100", "10.2.0.100"))
    kernel.forget()
    assert kernel.vips == [{"10.2.0.100"}]


def test_who_comes_back_while_connections_are_forgotten_keeps_his(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    kernel.told("10.1.0.1", "10.1.0.2", "10.1.0.3")
    kernel.meanwhile = lambda: kernel.told("10.1.0.1", "10.1.0.2")  # and the third is lost once more
    kernel.told("10.1.0.1", "10.1.0.3")
    kernel.told("10.1.0.1")
    kernel.flows.forget_lost()
    assert kernel.tasks == [{"10.1.0.3"}]
    kernel.meanwhile = lambda: None
    kernel.forget("10.1.0.1")
    assert kernel.tasks[1:] == [{"10.1.0.2"}], "it went after it was looked at"


def test_what_could_not_be_forgotten_is_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    kernel.told("10.1.0.1", "10.1.0.2", "10.1.0.3")

    def fails() -> None:
        kernel.told("10.1.0.3")
        raise Unavailable("the kernel does not say")

    kernel.meanwhile = fails
    kernel.told()
    with pytest.raises(Unavailable):
        kernel.flows.forget_lost()
    assert kernel.flows.has_lost
    kernel.meanwhile = lambda: None
    kernel.flows.forget_lost()
    assert kernel.tasks == [{"10.1.0.1", "10.1.0.2"}]
