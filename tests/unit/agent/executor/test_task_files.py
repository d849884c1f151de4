"""A task's secrets and configs: who is given them, and what becomes of them on its node."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from skep.agent.executor import in_memory, task_files
from skep.agent.executor.interfaces import TaskContext
from skep.agent.executor.task_files import TaskFiles
from skep.manager.dispatcher.materials import GIVEN_MAX_BYTES, given, withdrawn
from skep.model.container import ConfigReference, ContainerSpec, FileTarget, RuntimeTarget, SecretReference
from skep.model.material import CONFIG, SECRET, ConfigSpec, Material, MaterialPayload
from skep.model.spec import Platform, TaskSpec
from skep.model.states import FAILED, RUNNING, SHUTDOWN
from skep.model.task import TaskStatus
from skep.rpc.messages import AssignedTask, ServiceTemplate
from skep.runtime.errors import Invalid, SkepError
from skep.store.view import View
from tests.unit.builders import add_node, add_service, add_task

USES = ContainerSpec(
    image="x",
    env=["WHO=me"],
    secrets=[SecretReference(secret_id="s", secret_name="s", file=FileTarget(name="sub/s", mode=0o440))],
    configs=[
        ConfigReference(config_id="c", config_name="c", file=FileTarget(name="c", mode=0o444)),
        ConfigReference(config_id="r", config_name="r", runtime=RuntimeTarget()),
    ],
)


def material(kind: str, material_id: str, data: bytes = b"data") -> Material:
    spec = ConfigSpec(name=material_id, data=data)
    return Material(kind=kind, id=material_id, spec=spec, created_at=1.0, updated_at=1.0)


def swarm(container: ContainerSpec = USES) -> View:
    view = View()
    add_node(view, "a")
    add_node(view, "b")
    service = add_service(view)
    spec = TaskSpec(container_spec=container)
    template = replace(service.templates[0], spec=spec)
    view.put_service(replace(service, spec=replace(service.spec, task_template=spec), templates=[template]))
    view.put_material(material(SECRET, "s"))
    view.put_material(material(CONFIG, "c"))
    view.put_material(material(SECRET, "other"))
    return view


def test_a_node_is_given_once_what_its_tasks_need() -> None:
    view, had = swarm(), set[str]()
    first = add_task(view, "t1", "a", 1, observed=None)
    (frame,) = given(view, [first], had)
    assert [each.id for each in frame.materials] == ["s", "c"]
    second = add_task(view, "t2", "a", 2, observed=None)
    assert given(view, [second], had) == []
    assert given(view, view.tasks_of_node("b"), set()) == []


def test_it_is_taken_back_with_the_last_task() -> None:
    view, had = swarm(), set[str]()
    tasks = [add_task(view, f"t{n}", "a", n, observed=RUNNING) for n in (1, 2)]
    given(view, tasks, had)
    view.put_task(replace(tasks[0], result=TaskStatus(FAILED, 2.0)))
    assert withdrawn(view, "a", had) is None
    view.drop_task(tasks[1])
    told = withdrawn(view, "a", had)
    assert told is not None
    assert told.withdrawn == ["c", "s"]
    assert had == set()
    assert withdrawn(view, "a", had) is None


def test_what_is_to_end_is_given_nothing() -> None:
    view = swarm()
    task = add_task(view, "t1", "a", 1, observed=None)
    ending = replace(task, desired_state=SHUTDOWN)
    view.put_task(ending)
    assert given(view, [ending], set()) == []


def test_a_removed_secret_is_not_given_and_frames_stay_small() -> None:
    many = [
        SecretReference(secret_id=f"m{n}", secret_name=f"m{n}", file=FileTarget(name=f"m{n}"))
        for n in range(20)
    ]
    view = swarm(ContainerSpec(image="x", secrets=many))
    for n in range(19):
        view.put_material(material(SECRET, f"m{n}", b"x" * 500_000))
    frames = given(view, [add_task(view, "t1", "a", 1, observed=None)], set())
    assert sum(len(frame.materials) for frame in frames) == 19
    assert all(sum(len(m.data) for m in frame.materials) <= GIVEN_MAX_BYTES for frame in frames)


def context(container: ContainerSpec = USES, **data: MaterialPayload) -> TaskContext:
    found = {"s": MaterialPayload("s", b"\xffsecret"), "c": MaterialPayload("c", b"config"), **data}
    template = ServiceTemplate("sv", 1, "web", {}, TaskSpec(container_spec=container))
    return TaskContext(AssignedTask("t1", "sv", 1, 1, RUNNING), template, "n1", "host", materials=found)


async def in_place(directory: Path) -> None:
    """Does without a tmpfs."""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskFiles:
    monkeypatch.setattr(in_memory, "ensure_memory", in_place)
    made = TaskFiles(tmp_path)
    made.start("n1")
    return made


async def test_files_and_mounts(files: TaskFiles, tmp_path: Path) -> None:
    mounts = await files.write(context(), Platform())
    assert [(m["Target"], m["ReadOnly"]) for m in mounts] == [("/run/secrets/sub/s", True), ("/c", True)]
    secret = Path(mounts[0]["Source"])
    assert secret.read_bytes() == b"\xffsecret"
    assert secret.stat().st_mode & 0o777 == 0o440
    assert secret.parent.stat().st_mode & 0o777 == 0o700
    await files.write(context(), Platform())  # again, after an answer that was lost
    files.keep_only({"t1"})
    assert secret.exists()
    files.drop("t1")
    files.drop("t1")
    assert list((tmp_path / "n1").iterdir()) == []


async def test_templates(files: TaskFiles) -> None:
    text = b"{{.Service.Name}} {{env `WHO`}} {{secret `sub/s`}}{{config `c`}} {{.Node.Hostname}} \xfe"
    mounts = await files.write(
        context(c=MaterialPayload("c", text, "golang"), s=MaterialPayload("s", b"\xff")), Platform()
    )
    assert Path(mounts[1]["Source"]).read_bytes() == b"web me \xff" + text + b" host \xfe"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"c": MaterialPayload("c", b"{{config `zz`}}", "golang")}, "config target zz not found"),
        ({"c": MaterialPayload("c", b"x", "bogus")}, "unrecognized template type bogus"),
    ],
)
async def test_what_cannot_be_made_leaves_nothing(
    files: TaskFiles, tmp_path: Path, wrong: dict[str, MaterialPayload], says: str
) -> None:
    with pytest.raises(Invalid, match=says):
        await files.write(context(**wrong), Platform())
    assert list(tmp_path.rglob("t1")) == []


async def test_templates_are_expanded_beside_the_loop(files: TaskFiles) -> None:
    """What a user wrote may take two seconds; the loop has its turn meanwhile, and all files share one bound."""
    text = b"{{range 999999999}}{{$a := 1}}{{end}}"
    made = context(s=MaterialPayload("s", text, "golang"), c=MaterialPayload("c", text, "golang"))
    began = time.thread_time()
    with pytest.raises(Invalid, match="more than 600000 steps, all of them together"):
        await files.write(made, Platform())
    assert time.thread_time() - began < 0.2


async def test_what_was_not_given_is_said(files: TaskFiles) -> None:
    with pytest.raises(Invalid, match="secret s not found"):
        await files.write(replace(context(), materials={}), Platform())


async def test_a_full_tmpfs_fails_the_task_only(
    files: TaskFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*of: object) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(task_files, "_write", full)
    with pytest.raises(SkepError, match="No space left on device"):
        await files.write(context(), Platform())
    assert list(tmp_path.rglob("t1")) == []


@pytest.mark.parametrize("method", ["exists", "is_dir", "iterdir"])
def test_a_directory_of_another_users_stops_no_task_from_ending(
    files: TaskFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Root may look everywhere: what others are told is made up here."""

    def refused(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "n1" / "t1").mkdir(parents=True)
    with monkeypatch.context() as patched:
        patched.setattr(Path, method, refused)
        files.drop("t2")
        files.keep_only({"t1"})
    assert [each.name for each in (tmp_path / "n1").iterdir()] == ["t1"]


