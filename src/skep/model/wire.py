"""Base of everything that is written as Docker's JSON (PascalCase; what is unset is left out).

Values that Go writes although they are zero get a default factory that is not a plain type: msgspec's
`omit_defaults` leaves out a field only where its default is a constant or an empty collection.
"""

from __future__ import annotations

import functools
import struct
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from skep.runtime.errors import Invalid

from .go_base64 import decode_base64

INT_BITS = 63  # of what Docker's numbers hold, and what is computed with; no number in use is near it
FLOAT32_MAX = 3.4e38
FLOAT32_DIGITS = 9  # that tell any two of them apart
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


def always_false() -> bool:
    """Default of a flag that Docker writes also where it is not set."""
    return False


def as_go_float(value: float) -> float:
    """Returns what Go keeps of a `float32` and prints of it: 0, not 0.0; 0.1, not what is closest to it."""
    if not 0 < abs(value) < FLOAT32_MAX:
        return int(value) if value == 0 else value
    kept = struct.pack("f", value)
    for digits in range(1, FLOAT32_DIGITS):
        found = float(f"{value:.{digits}g}")
        if struct.pack("f", found) == kept:
            return int(found) if found.is_integer() else found
    return float(f"{struct.unpack('f', kept)[0]:.{FLOAT32_DIGITS}g}")


def always_empty_text() -> str:
    """Default of a string that Docker writes even when it is empty."""
    return ""


def always_empty_map() -> dict[str, str]:
    """Default of a map that Docker writes even when it is empty."""
    return {}


def canonical(value: object, kind: type[Struct], unknown: list[str], path: str = "") -> object:
    """Returns decoded JSON with `kind`'s own member names and without nulls, as Go's decoder reads it.

    Go matches names without regard to case and takes null for unset, or in a map of texts for an empty one.
    Names that `kind` does not have are left out and their paths added to `unknown`, so that the caller can
    say so, unless they are null: nothing was asked. Errors: `Invalid` for a number too large to be kept.
    """
    if not isinstance(value, dict):
        return value
    fields = _fields(kind)
    result: dict[str, object] = {}
    for name, member in value.items():
        found = fields.get(name.lower())
        if found is None:
            if member is not None:
                unknown.append(path + name)
        elif member is not None:
            result[found.name] = _canonical_member(member, found, unknown, f"{path}{name}.")
    return result


class _Field(Struct, frozen=True):
    """A member: its own name, its type, and the kinds of structs in it."""

    name: str
    annotation: object
    inner: list[type[Struct]]


@functools.cache  # a dozen kinds; msgspec reads the annotations anew each time, for 50 µs
def _fields(kind: type[Struct]) -> dict[str, _Field]:
    return {
        each.encode_name.lower(): _Field(each.encode_name, each.type, _struct_types(each.type))
        for each in msgspec.structs.fields(kind)
    }


def _canonical_member(member: object, found: _Field, unknown: list[str], path: str) -> object:
    inner, annotation = found.inner, found.annotation
    if isinstance(member, int) and member.bit_length() > INT_BITS:
        raise Invalid(f"invalid request body: the number at `$.{path.rstrip('.')}` is out of range")
    if not inner:
        if annotation is bytes and isinstance(member, str):
            return decode_base64(member)
        if isinstance(member, dict) and annotation == dict[str, str]:
            return {k: "" if v is None else v for k, v in member.items()}
        if isinstance(member, dict):
            return {k: v for k, v in member.items() if v is not None}
        return member
    if isinstance(member, list):
        return [canonical(each, inner[0], unknown, path) for each in member if each is not None]
    return canonical(member, inner[0], unknown, path)


def _struct_types(annotation: object) -> list[type[Struct]]:
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, Struct) else []
    return [
        kind
        for argument in getattr(annotation, "__args__", ())
        if not isinstance(argument, str)
        for kind in _struct_types(argument)
    ]
