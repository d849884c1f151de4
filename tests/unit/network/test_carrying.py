"""In which order changes are carried out."""

from __future__ import annotations

from typing import Any, cast

import pytest

from skep.network import firewalld
from skep.network.carrying import carry_out
from skep.network.diff import Changes
from skep.network.fast_path_kernel import FastPaths
from skep.network.netlink import Netlink
from skep.network.nftables import Nftables
from skep.network.objects import Bridge, PortJump, Trusted, chain


class Kernel:
    """Says what was done, in this order. Fulfils what is asked of `Netlink` and of `Nftables`."""

    takes_rules = False

    def __init__(self) -> None:
        self.done: list[str] = []

    def put(self, each: Any) -> None:
        self.done.append(f"put {type(each).__name__}")

    def drop(self, each: Any) -> None:
        self.done.append(f"drop {type(each).__name__}")

    put_entries = drop_entries = put_returns = drop_returns = lambda self, those: ()

    def run(self, text: str) -> None:
        self.done.append("rules")


def test_rules_do_not_wait_for_firewalld(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its program may wait for as long as it may: tasks that end are let go meanwhile."""
    kernel = Kernel()
    monkeypatch.setattr(firewalld, "put", lambda each: kernel.done.append("firewalld"))
    new = Bridge("skb4097", "02:6e:c0:00:02:01", 1450)
    puts = (new, Trusted(), chain("tcp-80", ["accept"]), PortJump("tcp", 80, "tcp-80"))
    drops = (Bridge("skb4098", "02:6e:c0:00:02:01", 1450),)
    said = carry_out(cast("Netlink", kernel), cast("Nftables", kernel), FastPaths(), Changes(drops, puts))
    assert said == ()
    assert kernel.done == ["put Bridge", "rules", "drop Bridge", "firewalld"]
