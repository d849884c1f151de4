"""What is done on hosts, by the scripts that are run there."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from pathlib import Path

import pytest

from skep.machine.carrying import by_url_script, install_script
from skep.machine.plan import InstallPackages
from skep.machine.remote import write_script


def test_what_is_installed_drives_nothing_out(tmp_path: Path) -> None:
    for name in ("apt-get", "apt-cache"):
        (tmp_path / name).write_text('#!/bin/sh\necho "$@" >>"$0.log"\n')
        (tmp_path / name).chmod(0o755)
    script = install_script(InstallPackages("Docker", ("docker.io",), ("docker-cli",)))
    subprocess.run(["sh", "-c", script], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=True)
    update, install = (tmp_path / "apt-get.log").read_text().splitlines()
    assert update.split()[-1] == "update"
    assert install.split()[-1] == "docker.io", "there is no docker-cli"
    assert "--no-remove" in install.split()
    assert "Dpkg::Options::=--force-confold" in install.split(), "nor does dpkg ask, and nobody answers"


def test_the_first_boot_of_a_cloud_has_ended_before_anything_is_installed(tmp_path: Path) -> None:
    """Its status may be an error, which is its own."""
    for name, ends in (
        ("cloud-init", "sleep 0.2; echo $0 $@ >>{log}; exit 2"),
        ("apt-get", "echo $0 $@ >>{log}"),
    ):
        (tmp_path / name).write_text("#!/bin/sh\n" + ends.format(log=tmp_path / "log") + "\n")
        (tmp_path / name).chmod(0o755)
    script = install_script(InstallPackages("Docker", ("docker.io",)))
    subprocess.run(["sh", "-c", script], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=True)
    first, second, *_ = (tmp_path / "log").read_text().splitlines()
    assert first == f"{tmp_path}/cloud-init status --wait"
    assert second.endswith("update")


def test_why_nothing_is_installed_is_said_when_it_has_ended(tmp_path: Path) -> None:
    """It writes to nobody until then: who is not there any more would end it half way."""
    (tmp_path / "apt-get").write_text("#!/bin/sh\nseq 100; echo E: no space >&2; exit 100\n")
    (tmp_path / "apt-get").chmod(0o755)
    script = install_script(InstallPackages("Docker", ("docker.io",)))
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-2:] == ["100", "E: no space"]
    assert list(tmp_path.iterdir()) == [tmp_path / "apt-get"]


def write(path: Path, content: bytes, mode: int | None = None, length: int | None = None) -> int:
    script = write_script(str(path), len(content) if length is None else length, mode)
    return subprocess.run(["sh", "-c", script], input=content, stderr=subprocess.DEVNULL).returncode


def test_a_file_that_is_there_keeps_who_may_read_it_and_its_place(tmp_path: Path) -> None:
    own = tmp_path / "kept/own.json"
    own.parent.mkdir()
    own.write_text("{}")
    own.chmod(0o600)
    (tmp_path / "daemon.json").symlink_to(own)
    assert write(tmp_path / "daemon.json", b"new") == 0
    assert (tmp_path / "daemon.json").is_symlink()
    assert own.read_bytes() == b"new"
    assert stat.S_IMODE(own.stat().st_mode) == 0o600
    assert list(own.parent.iterdir()) == [own]


def test_what_comes_in_part_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    path.write_bytes(b"before")
    assert write(path, b"ha", length=4) != 0
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_two_that_write_at_the_same_time_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    script = write_script(str(path), 4, 0o600)
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE) as slow:
        assert slow.stdin is not None
        slow.stdin.write(b"sl")
        slow.stdin.flush()
        deadline = time.monotonic() + 20
        while not any(each.stat().st_size == 2 for each in tmp_path.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert write(path, b"fast", 0o600) == 0
        assert path.read_bytes() == b"fast"
        slow.stdin.write(b"ow")
        slow.stdin.close()
        assert slow.wait(20) == 0
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"slow", 0o600)


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        ('printf "#!/bin/sh\\n" >"$BIN/dockerd"; chmod +x "$BIN/dockerd"', 0, ""),
        ("echo no such distribution; exit 3", 1, "no such distribution\n"),
        ("true", 1, "the script has ended, and there is no dockerd\n"),
    ],
)
def test_docker_is_installed_by_a_script(tmp_path: Path, script: str, status: int, said: str) -> None:
    (tmp_path / "curl").write_text(
        '#!/bin/sh\nwhile [ $# -gt 1 ]; do [ "$1" != -o ] || to=$2; shift; done\n'
        f'[ "$1" = https://get.example ] && cp {tmp_path}/script $to\n'
    )
    (tmp_path / "curl").chmod(0o755)
    (tmp_path / "script").write_text(script)
    for name in ("sh", "mktemp", "tail", "cp", "rm", "chmod"):
        (tmp_path / name).symlink_to(f"/bin/{name}" if Path(f"/bin/{name}").exists() else f"/usr/bin/{name}")
    environment = {"PATH": str(tmp_path), "BIN": str(tmp_path), "TMPDIR": str(tmp_path)}
    line = by_url_script("https://get.example")
    done = subprocess.run(["/bin/sh", "-c", line], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (status, said)
    assert not list(tmp_path.glob("tmp.*"))
