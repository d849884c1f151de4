"""What a scenario is: a name, steps a user takes, and where it is to be taken.

In command lines, paths and bodies, `$IMAGE` is the tests' image, `$DIR` a directory with the scenario's files,
`$NODE` the node's id, `$NODE2` the second one's, `$WORKER` and `$MANAGER` tokens, `$FIRST` and `$SECOND` where
the machines listen, `$ID{/services/web}` and `$VERSION{/services/web}` those of an object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import docker

SwarmState = Literal["none", "own", "shared", "two"]


@dataclass(frozen=True)
class Run:
    """The docker client; what it prints and its exit code are compared."""

    line: str
    stdin: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    at: int = 1
    """On which machine."""

    @property
    def label(self) -> str:
        return f"docker {self.line}" + _at(self.at)


@dataclass(frozen=True)
class Call:
    """A request; status, type and body are compared: all of the body, or the members named in `only`."""

    method: str
    path: str
    body: Any = None
    only: tuple[str, ...] = ()
    headers: tuple[str, ...] = ("Content-Type",)
    api: str = "v1.41"
    at: int = 1

    @property
    def label(self) -> str:
        return f"{self.method} {self.path}" + _at(self.at)


@dataclass(frozen=True)
class Update:
    """Changes an object's spec by the API: reads it, merges `changes` (None removes a member), posts it."""

    path: str
    changes: Mapping[str, Any]
    query: str = ""

    @property
    def label(self) -> str:
        return f"POST {self.path}/update {self.query}".rstrip()


@dataclass(frozen=True)
class Py:
    """docker-py; what `do` returns, or the class, status and text of what it raises, is compared."""

    label: str
    do: Callable[[docker.DockerClient], Any]


@dataclass(frozen=True)
class Settle:
    """Waits until a service's tasks are so many in these states; nothing is compared."""

    service: str
    states: Mapping[str, int]

    @property
    def label(self) -> str:
        return f"wait for {self.service}: {dict(self.states)}"


@dataclass(frozen=True)
class Until:
    """Waits until a member of an object has a value; nothing is compared."""

    path: str
    member: str
    value: Any
    at: int = 1

    @property
    def label(self) -> str:
        return f"wait for {self.path}: {self.member} is {self.value!r}" + _at(self.at)


@dataclass(frozen=True)
class Power:
    """A machine's daemons die at once, or are started again; nothing is compared."""

    machine: int
    is_on: bool

    @property
    def label(self) -> str:
        return f"machine {self.machine} {'starts' if self.is_on else 'dies'}"


@dataclass(frozen=True)
class Events:
    """What was said of objects of one kind since the scenario began: type, action, attributes, scope."""

    kind: str

    @property
    def label(self) -> str:
        return f"docker events --filter type={self.kind}"


Step = Run | Call | Update | Py | Settle | Until | Power | Events


@dataclass(frozen=True)
class Scenario:
    name: str
    steps: tuple[Step, ...]
    swarm: SwarmState = "shared"
    """`none`: in no swarm; `own`: the steps make and leave one; `shared`: a swarm of one node, emptied after;
    `two`: a swarm of two, the second of which is a worker."""
    files: Mapping[str, str] = field(default_factory=dict)
    slow: bool = False
    """Only in the whole run: it takes long, or depends on when parts of Docker run."""


def scenario(name: str, *steps: Step | str, **options: Any) -> Scenario:
    """A step that is just text is a command line of the docker client."""
    return Scenario(name, tuple(Run(step) if isinstance(step, str) else step for step in steps), **options)


def at(machine: int, *lines: str) -> tuple[Run, ...]:
    """Command lines on another machine than the first."""
    return tuple(Run(line, at=machine) for line in lines)


def _at(machine: int) -> str:
    return f" (on machine {machine})" if machine > 1 else ""


def get(path: str, *only: str) -> Call:
    return Call("GET", path, only=only)


def post(path: str, body: Any = None) -> Call:
    return Call("POST", path, body)


def delete(path: str) -> Call:
    return Call("DELETE", path)


def settle(service: str, **states: int) -> Settle:
    return Settle(service, states)