async def test_a_task_is_told_that_its_files_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(directory: Path) -> None:
        raise PermissionError(13, "Permission denied", str(directory))

    monkeypatch.setattr(in_memory, "ensure_memory", refused)
    made = TaskFiles(tmp_path / "root")
    made.start("n1")
    with pytest.raises(SkepError, match=r"secrets and configs cannot be put below .*: .*Permission denied"):
        await made.write(context(), Platform())


def test_a_disk_is_not_taken_for_memory() -> None:
    assert in_memory.is_in_memory(Path("/dev/shm"))
    assert not in_memory.is_in_memory(Path("/proc"))


STRANGE = ["../victim", "/etc", "..", ".", "a/b", "a\0b", ""]


@pytest.mark.parametrize("name", STRANGE)
async def test_an_id_that_leads_elsewhere_is_none(tmp_path: Path, name: str) -> None:
    """A manager invents them, and root deletes what they name."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "victim").mkdir()
    (tmp_path / "tasks" / "n1" / "t1").mkdir(parents=True)
    made = TaskFiles(tmp_path / "tasks")
    made.start("n1")
    strange = context()
    strange = replace(strange, task=replace(strange.task, id=name))
    with pytest.raises(Invalid, match="no id of a node or a task"):
        await made.write(strange, Platform())
    made.drop(name)
    for path in (name, str(tmp_path / "victim")):
        assert await made.clear(path) == []
    assert (tmp_path / "victim").exists()
    assert (tmp_path / "tasks" / "n1" / "t1").exists()
    if name:
        with pytest.raises(Invalid, match="no id of a node or a task"):
            made.start(name)


async def test_what_cannot_be_removed_is_said_and_the_rest_goes(
    files: TaskFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a file that nobody may delete (chattr +i), which root is told with a PermissionError."""
    kept = tmp_path / "n1" / "t1" / "0"
    kept.parent.mkdir(parents=True)
    for path in (kept, tmp_path / "n1" / "t1" / "1"):
        path.write_text("secret")
    unlink = os.unlink

    def refuses(path: str, *, dir_fd: int | None = None) -> None:
        if path == "0":
            raise PermissionError(1, "Operation not permitted", path)
        unlink(path, dir_fd=dir_fd)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", refuses)
        (left,) = await files.clear("n1")
        assert "Operation not permitted" in left
        files.drop("t1")
    assert [each.name for each in kept.parent.iterdir()] == ["0"]
    assert await files.clear("n1") == []
    assert not (tmp_path / "n1").exists()
