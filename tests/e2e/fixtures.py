"""Swarms that tests start and end: one way for all files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import pytest


class Starts(Protocol):
    """A host, or several of one swarm."""

    def start(self) -> object: ...
    def stop(self) -> None: ...


Made = TypeVar("Made", bound=Starts)


@contextlib.contextmanager
def starting(made: Made) -> Iterator[Made]:
    """It runs meanwhile; it ends also where its start fails."""
    try:
        made.start()
        yield made
    finally:
        made.stop()


def swarm_fixture(make: Callable[..., Starts], *, own: bool = False, on_engine: bool = False) -> Any:
    """Returns a fixture: what `make` makes of a directory, started. All tests of a file share it, or each has
    its `own`; `on_engine`: `make` is told the address of the engine that tests share, too."""

    def fixture(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starts]:
        directory = request.getfixturevalue("short_dir") if own else tmp_path_factory.mktemp("s")
        engine = []
        if on_engine:
            engine.append(f"unix://{request.getfixturevalue('engine_socket')}")
            request.getfixturevalue("busybox_image")
        with starting(make(directory, *engine)) as made:
            yield made

    return pytest.fixture(scope="function" if own else "module")(fixture)
