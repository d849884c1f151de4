"""Placement constraints, in Docker's syntax."""

from __future__ import annotations

import pytest

from skep.model.constraint import matches, parse_constraint
from skep.model.node import EngineDescription, Node, NodeDescription, NodeSpec
from skep.model.spec import Platform
from skep.runtime.errors import Invalid

NODE = Node(
    id="n1",
    spec=NodeSpec(role="worker", availability="active", labels={"Disk": "SSD", "empty": ""}),
    description=NodeDescription(
        hostname="host-1",
        platform=Platform(architecture="x86_64", os="linux"),
        engine=EngineDescription(labels={"site": "a"}),
    ),
    created_at=0,
    updated_at=0,
    addr="10.1.2.3",
)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("node.id==n1", True),
        ("node.id!=n1", False),
        ("node.hostname == HOST-1", True),
        ("node.role==manager", False),
        ("node.role!=manager", True),
        ("node.labels.Disk==ssd", True),
        ("node.labels.disk==ssd", False),
        ("node.labels.rack!=1", True),
        ("engine.labels.site==a", True),
        ("node.platform.os==linux", True),
        ("node.platform.arch==amd64", True),
        ("node.ip==10.1.0.0/16", True),
        ("node.ip!=10.1.2.3", False),
        ("node.foo==1", False),
    ],
)
def test_what_fits(text: str, fits: bool) -> None:
    assert matches(parse_constraint(text), NODE) is fits


@pytest.mark.parametrize("text", ["node.id", "node.id=n1", "==x", "node.id==", "no de==x", "node.id==a;b"])
def test_what_is_not_a_constraint(text: str) -> None:
    with pytest.raises(Invalid):
        parse_constraint(text)
