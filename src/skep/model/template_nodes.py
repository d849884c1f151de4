"""A template as it is parsed (`model.template_parser`) and carried out (`model.template`)."""

from __future__ import annotations

from dataclasses import dataclass, field

from skep.runtime.errors import Invalid

CAUSE_MAX_CHARS = 500  # it may repeat what a user wrote, and is stored with each task that fails of it
NAME = "expansion"  # what swarmkit calls every template; its errors begin with it


def bad(line: int, cause: str) -> Invalid:
    """Returns the error for what is wrong in a template, with Go's beginning."""
    return Invalid(f"template: {NAME}:{line}: {cause[:CAUSE_MAX_CHARS]}")


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Literal:
    value: object


@dataclass(frozen=True)
class Dot:
    """The present value."""


@dataclass(frozen=True)
class Variable:
    name: str  # with its $; `$` alone is what the template was given


@dataclass(frozen=True)
class Function:
    name: str


@dataclass(frozen=True)
class Field:
    """`of.names[0].names[1]…`"""

    of: Operand
    names: tuple[str, ...]


@dataclass(frozen=True)
class Command:
    """An operand, or a function and its arguments."""

    operands: tuple[Operand, ...]


@dataclass(frozen=True)
class Pipeline:
    """Commands, each with the former's value as its last argument; `variables` take the last one's."""

    line: int
    commands: tuple[Command, ...]
    variables: tuple[str, ...] = ()
    is_new: bool = False  # `:=`, not `=`


@dataclass
class Branch:
    """if, with or range: what to do, and what otherwise."""

    kind: str
    pipeline: Pipeline
    body: list[Node] = field(default_factory=list)
    otherwise: list[Node] = field(default_factory=list)


@dataclass(frozen=True)
class Leave:
    """break or continue."""

    kind: str


Operand = Literal | Dot | Variable | Function | Field | Pipeline
Node = Text | Pipeline | Branch | Leave
