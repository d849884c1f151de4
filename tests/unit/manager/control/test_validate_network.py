"""What of a new network is refused before anything is made."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from skep.manager.control.validate_network import validate_network
from skep.model.network import IPAM, IPAMConfig, NetworkSpec
from skep.runtime.errors import Invalid, Unsupported


@pytest.mark.parametrize(
    "asked", [{"enable_ipv6": True}, {"ipam": IPAM(config=[IPAMConfig(subnet="fd00::/64")])}]
)
def test_an_overlay_of_ipv6_is_refused(asked: dict[str, Any]) -> None:
    """Half of it would be worse: addresses that no tunnel leads to."""
    spec = NetworkSpec(name="n", driver="overlay", **asked)
    with pytest.raises(Unsupported, match="IPv6 is not supported on overlay networks yet"):
        validate_network(spec)
    validate_network(replace(spec, driver="bridge", scope="swarm"))


@pytest.mark.parametrize(
    ("subnet", "whose"),
    [
        ("127.0.0.0/24", "each host's own addresses"),
        ("224.0.0.0/24", "for multicast, or reserved"),
        ("169.254.0.0/16", "of one link, where clouds have their metadata"),
        ("0.0.0.0/0", "addresses of this host"),
    ],
)
def test_addresses_that_no_container_can_have_are_refused(subnet: str, whose: str) -> None:
    """No task ever started there: its gateway could not be set."""
    spec = NetworkSpec(name="n", driver="overlay", ipam=IPAM(config=[IPAMConfig(subnet=subnet)]))
    with pytest.raises(Invalid, match=whose):
        validate_network(spec)


@pytest.mark.parametrize("mtu", ["abc", "-5", "100000", "67", "1e3", "9" * 5000])
def test_an_mtu_that_is_none_is_refused(mtu: str) -> None:
    spec = NetworkSpec(name="n", driver="overlay", options={"com.docker.network.driver.mtu": mtu})
    with pytest.raises(Invalid, match=r"invalid MTU value: .* \(a number from 68 to 65535\)"):
        validate_network(spec)
    validate_network(replace(spec, options={"com.docker.network.driver.mtu": "1400"}))
    validate_network(replace(spec, driver="bridge", scope="swarm"))  # the engine's to say
