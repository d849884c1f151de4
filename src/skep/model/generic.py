"""Generic resources (Engine API 1.51): what a node has beyond CPUs and memory, and what a task holds of it.

A node's are named (`gpu=UUID1`, each used by one task) or discrete (`ssd=3`, a count); a task reserves a
number of a kind and is given names, or the number. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from .container import DiscreteGenericResource, GenericResource, NamedGenericResource
from .node import NodeResources

Claim = tuple[str, str | int]  # (kind, name) of a named resource, (kind, count) of a discrete one
Held = Mapping[tuple[str, str], int]  # (kind, name) -> tasks that hold it; (kind, "") -> how many are taken


# More of a kind than any node has: of what is reserved by name, or negative, as in Docker. Reckoned with in
# 64 bits.
NEVER = 1 << 62


class Stock(Struct, frozen=True):
    """One kind on one node: how many are there, how many are free, and which names those have."""

    total: int
    free: int
    names: tuple[str, ...] = ()


def demand_of(reserved: Iterable[GenericResource]) -> tuple[tuple[str, int], ...]:
    """Returns how many of each kind a task needs, by kind; what is named several times adds up.

    Docker looks at each entry alone, and gives a task that asks for 0 of a named kind all there are.
    """
    needed: dict[str, int] = {}
    for each in reserved:
        kind, count = _asked(each)
        if count:
            needed[kind] = min(NEVER, needed.get(kind, 0) + count)
    return tuple(sorted(needed.items()))


def is_impossible(reserved: Iterable[GenericResource]) -> bool:
    """True where no node can ever give what is reserved: names, or a negative number."""
    return any(_asked(each)[1] == NEVER for each in reserved)


def _asked(wanted: GenericResource) -> tuple[str, int]:
    """Returns the kind, and how many of it."""
    discrete, named = wanted.discrete_resource_spec, wanted.named_resource_spec
    if discrete is not None:  # it counts where both are given
        return discrete.kind, NEVER if discrete.value < 0 else min(NEVER, discrete.value)
    return (named.kind, NEVER) if named is not None else ("", 0)


def stock_of(resources: NodeResources, held: Held, kind: str) -> Stock:
    """Returns what a node has of a kind. What tasks hold of what it has no longer is not counted as there;
    where a kind was named and is discrete now, or the other way, each claim counts as one of the other."""
    names: list[str] = []
    discrete = 0
    for each in resources.generic_resources:
        if each.named_resource_spec is not None and each.named_resource_spec.kind == kind:
            names.append(each.named_resource_spec.value)
        elif each.discrete_resource_spec is not None and each.discrete_resource_spec.kind == kind:
            discrete += each.discrete_resource_spec.value
    counted = held.get((kind, ""), 0)
    if names:
        free_names = tuple(name for name in names if not held.get((kind, name)))
        return Stock(len(names), len(free_names) - counted, free_names)
    named = sum(count for (of, name), count in held.items() if of == kind and name)
    return Stock(discrete, discrete - counted - named)


def key_and_count(claim: Claim) -> tuple[tuple[str, str], int]:
    """Returns under which key of `Held` a claim is counted, and as how many."""
    kind, value = claim
    return ((kind, value), 1) if isinstance(value, str) else ((kind, ""), value)


def wire_of(claims: Iterable[Claim]) -> list[GenericResource]:
    """Returns a task's resources as Docker shows them."""
    return [
        GenericResource(named_resource_spec=NamedGenericResource(kind=kind, value=value))
        if isinstance(value, str)
        else GenericResource(discrete_resource_spec=DiscreteGenericResource(kind=kind, value=value))
        for kind, value in claims
    ]


def environment(claims: Iterable[Claim]) -> list[str]:
    """Returns the variables that tell a container what it was given: DOCKER_RESOURCE_GPU=UUID1,UUID2."""
    values: dict[str, list[str]] = {}
    for kind, value in claims:
        values.setdefault(f"DOCKER_RESOURCE_{kind.upper()}", []).append(str(value))
    return [f"{name}={','.join(each)}" for name, each in values.items()]


def parse_resource(text: str) -> GenericResource:
    """Returns what `KIND=VALUE` means: discrete where VALUE is a number. Errors: `ValueError`."""
    kind, found, value = text.partition("=")
    if not kind or not found or not value:
        raise ValueError(f"'{text}' is not KIND=VALUE")
    if value.isdigit():
        return GenericResource(discrete_resource_spec=DiscreteGenericResource(kind=kind, value=int(value)))
    return GenericResource(named_resource_spec=NamedGenericResource(kind=kind, value=value))


def resource_text(resource: GenericResource) -> str:
    """Returns what `parse_resource` reads."""
    given = resource.named_resource_spec or resource.discrete_resource_spec
    return "" if given is None else f"{given.kind}={given.value}"
