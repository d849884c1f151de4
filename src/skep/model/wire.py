"""Base of everything that is written as Docker's JSON (PascalCase; what is unset is left out).

Values that Go writes although they are zero get a default factory that is not a plain type: msgspec's
`omit_defaults` leaves out a field only where its default is a constant or an empty collection.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

Uint = Annotated[int, Meta(ge=0)]
Port = Annotated[int, Meta(ge=0, le=65535)]

T = TypeVar("T")


class Wire(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """A value of Docker's API."""


def always_zero() -> int:
    """Default of a number that Docker writes even when it is zero."""
    return 0


def always_zero_ratio() -> float:
    """Default of a ratio that Docker writes even when it is zero."""
    return 0.0


def always_empty_text() -> str:
    """Default of a string that Docker writes even when it is empty."""
    return ""


def always_empty_map() -> dict[str, str]:
    """Default of a map that Docker writes even when it is empty."""
    return {}


def without_nulls(value: object) -> object:
    """Returns `value` (decoded JSON) without members that are null: Go clients send null for unset."""
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [without_nulls(v) for v in value]
    return value


def unknown_fields(value: object, kind: type[Struct], path: str = "") -> list[str]:
    """Returns the paths of members of `value` that `kind` does not have, so that none is dropped silently."""
    found: list[str] = []
    if not isinstance(value, dict):
        return found
    fields = {f.encode_name: f.type for f in msgspec.structs.fields(kind)}
    for name, member in value.items():
        if name not in fields:
            found.append(path + name)
            continue
        for inner in _struct_types(fields[name]):
            members = member if isinstance(member, list) else [member]
            for each in members:
                found.extend(unknown_fields(each, inner, f"{path}{name}."))
    return list(dict.fromkeys(found))


def _struct_types(annotation: object) -> list[type[Struct]]:
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, Struct) else []
    return [
        kind
        for argument in getattr(annotation, "__args__", ())
        if not isinstance(argument, str)
        for kind in _struct_types(argument)
    ]
