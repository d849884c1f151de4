"""What of a new network is refused before anything is made."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from skep.manager.control.validate_network import validate_network
from skep.model.network import IPAM, IPAMConfig, NetworkSpec
from skep.runtime.errors import Unsupported


@pytest.mark.parametrize(
    "asked", [{"enable_ipv6": True}, {"ipam": IPAM(config=[IPAMConfig(subnet="fd00::/64")])}]
)
def test_an_overlay_of_ipv6_is_refused(asked: dict[str, Any]) -> None:
    """Half of it would be worse: addresses that no tunnel leads to."""
    spec = NetworkSpec(name="n", driver="overlay", **asked)
    with pytest.raises(Unsupported, match="IPv6 is not supported on overlay networks yet"):
        validate_network(spec)
    validate_network(replace(spec, driver="bridge", scope="swarm"))
