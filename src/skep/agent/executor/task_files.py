"""Secrets and configs as files of a task: in memory (tmpfs), never on a disk, mounted one by one.

A task's files are made before its container and taken away when it has ended. They outlive skepd, as the
container does, and no reboot. Who looks from outside needs to be root: `DIRECTORY/NODE/TASK/NUMBER`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import posixpath
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import structlog

from skep.agent.executor.in_memory import leave_memory, memory
from skep.agent.executor.interfaces import TaskContext
from skep.agent.executor.templates import Wrong, expand, task_values
from skep.model.container import ContainerSpec, FileTarget
from skep.model.material import CONFIG, SECRET, MaterialPayload
from skep.model.spec import Platform
from skep.model.template_budget import files_budget, task_budget
from skep.model.template_use import expanded
from skep.runtime.errors import Invalid, SkepError

DIRECTORY = Path("/run/skep-tasks")

Json = dict[str, Any]

log = structlog.get_logger()


class TaskFiles:
    """The files of one node's tasks, below `directory`, which is made a tmpfs where it is none."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self._directory = directory
        self._node = directory / "none"
        self._has_complained = False
        self._expanding = asyncio.Lock()

    def start(self, node_id: str) -> None:
        """Errors: `Invalid` for what can be no node's id."""
        self._node = _below(self._directory, node_id or "none")

    async def write(self, context: TaskContext, platform: Platform) -> list[Json]:
        """Makes the files of a task and returns their mounts. Errors: `Invalid`, `SkepError` where there is
        no room; nothing is left then."""
        container = context.template.spec.container_spec
        wanted = _wanted(container)
        if not wanted:
            return []
        contents = await self._contents(context, platform, wanted)
        task = _below(self._node, context.task.id)
        try:
            async with memory(self._directory):
                shutil.rmtree(task, ignore_errors=True)  # of an earlier try
                task.mkdir(mode=0o700, parents=True)
                return [
                    _mount(_write(task / str(n), content, each), each)
                    for n, (each, content) in enumerate(zip(wanted, contents, strict=True))
                ]
        except Invalid:
            shutil.rmtree(task, ignore_errors=True)
            raise
        except OSError as error:
            shutil.rmtree(task, ignore_errors=True)
            raise SkepError(f"the task's secrets and configs cannot be put below {task}: {error}") from error

    async def _contents(self, context: TaskContext, platform: Platform, wanted: list[_Wanted]) -> list[bytes]:
        """Returns what is in the files. Templates are expanded beside the loop, but not instead of it: one
        task's after the other's."""
        given = [_given(context, each) for each in wanted]
        if not any(each.template for each in given):
            return [each.data for each in given]

        def expansions() -> list[bytes]:
            expansion = _Expansion(context, platform, wanted)
            return [expansion.of(each, found) for each, found in zip(wanted, given, strict=True)]

        async with self._expanding:
            return await asyncio.to_thread(expansions)

    def drop(self, task_id: str) -> None:
        """Takes a task's files away; nothing happens where it has none."""
        with self._tolerated():
            task = _below(self._node, task_id)
            if task.exists():
                _remove(task)

    def keep_only(self, task_ids: set[str]) -> None:
        """Takes away what others left."""
        with self._tolerated():
            if self._node.is_dir():
                for task in self._node.iterdir():
                    if task.name not in task_ids:
                        with self._tolerated():  # the others' turn comes
                            _remove(task)

    async def clear(self, node_id: str) -> list[str]:
        """Takes away all that a node has here, and the place itself after the last one. Returns what is still
        there, for people."""
        try:
            node = _below(self._directory, node_id)
        except Invalid as error:  # nothing was ever written for it: `write` refuses it, too
            log.warning("task_files.no_node", error=str(error))
            return []
        try:
            is_there = node.exists()
        except PermissionError:
            return []  # who may not look there has put nothing there
        try:
            if is_there:
                _remove(node)
            await leave_memory(self._directory)
        except OSError as error:
            log.warning("task_files.stay", directory=str(node), error=str(error))
            return [f"secrets and configs below {node}: {error}"]
        return []

    @contextlib.contextmanager
    def _tolerated(self) -> Iterator[None]:
        """What cannot be looked at cannot be taken away: that is no reason to keep the end of a task from
        being told, nor a node from coming up. A skepd that is not root may not look where root's wrote."""
        try:
            yield
        except (OSError, Invalid) as error:
            if not self._has_complained:  # once: every task that ends would be the next
                log.warning("task_files.not_dropped", directory=str(self._node), error=str(error))
            self._has_complained = True


