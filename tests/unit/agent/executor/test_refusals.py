"""What an engine's refusals mean. The words are those of real engines (20.10 to 28)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from skep.agent.executor import refusals
from skep.agent.executor.refusals import EngineError

ADDRESS = EngineError(403, "Address already in use")
ON_IT = EngineError(403, "endpoint with name web.1.x already exists in network web")
GOING = EngineError(409, "removal of container aa is already in progress")
DEAD = EngineError(409, "can not get logs from container which is dead or marked for removal")
NOT_KILLED = EngineError(409, 'cannot remove container "aa": could not kill container: permission denied')
NAME = EngineError(
    409,
    'Conflict. The container name "/web.1.x" is already in use by container "d46c". You have to remove (or'
    " rename) that container to be able to reuse that name.",
)
NAME_PODMAN = EngineError(
    500,
    'container create: creating container storage: the container name "aa" is already in use by 96f1. You have to'
    " remove that container to be able to reuse that name: that name is already in use",
)
NETWORK_NAME = EngineError(409, "network with name web already exists")
PORT = EngineError(
    500,
    "driver failed programming external connectivity: Bind for 0.0.0.0:80 failed: port is already allocated",
)
OVERLAP = EngineError(403, "Pool overlaps with other one on this address space")
OVERLAP_28 = EngineError(
    403, "invalid pool request: Pool overlaps with other one on this address space (10.0.1.0/24)"
)
BRIDGES = EngineError(
    403, "cannot create network 1 (br-1): conflicts with network 2 (br-2): networks have overlapping IPv4"
)
OVERLAP_PODMAN = EngineError(500, "subnet 10.0.1.0/24 is already used on the host or by another config")
NO_NETWORK = EngineError(404, "network web not found")
NO_NETWORK_28 = EngineError(404, "failed to set up container networking: network web not found")
NO_BRIDGE = EngineError(500, "could not find bridge skb4098: route ip+net: no such network interface")
NO_BRIDGE_28 = EngineError(
    500,
    "failed to set up container networking: failed to create endpoint a on network net: adding interface veth1 to"
    " bridge skb4098 failed: Device does not exist",
)
SAME_BRIDGE = EngineError(
    403,
    "cannot create network 1 (skb4098): conflicts with network 2 (skb4098): networks have same bridge name",
)
NO_PROGRAM = EngineError(
    400, 'OCI runtime create failed: exec: "network": executable file not found in $PATH: unknown'
)
NO_CONTAINER = EngineError(404, "No such container: aa")
OFF_IT = EngineError(500, "container d46c is not connected to network web")
IN_USE = EngineError(403, "error while removing network: network web id 36 has active endpoints")
ALL = [value for value in vars().values() if isinstance(value, EngineError)]


@pytest.mark.parametrize(
    ("rule", "meant"),
    [
        (refusals.is_on_network, [ON_IT]),
        (refusals.is_being_removed, [GOING, DEAD]),
        (refusals.is_name_taken, [NAME, NAME_PODMAN, NETWORK_NAME]),
        (refusals.is_overlap, [OVERLAP, OVERLAP_28, BRIDGES, OVERLAP_PODMAN, SAME_BRIDGE]),
        (refusals.is_network_gone, [NO_NETWORK, NO_NETWORK_28, NO_BRIDGE, NO_BRIDGE_28]),
        (refusals.is_absent, [NO_NETWORK, NO_NETWORK_28, NO_CONTAINER]),
        (refusals.is_not_connected, [NO_NETWORK, NO_NETWORK_28, NO_CONTAINER, OFF_IT]),
        (
            refusals.may_pass,
            [
                GOING,
                DEAD,
                NOT_KILLED,
                NAME,
                NAME_PODMAN,
                NETWORK_NAME,
                PORT,
                OVERLAP_PODMAN,
                NO_BRIDGE,
                NO_BRIDGE_28,
                OFF_IT,
            ],
        ),
    ],
)
def test_a_refusal_means_what_it_says_and_nothing_else(
    rule: Callable[[EngineError], bool], meant: list[EngineError]
) -> None:
    assert [str(error) for error in ALL if rule(error)] == [str(error) for error in meant]
