"""Docker's swarm and skep, side by side for a whole run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import pytest

from .compare import Difference, differences
from .running import Runner
from .scenario import Scenario
from .sides import DockerSide, Side, SkepSide

R = TypeVar("R")
NODES = {"shared": 1, "two": 2}  # of the swarm that a scenario is taken in


class Pair:
    """Both swarms; what is done, is done on both at the same time."""

    def __init__(self, directory: Path) -> None:
        self.docker = DockerSide(directory / "d")
        self.skep = SkepSide(directory / "s")
        self._threads = ThreadPoolExecutor(2)

    def both(self, do: Callable[[Side], R]) -> tuple[R, R]:
        """Returns what it gave on Docker's side and on skep's. Waits for both also where one fails."""
        docker, skep = (self._threads.submit(do, side) for side in (self.docker, self.skep))
        failure = docker.exception() or skep.exception()
        if failure is not None:
            raise failure
        return docker.result(), skep.result()

    def start(self) -> None:
        for side in (self.docker, self.skep):
            side.directory.mkdir()
        self.both(lambda side: side.start())

    def stop(self) -> None:
        self.both(lambda side: side.stop())
        self._threads.shutdown()

    @cached_property
    def engine(self) -> str:
        """The engine's version, as `20.10`."""
        version = str(self.docker.call("GET", "/version").json()["Version"])
        return ".".join(version.split(".")[:2])

    def differences(self, scenario: Scenario, directory: Path) -> list[Difference]:
        """Takes a scenario on both sides and returns where they differ; both are as before then."""
        for name, text in scenario.files.items():
            (directory / name).write_text(text)
        nodes = NODES.get(scenario.swarm, 0)
        if nodes or self.docker.nodes:
            self.both(lambda side: side.set_swarm(nodes))
        try:
            docker, skep = self.both(lambda side: Runner(side, directory).run(scenario))
        finally:
            if nodes:
                self.both(lambda side: side.empty())
            elif scenario.swarm == "own":
                self.both(lambda side: side.set_swarm(0))
        return differences(scenario.name, docker, skep)


@pytest.fixture(scope="session")
def pair(session_dir: Path) -> Iterator[Pair]:
    made = Pair(session_dir)
    try:
        made.start()
        yield made
    finally:
        made.stop()
