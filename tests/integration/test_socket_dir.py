"""What lies where skepd makes a socket does not keep it from starting."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from skep.daemon.socket_dir import SocketDir
from skep.runtime.errors import Invalid

NAMES = ("docker.sock", "docker.sock.new")


def mount(source: Path) -> Callable[[Path], None]:
    def over(path: Path) -> None:
        path.mkdir() if source.is_dir() else path.touch()
        for _ in range(2):
            subprocess.run(["mount", "--bind", source, path], check=True)

    return over


@pytest.mark.root
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lay", [Path.mkdir, mount(Path("/etc/hostname")), mount(Path("/etc"))])
def test_an_empty_directory_and_a_mount_are_taken_away(
    tmp_path: Path, name: str, lay: Callable[[Path], None]
) -> None:
    sockets = SocketDir(tmp_path / "run")
    lay(tmp_path / "run" / name)
    try:
        sockets.replace("docker.sock").close()
    finally:
        while subprocess.run(["umount", tmp_path / "run" / name], capture_output=True).returncode == 0:
            pass
        sockets.close()
    assert os.listdir(tmp_path / "run") == ["docker.sock"]
    assert stat.S_ISSOCK(os.lstat(tmp_path / "run/docker.sock").st_mode)
    assert Path("/etc/hostname").exists()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_empty_is_refused_by_its_own_path(tmp_path: Path, name: str) -> None:
    sockets = SocketDir(tmp_path / "run")
    kept = tmp_path / "run" / name / "file"
    kept.parent.mkdir()
    kept.touch()
    with pytest.raises(Invalid) as refused:
        sockets.replace("docker.sock")
    assert str(refused.value) == f"no socket can be made at {kept.parent}: Directory not empty"
    assert kept.exists()
    sockets.close()
