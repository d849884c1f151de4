"""Go's template language, as far as a swarm's users need it: hostnames, environments, mounts, secrets. Pure.

    text {{ action }} text          {{- and -}} take away the space outside; {{/* comments */}}
    {{ PIPELINE }}                  writes its value
    {{ $x := PIPELINE }}            and {{ $x = PIPELINE }}
    {{ if P }} … {{ else if P }} … {{ else }} … {{ end }}
    {{ with P }} … {{ else }} … {{ end }}
    {{ range [$k, $v :=] P }} … {{ break }} {{ continue }} … {{ else }} … {{ end }}
    PIPELINE = COMMAND | COMMAND …  the value before | becomes the last argument behind it
    COMMAND  = operand, or function operand …
    operand  = . .Field.Field $ $x $x.Field (PIPELINE) (PIPELINE).Field "text" `text` 'c' 12 1.5 true nil
    function = and or not len index slice print printf println html js urlquery eq ne lt le gt ge join

A map without the key that is asked for by .Name is an error, as in swarmkit; `index` gives an empty text.
Left out of Go's: define, template, block (a template is one text here), call (no value is a function), and
printf's argument numbers and widths (`%[2]d`, `%*d`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sized
from inspect import Signature, signature

from skep.model.spec import Platform
from skep.model.template_budget import Budget
from skep.model.template_functions import (
    FUNCTIONS,
    TEXT_MAX_CHARS,
    Fields,
    Wrong,
    is_true,
    printed,
)
from skep.model.template_nodes import (
    Branch,
    Command,
    Dot,
    Field,
    Function,
    Leave,
    Literal,
    Node,
    Operand,
    Pipeline,
    Text,
    Variable,
    bad,
)
from skep.model.template_parser import parse
from skep.runtime.errors import Invalid

ACTION_UNITS = 2  # of a budget, for each node that is carried out
CALL_UNITS = 4
VARIABLES_A_UNIT = 20  # looked through for the one that is meant
_LAZY = ("and", "or")

Functions = Mapping[str, Callable[..., object]]

__all__ = ["Budget", "Fields", "Functions", "Invalid", "Wrong", "check", "expand", "template_values"]


def expand(
    text: str, values: Fields, functions: Functions | None = None, budget: Budget | None = None
) -> str:
    """Returns the text with its actions carried out. `functions` are known besides Go's own; they take
    texts, and may raise `Wrong`. `budget` is shared with the other texts of the same spec.

    Errors: `Invalid`, which begins as Go's (`template: expansion:LINE: `), for what cannot be read, and for
    what cannot be done, or takes too much.
    """
    if "{{" not in text:
        return text
    known = {**FUNCTIONS, **(functions or {})}
    budget = budget or Budget()
    nodes = parse(text, {*known, *_LAZY}, budget)
    return _Run(values, known, budget).whole(nodes)


def check(text: str, functions: Functions | None = None) -> None:
    """Reads a template and does nothing. Errors: `Invalid`."""
    parse(text, {*FUNCTIONS, *_LAZY, *(functions or {})}, Budget())


class _Left(Exception):
    """break or continue, on its way to its range."""


class _Run:
    def __init__(self, values: Fields, functions: Functions, budget: Budget) -> None:
        self._functions = functions
        self._budget = budget
        self._signatures: dict[str, Signature] = {}
        self._variables: list[tuple[str, object]] = [("$", values)]
        self._out: list[str] = []
        self._size = 0
        self._line = 1

    def whole(self, nodes: list[Node]) -> str:
        try:
            self._nodes(nodes, self._variables[0][1])
        except Wrong as error:
            raise bad(self._line, str(error)) from error
        return "".join(self._out)

    def _nodes(self, nodes: list[Node], dot: object) -> None:
        for node in nodes:
            self._budget.spend(ACTION_UNITS)
            if isinstance(node, Text):
                self._write(node.text)
            elif isinstance(node, Leave):
                raise _Left(node.kind)
            elif isinstance(node, Branch):
                depth = len(self._variables)
                self._branch(node, dot)
                del self._variables[depth:]
            else:
                value = self._pipeline(node, dot)
                if not node.variables:
                    self._write(self._printed(value))

    def _branch(self, node: Branch, dot: object) -> None:
        if node.kind == "range":
            self._range(node, dot)
            return
        value = self._pipeline(node.pipeline, dot)
        inner = value if node.kind == "with" else dot
        if is_true(value):
            self._nodes(node.body, inner)
        else:
            self._nodes(node.otherwise, dot)

    def _range(self, node: Branch, dot: object) -> None:
        ranged = self._pipeline(node.pipeline, dot, is_range=True)
        if isinstance(ranged, Sized):
            self._budget.spend(len(ranged))  # they are sorted
        items = _items(ranged)
        is_empty = True
        depth = len(self._variables)
        for key, value in items:
            is_empty = False
            self._budget.spend(ACTION_UNITS)
            given = (key, value) if len(node.pipeline.variables) == 2 else (value,)
            for name, each in zip(node.pipeline.variables, given, strict=False):
                self._set(name, each, node.pipeline.is_new)
            try:
                self._nodes(node.body, value)
            except _Left as left:
                if str(left) == "break":
                    break
            finally:
                del self._variables[depth:]
        if is_empty:
            self._nodes(node.otherwise, dot)

    def _pipeline(self, pipeline: Pipeline, dot: object, is_range: bool = False) -> object:
        self._line = pipeline.line
        value = self._command(pipeline.commands[0], dot, ())
        for command in pipeline.commands[1:]:
            value = self._command(command, dot, (value,))
        if not is_range:
            for name in pipeline.variables:
                self._set(name, value, pipeline.is_new)
        return value

    def _command(self, command: Command, dot: object, last: tuple[object, ...]) -> object:
        first, *others = command.operands
        if not isinstance(first, Function):
            if last:
                raise Wrong("a value cannot take what comes through |: only functions can")
            return self._operand(first, dot)
        if first.name in _LAZY:
            return self._lazy(first.name, others, dot, last)
        arguments = [*(self._operand(each, dot) for each in others), *last]
        return self._call(first.name, arguments)

    def _lazy(self, name: str, others: list[Operand], dot: object, last: tuple[object, ...]) -> object:
        if not others and not last:
            raise Wrong(f"wrong number of args for {name}: want at least 1 got 0")
        value: object = None
        for each in others:
            value = self._operand(each, dot)
            if is_true(value) == (name == "or"):
                return value
        return last[0] if last else value

    def _call(self, name: str, arguments: list[object]) -> object:
        function = self._functions[name]
        self._budget.spend(CALL_UNITS)
        for each in arguments:
            if isinstance(each, str):
                self._budget.spend_on(each)
            elif isinstance(each, Mapping):
                self._budget.spend(len(each))
        if name not in self._signatures:
            self._signatures[name] = signature(function)
        try:
            self._signatures[name].bind(*arguments)
        except TypeError:
            raise Wrong(f"wrong number of args for {name}: got {len(arguments)}") from None
        try:
            found = function(*arguments)
        except Wrong as error:
            raise Wrong(f"error calling {name}: {error}") from error
        if isinstance(found, str):
            self._budget.spend_on(found)
        return found

    def _printed(self, value: object) -> str:
        if isinstance(value, Mapping):
            self._budget.spend(len(value))
        text = printed(value)
        if not isinstance(value, str):
            self._budget.spend_on(text)
        return text

    def _operand(self, operand: Operand, dot: object) -> object:
        self._budget.spend()
        if isinstance(operand, Literal):
            return operand.value
        if isinstance(operand, Dot):
            return dot
        if isinstance(operand, Variable):
            return self._variable(operand.name)
        if isinstance(operand, Pipeline):
            return self._pipeline(operand, dot)
        if isinstance(operand, Function):
            if operand.name in _LAZY:
                return self._lazy(operand.name, [], dot, ())
            return self._call(operand.name, [])
        return self._field(operand, dot)

    def _field(self, operand: Field, dot: object) -> object:
        value = self._operand(operand.of, dot)
        for name in operand.names:
            if isinstance(value, Mapping) and name in value:
                value = value[name]
            elif isinstance(value, Fields):
                raise Wrong(f"can't evaluate field {name}: there are {', '.join(value)}")
            elif isinstance(value, Mapping):
                raise Wrong(f'map has no entry for key "{name}"')
            else:
                raise Wrong(f"can't evaluate field {name} in a value that has none")
        return value

    def _variable(self, wanted: str) -> object:
        self._budget.spend(len(self._variables) // VARIABLES_A_UNIT)
        return next(value for name, value in reversed(self._variables) if name == wanted)

    def _set(self, name: str, value: object, is_new: bool) -> None:
        if is_new:
            self._variables.append((name, value))
            return
        self._budget.spend(len(self._variables) // VARIABLES_A_UNIT)
        for position in range(len(self._variables) - 1, -1, -1):
            if self._variables[position][0] == name:
                self._variables[position] = (name, value)
                return

    def _write(self, text: str) -> None:
        self._size += len(text)
        if self._size > TEXT_MAX_CHARS:
            raise Wrong(f"the result has more than {TEXT_MAX_CHARS} characters")
        self._budget.write(text)
        self._out.append(text)


def _items(value: object) -> Iterable[tuple[object, object]]:
    """Returns what range goes through, with keys: a map's in order, a list's, numbers up to one."""
    if isinstance(value, Mapping) and not isinstance(value, Fields):
        return [(key, value[key]) for key in sorted(value)]
    if isinstance(value, list | tuple):
        return enumerate(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return ((n, n) for n in range(value))
    if value is None:
        return []
    raise Wrong(f"range can't iterate over {printed(value)}")


def template_values(
    service: tuple[str, str, dict[str, str]], node: tuple[str, str, Platform], task: tuple[str, str, str]
) -> Fields:
    """Returns what a swarm's templates are about: service (id, name, labels), node (id, hostname,
    platform), task (id, name, slot)."""
    platform = Fields(Architecture=node[2].architecture, OS=node[2].os)
    return Fields(
        Service=Fields(ID=service[0], Name=service[1], Labels=service[2]),
        Node=Fields(ID=node[0], Hostname=node[1], Platform=platform),
        Task=Fields(ID=task[0], Name=task[1], Slot=task[2]),
    )
