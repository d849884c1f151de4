"""How objects meet: made whole, by few arguments, and changed by themselves alone."""

from __future__ import annotations

import ast

from tests.unit import source

ARGUMENTS_MAX = 6


def test_constructors_take_few_arguments() -> None:
    too_many = {
        f"{each.file}: {each.name}": each.arguments
        for each in source.classes()
        if each.arguments > ARGUMENTS_MAX
    }
    assert not too_many, "it does too much, or is given one by one what belongs together"


def test_objects_are_made_whole() -> None:
    """What an object has it has from its constructor on: nobody must know in which order to call the rest."""
    late = [
        f"{each.file}: {each.name}.{name} sets self.{attribute} first"
        for each in source.classes()
        for name, method in each.methods.items()
        if name not in source.MAKES
        for attribute in set(each.own_writes(method)) - source.made_with(each)
    ]
    assert not late


def test_nobody_writes_into_another_class() -> None:
    found = [
        f"{write.file}:{write.line} writes {write.text}: give its class a method that says why"
        for write in source.writes_into_others()
    ]
    assert not found


def a_class(text: str) -> source.Class:
    tree = ast.parse(text)
    (node,) = (each for each in tree.body if isinstance(each, ast.ClassDef))
    return source.Class("a.py", node)


def test_the_reader_sees_what_is_late() -> None:
    made = a_class(
        """
class A:
    kept: int
    def __init__(self, one, *, two):
        self.one, self._two = one, two
        self._begin()
    def _begin(self):
        self.begun = True
    def later(self):
        self.late = self.one
"""
    )
    assert made.arguments == 2
    assert made.made_with == {"kept", "one", "_two", "begun"}
    assert set(made.own_writes(made.methods["later"])) == {"late"}
    assert not made.is_record
    assert a_class("class B(Struct, frozen=True):\n    x: int\n    def f(self): ...").is_record
