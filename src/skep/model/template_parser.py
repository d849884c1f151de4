"""Reads Go's template language, as far as `model.template` says. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Container

import msgspec

from skep.model.template_budget import Budget
from skep.model.template_functions import Wrong, is_character
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
from skep.model.template_split import TOKEN, split

DEPTH_MAX = 50  # actions and parentheses inside one another; people write three
INTEGER_MAX = 1 << 64  # what Go has a type for, with room for both signs
_WORDS = {"if", "range", "with", "else", "end", "break", "continue", "define", "template", "block"}
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))")


class Token(msgspec.Struct, frozen=True):
    """`kind` is one of the pattern's names, or `end` behind the last."""

    kind: str
    text: str
    spaced: bool  # there was space before it


def parse(text: str, functions: Container[str], budget: Budget) -> list[Node]:
    """Returns the template. Errors: `Invalid` with the line and what is wrong there."""
    return _Parser(text, functions, budget).template()


class _Parser:
    def __init__(self, text: str, functions: Container[str], budget: Budget) -> None:
        self._functions = functions
        self._budget = budget
        self._line = 1
        self._tokens: list[Token] = []
        self._at = 0
        self._depth = 0
        self._variables = [{"$"}]  # by block
        self._parts = split(text, budget)
        self._in_range = 0

    def template(self) -> list[Node]:
        nodes, word = self._nodes()
        if word:
            raise bad(self._line, f"unexpected {{{{{word}}}}}")
        return nodes

    def _nodes(self) -> tuple[list[Node], str]:
        """Returns the nodes up to `end`, `else` or the end of the text, and which of them it was."""
        nodes: list[Node] = []
        for line, part, is_action in self._parts:
            if not is_action:
                if part:
                    nodes.append(Text(part))
                continue
            self._line = line
            self._tokens, self._at = self._tokenized(part), 0
            word = self._next().text if self._peek().text in _WORDS else ""
            if word in ("end", "else"):
                if word == "end":
                    self._finish()
                return nodes, word
            nodes.append(self._action(word))
        return nodes, ""

    def _action(self, word: str) -> Node:
        if word in ("if", "with", "range"):
            return self._branch(word)
        if word in ("break", "continue"):
            self._finish()
            if not self._in_range:
                raise bad(self._line, f"{{{{{word}}}}} outside {{{{range}}}}")
            return Leave(word)
        if word:
            raise bad(self._line, f"{{{{{word}}}}} is not supported in a swarm's templates")
        pipeline = self._pipeline()
        self._finish()
        return pipeline

    def _branch(self, kind: str) -> Branch:
        self._enter()
        self._variables.append(set())
        line = self._line
        made = Branch(kind, self._pipeline(in_range=kind == "range"))
        self._finish()
        self._in_range += kind == "range"
        made.body, word = self._nodes()
        self._in_range -= kind == "range"
        if word == "else":
            if self._peek().text in ("if", "with"):
                made.otherwise = [self._branch(self._next().text)]  # its end is ours too
                word = "end"
            else:
                self._finish()
                made.otherwise, word = self._nodes()
        if word != "end":
            raise bad(line, f"{{{{{kind}}}}} has no {{{{end}}}}" if not word else "more than one {{else}}")
        self._variables.pop()
        self._depth -= 1
        return made

    def _pipeline(self, in_range: bool = False, end: str = "") -> Pipeline:
        variables, is_new = self._declaration(in_range)
        commands = [self._command()]
        while self._peek().text == "|":
            self._next()
            commands.append(self._command())
        for command in commands[1:]:
            if not isinstance(command.operands[0], Function | Field):
                raise bad(self._line, "a value cannot take what comes through |: only functions can")
        if variables and is_new:
            self._variables[-1].update(variables)
        if end and self._next().text != end:
            raise bad(self._line, f"{end} is missing")
        return Pipeline(self._line, tuple(commands), tuple(variables), is_new)

    def _declaration(self, in_range: bool) -> tuple[list[str], bool]:
        count = next((n for n in (1, 3) if self._peek(n).text in (":=", "=")), 0)
        if self._peek().kind != "variable" or not count:
            return [], False
        names = [self._next().text]
        if count == 3:
            if not in_range or self._next().text != "," or self._peek().kind != "variable":
                raise bad(self._line, "two variables can only be given to by range: $key, $value := …")
            names.append(self._next().text)
        is_new = self._next().text == ":="
        if not is_new:
            for name in names:
                self._check_variable(name)
        return names, is_new

    def _command(self) -> Command:
        operands: list[Operand] = []
        while not (self._peek().kind == "end" or self._peek().text in ("|", ")")):
            if operands and not self._peek().spaced:
                raise bad(self._line, f"unexpected {self._peek().text!r} in operand")
            operands.append(self._operand())
        if not operands:
            raise bad(self._line, "missing value for command")
        if len(operands) > 1 and not isinstance(operands[0], Function):
            raise bad(self._line, "only a function can have arguments")
        if isinstance(operands[0], Literal) and operands[0].value is None:
            raise bad(self._line, "nil is not a command")
        return Command(tuple(operands))

    def _operand(self) -> Operand:
        token = self._next()
        found: Operand
        if token.kind == "field":
            return self._fields(Dot(), [token.text[1:]])
        if token.text == "(":
            self._enter()
            found = self._pipeline(end=")")
            self._depth -= 1
        elif token.text == ".":
            return Dot()
        elif token.kind == "variable":
            self._check_variable(token.text)
            found = Variable(token.text)
        elif token.kind == "name" and token.text not in ("true", "false", "nil"):
            if token.text not in self._functions:
                raise bad(self._line, f'function "{token.text}" not defined')
            found = Function(token.text)
        elif token.kind in ("name", "string", "raw", "char", "number"):
            return Literal(self._literal(token))
        else:
            raise bad(self._line, f"unexpected {token.text or 'end of the action'!r}")
        return self._fields(found, [])

    def _fields(self, of: Operand, names: list[str]) -> Operand:
        while self._peek().kind == "field" and not self._peek().spaced:
            names.append(self._next().text[1:])
        return Field(of, tuple(names)) if names else of

    def _literal(self, token: Token) -> object:
        text = token.text
        if token.kind == "name":
            return {"true": True, "false": False, "nil": None}[text]
        if token.kind == "raw":
            return text[1:-1]
        if token.kind == "number":
            try:
                integer = int(text, 8 if re.fullmatch(r"[+-]?0\d+", text) else 0)
            except ValueError:
                pass
            else:
                if not -INTEGER_MAX < integer < INTEGER_MAX:
                    raise bad(self._line, f"integer overflow: {text[:40]}")
                return integer
            try:
                number = float(text.replace("_", ""))
            except ValueError:
                number = math.inf
            if math.isinf(number):
                raise bad(self._line, f"bad number syntax: {text[:40]}")
            return number
        unquoted = self._unquoted(text[1:-1])
        if token.kind == "string":
            return unquoted
        if len(unquoted) != 1:
            raise bad(self._line, f"malformed character constant: {text}")
        return ord(unquoted)

    def _unquoted(self, text: str) -> str:
        def one(found: re.Match[str]) -> str:
            digits = found[1] or found[2] or found[3]
            if digits or found[4]:
                code = int(digits, 16) if digits else int(found[4], 8)
                if not is_character(code):
                    raise bad(self._line, f"no character has the number of {found[0]}")
                return chr(code)
            if found[5] in _ESCAPES:
                return _ESCAPES[found[5]]
            if found[5] in "\\\"'":
                return found[5]
            raise bad(self._line, f"bad escape \\{found[5]} in a quoted string")

        return _ESCAPE.sub(one, text)

    def _tokenized(self, action: str) -> list[Token]:
        tokens, position, spaced = [], 0, False
        while position < len(action):
            found = TOKEN.match(action, position)
            if found is None:
                raise bad(self._line, f"unexpected {action[position]!r} in an action")
            try:
                self._budget.spend()
            except Wrong as error:
                raise bad(self._line, str(error)) from error
            position = found.end()
            kind = found.lastgroup or ""
            if kind != "space":
                tokens.append(Token(kind, found[0], spaced))
            spaced = kind == "space"
        return [*tokens, Token("end", "", True)]

    def _check_variable(self, name: str) -> None:
        if not any(name in block for block in self._variables):
            raise bad(self._line, f'undefined variable "{name}"')

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise bad(self._line, f"more than {DEPTH_MAX} actions or parentheses inside one another")

    def _peek(self, ahead: int = 0) -> Token:
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    def _next(self) -> Token:
        token = self._peek()
        self._at += 1
        return token

    def _finish(self) -> None:
        if self._peek().kind != "end":
            raise bad(self._line, f"unexpected {self._peek().text!r}")
