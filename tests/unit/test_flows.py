"""Whose connections are forgotten: of who is gone, and of who may be there none."""

from __future__ import annotations

import pytest

from skep.model.mesh import Mesh
from skep.model.overlay import Overlay, OverlayEndpoint, OverlayNetwork, OverlayService
from skep.network import flows
from skep.network.diff import Changes
from skep.network.flows import UNSURE_MAX, Flows
from skep.network.host import Host
from skep.network.objects import VipJump

SMALL = OverlayNetwork("small", "10.1.0.0/24", 4098, 4789, "small")
LARGE = OverlayNetwork("large", "10.2.0.0/16", 4099, 4789, "large", is_large=True)


class Kernel:
    """What it is told to forget."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tasks: list[set[str]] = []
        self.vips: list[set[str]] = []
        monkeypatch.setattr(flows, "forget_tasks", self.tasks.append)
        monkeypatch.setattr(flows, "forget_untranslated", self.vips.append)
        self.flows = Flows()

    def forget(self, *addresses: str, gone: tuple[str, ...] = (), vips: tuple[str, ...] = ()) -> None:
        overlays = {}
        for network in (SMALL, LARGE):
            start = network.subnet[:5]
            here = {a: OverlayEndpoint(a, "n1") for a in addresses if a.startswith(start)}
            service = OverlayService("s", "web", endpoints=tuple(here.values()))
            overlays[network.id] = Overlay(network, {}, {"s": service})
        changes = Changes(puts=tuple(VipJump(each, "vip") for each in vips))
        self.flows.forget(Host(), Mesh(overlays=overlays), changes, gone)
        self.flows.forget_lost()


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
