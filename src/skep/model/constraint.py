"""Placement constraints: `node.labels.zone==a` (Docker's syntax; SwarmKit's manager/constraint).

One parser for the control API (which refuses bad ones), the scheduler and the orchestrators.
"""

from __future__ import annotations

import functools
import ipaddress
import re

from msgspec import Struct

from skep.model.node import Node
from skep.model.spec import Placement, Platform
from skep.runtime.errors import Invalid

_KEY = re.compile(r"^[a-z0-9][a-z0-9\-_.]*[a-z0-9]$|^[a-z0-9]$", re.IGNORECASE)
_VALUE = re.compile(r"^[a-z0-9:\-_\s.*()?+\[\]\\^$|/]+$", re.IGNORECASE)
_NODE_LABEL, _ENGINE_LABEL = "node.labels.", "engine.labels."
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # uname's names against Go's


class Constraint(Struct, frozen=True):
    """One constraint; `equal` is False for `!=`."""

    key: str
    equal: bool
    value: str


@functools.lru_cache(maxsize=4096)  # distinct texts in use; a service has a handful
def parse_constraint(text: str) -> Constraint:
    """Errors: `Invalid`, in SwarmKit's words."""
    for operator, equal in (("==", True), ("!=", False)):
        key, found, value = text.partition(operator)
        if not found:
            continue
        key, value = key.strip(), value.strip()
        if not _KEY.match(key):
            raise Invalid(f"key '{key}' is invalid")
        if not _VALUE.match(value):
            raise Invalid(f"value '{value}' is invalid")
        return Constraint(key, equal, value)
    raise Invalid("constraint expected one operator from ==, !=")


def matches(constraint: Constraint, node: Node) -> bool:
    """True where the node satisfies the constraint. Keys nobody knows never match (as in SwarmKit)."""
    key, value = constraint.key, constraint.value
    lower = key.lower()
    if lower == "node.ip":
        return _ip_matches(node.addr, value, constraint.equal)
    found = value_of(key, node)
    if found is None:
        return False
    if lower == "node.platform.arch":
        found, value = _architecture(found.lower()), _architecture(value.lower())
    return (found.lower() == value.lower()) == constraint.equal


def value_of(key: str, node: Node) -> str | None:
    """Returns what the node has under a constraint's key; None for a key nobody knows. A label that is not
    there is the empty text. Keys are compared without regard to case, labels' own names are not."""
    lower = key.lower()
    if lower.startswith(_NODE_LABEL):
        return node.spec.labels.get(key[len(_NODE_LABEL) :], "")
    if lower.startswith(_ENGINE_LABEL):
        return node.description.engine.labels.get(key[len(_ENGINE_LABEL) :], "")
    platform = node.description.platform
    known = {
        "node.ip": node.addr,
        "node.id": node.id,
        "node.hostname": node.description.hostname,
        "node.role": node.spec.role,
        "node.platform.os": platform.os,
        "node.platform.arch": platform.architecture,
    }
    return known.get(lower)


def is_self_reported(key: str) -> bool:
    """True for what a node says of itself: who holds its certificate may say what he likes. Its id, its role
    and its labels are the managers' word; its address is where its connection comes from."""
    lower = key.lower()
    return lower in ("node.hostname", "node.platform.os", "node.platform.arch") or lower.startswith(
        _ENGINE_LABEL
    )


def is_spread(descriptor: str) -> bool:
    """True for what a preference can spread over: a label of the node or of its engine. Docker takes any
    other descriptor, and acts on none."""
    lower = descriptor.lower()
    return any(lower.startswith(each) and len(lower) > len(each) for each in (_NODE_LABEL, _ENGINE_LABEL))


def spread_label(descriptor: str, node: Node) -> str:
    """Returns the node's value of a spread descriptor; nodes without the label are one branch, the empty."""
    return value_of(descriptor, node) or ""


def platform_fits(wanted: list[Platform], node: Node) -> bool:
    """True where the node's platform is one of those wanted; an empty field fits anything."""
    if not wanted:
        return True
    have = node.description.platform
    for each in wanted:
        fits_os = not each.os or each.os.lower() == have.os.lower()
        architecture = _architecture(each.architecture.lower())
        if fits_os and architecture in ("", _architecture(have.architecture.lower())):
            return True
    return False


def eligible(node: Node, placement: Placement | None) -> bool:
    """True where constraints and platforms let the node run the service at all."""
    if placement is None:
        return True
    for text in placement.constraints:
        if not matches(parse_constraint(text), node):
            return False
    return platform_fits(placement.platforms, node)


def _architecture(name: str) -> str:
    return _ARCHITECTURES.get(name, name)


def _ip_matches(address: str, value: str, equal: bool) -> bool:
    """An address or a network; what is neither matches no node, whatever the operator (as in SwarmKit)."""
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        return False
    try:
        have = ipaddress.ip_address(address)
    except ValueError:
        return not equal
    mapped = have.ipv4_mapped if isinstance(have, ipaddress.IPv6Address) else None
    return ((mapped or have) in network) == equal