def _below(directory: Path, name: str) -> Path:
    """Returns where something of that name is. Managers invent names; what is here is written and deleted
    as root. Errors: `Invalid` for one that leads elsewhere."""
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise Invalid(f"{name[:100]!r} is no id of a node or a task")
    return directory / name


def _remove(directory: Path) -> None:
    """Takes away all that can be. Errors: `OSError`, of what stays."""
    shutil.rmtree(directory, ignore_errors=True)  # all of it but that
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)


class _Wanted:
    """One file: of which material, and where."""

    def __init__(self, kind: str, material_id: str, name: str, file: FileTarget) -> None:
        self.kind, self.material_id, self.name, self.file = kind, material_id, name, file

    @property
    def target(self) -> str:
        base = "/run/secrets/" if self.kind == SECRET else "/"
        return posixpath.normpath(posixpath.join(base, self.file.name))


def _wanted(container: ContainerSpec | None) -> list[_Wanted]:
    if container is None:
        return []
    secrets = [(SECRET, s.secret_id, s.secret_name, s.file) for s in container.secrets]
    configs = [(CONFIG, c.config_id, c.config_name, c.file) for c in container.configs]
    return [_Wanted(kind, i, name, file) for kind, i, name, file in secrets + configs if file is not None]


def _given(context: TaskContext, wanted: _Wanted) -> MaterialPayload:
    found = context.materials.get(wanted.material_id)
    if found is None:
        raise Invalid(f"{wanted.kind} {wanted.name} not found: it was removed, or the task does not need it")
    return found


class _Expansion:
    """Of one task's files. Errors: `Invalid`."""

    def __init__(self, context: TaskContext, platform: Platform, wanted: list[_Wanted]) -> None:
        container = context.template.spec.container_spec or ContainerSpec()
        self._values = task_values(context, platform)
        self._budget = files_budget()
        env = expanded(container, self._values, task_budget()).env
        environment = dict(each.partition("=")[::2] for each in env)
        texts = {(each.kind, each.file.name): each for each in reversed(wanted)}  # the first counts

        def other(kind: str) -> Callable[[str], str]:
            def of_target(target: str) -> str:
                found = texts.get((kind, target))
                if found is None:
                    raise Wrong(f"{kind} target {target} not found")
                return _text(_given(context, found).data)

            return of_target

        self._functions = {
            "env": lambda name: environment.get(name, ""),
            "secret": other(SECRET),
            "config": other(CONFIG),
        }

    def of(self, wanted: _Wanted, given: MaterialPayload) -> bytes:
        if not given.template:
            return given.data
        failed = f"expanding {wanted.kind} {wanted.name} failed"
        if given.template != "golang":
            raise Invalid(f"{failed}: unrecognized template type {given.template}")
        try:
            text = expand(_text(given.data), self._values, self._functions, self._budget)
        except Invalid as error:
            raise Invalid(f"{failed}: {error}") from error
        return text.encode(errors="surrogateescape")


def _text(data: bytes) -> str:
    """Whatever is not text comes out again as it was."""
    return data.decode(errors="surrogateescape")


def _write(path: Path, content: bytes, wanted: _Wanted) -> Path:
    owner = [_number(wanted, each) for each in (wanted.file.uid, wanted.file.gid)]
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fchown(handle, *owner)
        os.fchmod(handle, wanted.file.mode & 0o777)
    return path


def _number(wanted: _Wanted, text: str) -> int:
    if not text:
        return 0
    if text.isascii() and text.isdigit() and int(text[:11]) < 1 << 32:
        return int(text[:11])
    raise Invalid(f"{wanted.kind} {wanted.name}: a uid or gid is a number, not {text[:100]!r}")


def _mount(path: Path, wanted: _Wanted) -> Json:
    return {
        "Type": "bind",
        "Source": str(path),
        "Target": wanted.target,
        "ReadOnly": True,
        "BindOptions": {"Propagation": "rprivate"},
    }
