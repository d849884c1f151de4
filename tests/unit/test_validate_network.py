"""What of a new network is refused before anything is made."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from skep.manager.control.validate_network import validate_network
from skep.manager.dispatcher.assignments import task_network
from skep.manager.dispatcher.overlay_views import overlay_network
from skep.model.network import IPAM, IPAMConfig, NetworkSpec
from skep.runtime.errors import Unsupported

from .overlays import NET, overlay_view


@pytest.mark.parametrize("value", ["", "true", "false"])
def test_a_network_that_is_to_be_sealed_is_refused(value: str) -> None:
    """Docker looks whether the option is there, not at its value."""
    spec = NetworkSpec(name="n", driver="overlay", options={"encrypted": value})
    with pytest.raises(Unsupported, match="encrypted overlay networks are not supported yet"):
        validate_network(spec)
    validate_network(replace(spec, driver="bridge", scope="swarm"))


@pytest.mark.parametrize(
    "asked", [{"enable_ipv6": True}, {"ipam": IPAM(config=[IPAMConfig(subnet="fd00::/64")])}]
)
def test_an_overlay_of_ipv6_is_refused(asked: dict[str, Any]) -> None:
    """Half of it would be worse: addresses that no tunnel leads to."""
    spec = NetworkSpec(name="n", driver="overlay", **asked)
    with pytest.raises(Unsupported, match="IPv6 is not supported on overlay networks yet"):
        validate_network(spec)
    validate_network(replace(spec, driver="bridge", scope="swarm"))


def test_one_of_an_earlier_skep_goes_on_within_each_host_and_nowhere_else() -> None:
    view = overlay_view("a")
    assert overlay_network(view, "net") is not None
    sealed = replace(NET, spec=replace(NET.spec, options={"encrypted": ""}))
    view.put_network(sealed)
    assert overlay_network(view, "net") is None
    assert task_network(sealed, [], {}).bridge == ""
