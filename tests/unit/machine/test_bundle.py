"""What hosts are given of skep: archives of it and of its libraries."""

from __future__ import annotations

import errno
import gzip
import io
import os
import platform
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import skep
from skep.machine import bundle
from skep.machine.bundle import Bundle, LibrariesFor
from skep.machine.own_libraries import own_libraries
from skep.runtime.errors import Invalid, Unavailable

HOST = LibrariesFor("3.11", "x86_64")


def unpacked(found: Bundle, directory: Path) -> Path:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(found.content))) as archive:
        assert all((each.uid, each.gid, each.mode) == (0, 0, 0o644) for each in archive)
        archive.extractall(directory)
    return directory


def test_the_program_is_this_skep_and_runs_from_where_it_is_unpacked(tmp_path: Path) -> None:
    found = bundle.program()
    assert found == bundle._program.__wrapped__(), "the same files have the same name"
    assert found is bundle.program(), "and are packed once"
    tree = unpacked(found, tmp_path)
    assert not list(tree.rglob("*.pyc"))
    script = (
        f"import sys; sys.path += [{str(tree)!r}, {sysconfig.get_path('purelib')!r}]; import skep, skep.network.fast_path_kernel;"
        " from importlib.metadata import requires; print(skep.__file__, len(requires('skep')))"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", script], capture_output=True, text=True, check=True)
    path, count = done.stdout.split()
    assert path == str(tree / "skep/__init__.py")
    assert int(count) > 5
    assert (tree / "skep/machine/skepd.service").exists()
    assert (tree / "skep/network/fast_path.bpf.o").exists()


def a_wheel(directory: Path, name: str) -> None:
    with zipfile.ZipFile(directory / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", f"NAME = '{name}'\n")
        info = f"{name}-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel house that has all that is needed, which is one library."""
    directory = tmp_path / "wheels"
    directory.mkdir()
    a_wheel(directory, "honey")
    monkeypatch.setattr(bundle, "_requirements", lambda: ["honey==1.0"])
    return directory


def test_libraries_come_from_a_wheel_house_without_the_index(wheels: Path, tmp_path: Path) -> None:
    said: list[str] = []
    name = bundle.libraries_name(HOST, wheels)

    def made() -> Bundle:
        return bundle._kept(name, HOST, wheels, tmp_path / "cache", said.append)

    with ThreadPoolExecutor(3) as pool:
        found = [each.result() for each in [pool.submit(made) for _ in range(3)]]
    assert len(said) == 1, "three that want the same have one made"
    assert found[0] == found[1] == found[2]
    assert (unpacked(found[0], tmp_path / "tree") / "honey/__init__.py").read_text() == "NAME = 'honey'\n"
    assert not list((tmp_path / "cache").glob(".making-*"))


def test_a_wheel_for_as_new_a_glibc_as_debians_is_taken(wheels: Path, tmp_path: Path) -> None:
    """pip download takes it on a Debian 12, though there may be others for older ones."""
    pure = wheels / "honey-1.0-py3-none-any.whl"
    pure.rename(wheels / f"honey-1.0-cp311-abi3-manylinux_2_34_{HOST.architecture}.whl")
    found = bundle._kept("x", HOST, wheels, tmp_path / "cache", lambda line: None)
    assert (unpacked(found, tmp_path / "tree") / "honey/__init__.py").exists()


def test_what_pip_does_not_find_is_said_in_a_line(wheels: Path, tmp_path: Path) -> None:
    (wheels / "honey-1.0-py3-none-any.whl").rename(wheels / "honey-1.0-cp27-cp27m-win32.whl")
    with pytest.raises(Unavailable, match=r"pip cannot fetch skep's libraries: ERROR: .*honey==1") as error:
        bundle._kept("x", HOST, wheels, tmp_path / "cache", print)
    assert "\n" not in str(error.value)
    assert [each.name for each in (tmp_path / "cache").iterdir()] == ["lock"], "nothing is left"


def test_a_wheel_house_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no directory with wheels"):
        bundle.libraries_name(HOST, tmp_path / "none")


def test_other_libraries_have_another_name(wheels: Path) -> None:
    names = {bundle.libraries_name(HOST, None), bundle.libraries_name(HOST, wheels)}
    names.add(bundle.libraries_name(LibrariesFor("3.13", "x86_64"), None))
    a_wheel(wheels, "wax")
    names.add(bundle.libraries_name(HOST, wheels))
    assert len(names) == 4


def test_the_oldest_are_not_kept_for_ever(wheels: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for number in range(bundle.KEPT_MAX + 2):
        bundle._kept(f"n{number}", HOST, wheels, cache, lambda line: None)
    kept = {each.name for each in cache.glob("*.tar.gz")}
    assert kept == {f"n{number}.tar.gz" for number in range(2, bundle.KEPT_MAX + 2)}


@pytest.mark.parametrize("failing", ["read_bytes", "replace"])
async def test_a_disk_that_fails_here_is_a_reason_of_one_machine(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """What is no error of ours ends the whole command, and what came of the other machines is not said."""

    def fail(self: Path, *arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, failing, fail)
    with pytest.raises(Unavailable, match="No space left"):
        await bundle.libraries(HOST, wheels, tmp_path / "cache", print)
    monkeypatch.undo()


async def test_what_is_kept_is_on_the_disk_before_it_has_its_name(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a loss of power hosts would be sent an archive of no bytes, again and again."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    replaced = Path.replace

    def replace(self: Path, target: Path) -> Path:
        assert synced == [self.stat().st_size]
        return replaced(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    await bundle.libraries(HOST, wheels, tmp_path / "cache", print)
    assert synced


def test_this_skep_is_the_one_that_is_sent() -> None:
    assert bundle.program().name.startswith(f"skep-{skep.__version__}-")


async def test_a_host_of_the_same_kind_has_what_is_tried_here(tmp_path: Path) -> None:
    """All of it: skepd and its command line come up with nothing else."""
    host = LibrariesFor("{}.{}".format(*sys.version_info[:2]), platform.machine())
    said: list[str] = []
    found = await bundle.libraries(host, None, tmp_path / "cache", said.append)
    assert said == ["Packing skep's libraries..."]
    assert found.name == bundle.libraries_name(host, None)
    trees = [unpacked(found, tmp_path / "libraries"), unpacked(bundle.program(), tmp_path / "program")]
    script = (
        f"import sys; sys.path += {list(map(str, trees))!r}; import skep.cli.main, skep.cli.machine.create,"
        " uvloop, numpy; from skep.daemon.serving import load; from skep.runtime.settings import Settings;"
        " load(Settings())"
    )
    subprocess.run([sys.executable, "-IS", "-c", script], check=True)


def test_what_a_compiler_made_here_is_not_given_to_others() -> None:
    python = "{}.{}".format(*sys.version_info[:2])
    needs = bundle._requirements()
    assert own_libraries(python, platform.machine(), needs) is not None
    assert own_libraries("3.99", platform.machine(), needs) is None
    assert own_libraries(python, "other", needs) is None
    assert own_libraries(python, platform.machine(), ["is-not-installed"]) is None
    assert own_libraries(python, platform.machine(), ["is-not-installed; python_version < '3'"]) is not None


@pytest.mark.parametrize(
    ("tag", "is_portable"), [("py3-none-any", True), ("cp311-cp311-linux_x86_64", False)]
)
def test_only_wheels_for_any_linux_are_portable(
    tag: str, is_portable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "honey-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: honey\nVersion: 1.0\n")
    (info / "WHEEL").write_text(f"Wheel-Version: 1.0\nTag: {tag}\n")
    (info / "RECORD").write_text("honey.py,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    python = "{}.{}".format(*sys.version_info[:2])
    assert (own_libraries(python, platform.machine(), ["honey"]) is not None) is is_portable
