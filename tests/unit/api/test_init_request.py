"""What a new swarm begins with where the request leaves members out, or gives null, zero or nothing."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest

from skep.api.decode import decode_body
from skep.api.interfaces import InitRequest
from skep.api.routes.swarm import cluster_json
from skep.daemon.founding import found_swarm
from skep.manager.allocator.subnets import give
from skep.manager.control.swarm import validate_init
from skep.model.cluster import Cluster
from skep.model.network import NetworkSpec
from skep.runtime.errors import Invalid
from skep.store import codec

HERE = ("127.0.0.1", 2377)


def cluster(**body: Any) -> Cluster:
    request, _ = decode_body(json.dumps(body).encode(), InitRequest)
    validate_init(request.spec, request.data_path_port, request.default_addr_pool, request.subnet_size)
    ids = (f"id{n}" for n in count())
    _, _, puts = found_swarm(request, "mg0", HERE, HERE, 0.0, lambda: next(ids))
    [value] = [put.value for put in puts if put.key == codec.CLUSTER_KEY]
    return codec.decode_object(Cluster, codec.CLUSTER_KEY, value, 1)


@pytest.mark.parametrize(
    ("body", "pools", "size", "first"),
    [
        ({}, ["10.0.0.0/8"], 24, "10.0.0.0/24"),
        ({"DefaultAddrPool": None}, ["10.0.0.0/8"], 24, "10.0.0.0/24"),
        ({"DefaultAddrPool": None, "SubnetSize": 28}, ["10.0.0.0/8"], 24, "10.0.0.0/24"),
        ({"SubnetSize": 33}, ["10.0.0.0/8"], 24, "10.0.0.0/24"),
        ({"DefaultAddrPool": []}, None, 0, "10.0.0.0/24"),
        ({"DefaultAddrPool": [], "SubnetSize": 26}, None, 26, "10.0.0.0/26"),
        ({"DefaultAddrPool": ["10.5.0.0/16"]}, ["10.5.0.0/16"], 0, "10.5.0.0/24"),
        ({"DefaultAddrPool": ["10.5.0.7/16"], "SubnetSize": 26}, ["10.5.0.7/16"], 26, "10.5.0.0/26"),
    ],
)
def test_address_pools_are_shown_and_used_as_dockers(
    body: dict[str, Any], pools: list[str] | None, size: int, first: str
) -> None:
    found = cluster(**body)
    shown = cluster_json(found)
    assert (shown.default_addr_pool, shown.subnet_size) == (pools, size)
    given = give(NetworkSpec(name="n"), [], found.default_addr_pool, found.subnet_size)
    assert given.pools[0].subnet == first


def test_a_swarm_has_one_name() -> None:
    assert cluster(Spec={"Name": ""}).spec.name == "default"
    with pytest.raises(Invalid, match=r'^swarm spec must be named "default"$'):
        cluster(Spec={"Name": "other"})
    with pytest.raises(Invalid, match=r'^invalid Availability: "bogus"$'):
        cluster(Availability="bogus")
