"""What is in `src`, read as text: classes, what they are made of, and who writes what."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2] / "src/skep"
MAKES = ("__init__", "__new__", "__post_init__")
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Class(NamedTuple):
    """`file` is below `src/skep`."""

    file: str
    node: ast.ClassDef

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def methods(self) -> dict[str, Function]:
        return {each.name: each for each in self.node.body if isinstance(each, Function)}

    @property
    def bases(self) -> list[str]:
        """Names without what they are of, and without their types."""
        plain = (base.value if isinstance(base, ast.Subscript) else base for base in self.node.bases)
        return [base.attr if isinstance(base, ast.Attribute) else ast.unparse(base) for base in plain]

    @property
    def is_record(self) -> bool:
        """True where it has nothing to protect: values only, which whoever makes them fills in."""
        return "Struct" in self.bases or all(name.startswith("__") for name in self.methods)

    @property
    def is_frozen(self) -> bool:
        """True where nobody can write to it."""
        return any(each.arg == "frozen" for each in self.node.keywords)

    @property
    def arguments(self) -> int:
        """Returns how many a constructor takes that is written out."""
        makes = self.methods.get("__init__")
        if makes is None:
            return 0
        taken = makes.args
        return len([*taken.posonlyargs, *taken.args, *taken.kwonlyargs]) - 1

    def own_writes(self, method: Function) -> Iterator[str]:
        return (each.attr for each in writes(method) if _is_self(each.value))

    @property
    def made_with(self) -> set[str]:
        """Returns what a new object has: declared, or written by its constructor and what that one calls."""
        found = set(self._declared())
        todo, seen = [name for name in MAKES if name in self.methods], set[str]()
        while todo:
            name = todo.pop()
            seen.add(name)
            method = self.methods[name]
            found.update(self.own_writes(method))
            todo.extend((_calls_of_self(method) & self.methods.keys()) - seen)
        return found

    def _declared(self) -> Iterator[str]:
        for each in self.node.body:
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                yield each.target.id
            elif isinstance(each, ast.Assign):
                yield from (target.id for target in each.targets if isinstance(target, ast.Name))


class Write(NamedTuple):
    """`text` is what is written to: `self._watch.report`."""

    file: str
    line: int
    text: str
    attribute: str


def _folder(file: str) -> str:
    return file.rpartition("/")[0]


def writes(tree: ast.AST) -> Iterator[ast.Attribute]:
    for each in ast.walk(tree):
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store):
            yield each


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _calls_of_self(method: Function) -> set[str]:
    called = (each.func for each in ast.walk(method) if isinstance(each, ast.Call))
    return {each.attr for each in called if isinstance(each, ast.Attribute) and _is_self(each.value)}


@functools.cache
def _by_name() -> dict[str, list[Class]]:
    found: dict[str, list[Class]] = {}
    for each in classes():
        found.setdefault(each.name, []).append(each)
    return found


@functools.cache
def modules() -> dict[str, ast.Module]:
    return {str(file.relative_to(ROOT)): ast.parse(file.read_text()) for file in sorted(ROOT.rglob("*.py"))}


@functools.cache
def classes() -> tuple[Class, ...]:
    return tuple(
        Class(file, node)
        for file, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    )


@functools.cache
def made_with(found: Class) -> set[str]:
    """Returns what a new object has, by all classes that its bases can be."""
    has, todo, seen = set[str](), [found], set[Class]()
    while todo:
        each = todo.pop()
        seen.add(each)
        has |= each.made_with
        todo.extend(base for name in each.bases for base in _by_name().get(name, ()) if base not in seen)
    return has


def writes_into_others() -> Iterator[Write]:
    """Returns where something is written to an object of a class that another module has, as far as names say
    so: the attribute is one of a class of ours that is no record, of none in this module, and of no record in
    this folder."""
    owners: dict[str, set[Class]] = {}
    for each in classes():
        names = each.made_with.union(*(each.own_writes(method) for method in each.methods.values()))
        for name in names:
            owners.setdefault(name, set()).add(each)
    for file, tree in modules().items():
        for write in writes(tree):
            of = owners.get(write.attr, set())
            is_own = any(
                each.file == file or (each.is_record and _folder(each.file) == _folder(file))
                for each in of
                if not each.is_frozen
            )
            if (
                not _is_self(write.value)
                and not is_own
                and not all(each.is_record and not each.is_frozen for each in of)
            ):
                yield Write(file, write.lineno, ast.unparse(write), write.attr)
