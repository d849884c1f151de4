"""What is done on hosts so that skepd runs there, by the scripts that do it."""

from __future__ import annotations

import io
import os
import pwd
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from skep.machine.carrying import install_script
from skep.machine.plan import InstallPackages
from skep.machine.skepd_install import CONTEXT, after_start_script, unpack_script


def an_archive(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def run(
    script: str, data: bytes = b"", path: Path | None = None, home: str | None = None
) -> subprocess.CompletedProcess[bytes]:
    where = f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]
    environment = {"PATH": where} if home is None else {"PATH": where, "HOME": home}
    return subprocess.run(["sh", "-c", script], input=data, capture_output=True, env=environment, timeout=60)


def a_program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_an_archive_is_on_the_disk_before_it_has_its_name(tmp_path: Path) -> None:
    """Of a host that loses its power then, files without content would be taken for what was sent."""
    programs = tmp_path / "bin"
    programs.mkdir()
    a_program(programs / "sync", f"ls -A {tmp_path}/place/libraries >>{tmp_path}/at-sync")
    script = unpack_script("libraries", "py3.11-x", place=str(tmp_path / "place"))
    assert run(script, an_archive(a=b"1"), programs).returncode == 0
    assert (tmp_path / "at-sync").read_text().startswith(".new.")
    assert [each.name for each in (tmp_path / "place/libraries").iterdir()] == ["py3.11-x"]
    assert (tmp_path / "place/libraries/py3.11-x/a").read_bytes() == b"1"


def test_what_a_lost_run_has_left_goes_and_what_another_unpacks_stays(tmp_path: Path) -> None:
    libraries = tmp_path / "libraries"
    for name, hours in ((".new.lost", 48), (".new.other", 0)):
        (libraries / name).mkdir(parents=True)
        when = time.time() - hours * 3600
        os.utime(libraries / name, (when, when))
    assert run(unpack_script("libraries", "n", place=str(tmp_path)), an_archive(a=b"1")).returncode == 0
    assert sorted(each.name for each in libraries.iterdir()) == [".new.other", "n"]
    assert run(unpack_script("libraries", "m", place=str(tmp_path)), an_archive(a=b"1")[:-9]).returncode != 0
    assert sorted(each.name for each in libraries.iterdir()) == [".new.other", "n"]


def test_what_skepd_is_started_by_is_not_removed(tmp_path: Path) -> None:
    """Somebody else may have brought another skep meanwhile, also an older one."""
    for kind in ("libraries", "programs"):
        for hours, name in enumerate(("newest", "before", "older", "oldest")):
            (tmp_path / kind / name).mkdir(parents=True)
            when = time.time() - hours * 3600
            os.utime(tmp_path / kind / name, (when, when))
    (tmp_path / "bin").mkdir()
    for each in ("skep", "skepd"):
        (tmp_path / "bin" / each).write_text(f"sys.path[:0] = ['{tmp_path}/programs/oldest', '/x']\n")
    script = after_start_script("newest", "newest", place=str(tmp_path), links=str(tmp_path / "links"))
    (tmp_path / "links").mkdir()
    assert run(script).returncode == 0
    assert sorted(each.name for each in (tmp_path / "programs").iterdir()) == ["before", "newest", "oldest"]
    assert sorted(each.name for each in (tmp_path / "libraries").iterdir()) == ["before", "newest"]
    assert (tmp_path / "links/skepd").readlink() == tmp_path / "bin/skepd"


def test_a_context_is_made_in_the_home_of_who_makes_it(tmp_path: Path) -> None:
    """Where sudo leaves HOME as it is, root's files in the user's ~/.docker would shut the user out."""
    a_program(tmp_path / "docker", f"echo $HOME >>{tmp_path}/homes; echo default")
    for home in (str(tmp_path), None):
        assert run(CONTEXT, path=tmp_path, home=home).returncode == 0
    assert set((tmp_path / "homes").read_text().split()) == {pwd.getpwuid(os.getuid()).pw_dir}


@pytest.mark.parametrize("is_there", [True, False])
def test_a_service_that_was_there_is_somebodys_own(tmp_path: Path, is_there: bool) -> None:
    """An etcd of the host's, below /opt, which the package's is not."""
    for name in ("apt-get", "apt-cache"):
        a_program(tmp_path / name, f"echo {name} >>{tmp_path}/log; touch {tmp_path}/etcd")
    if is_there:
        (tmp_path / "etcd").touch()
    script = install_script(InstallPackages("skepd's packages", ("etcd-server",), kept_off=("etcd",)))
    script = script.replace("/etc/init.d/", f"{tmp_path}/").replace("/run/systemd/system", f"{tmp_path}/no")
    a_program(tmp_path / "update-rc.d", f"echo $0 $@ >>{tmp_path}/log")
    assert run(script, path=tmp_path).returncode == 0
    assert ("update-rc.d etcd disable" in (tmp_path / "log").read_text()) is not is_there
