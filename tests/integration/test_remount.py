"""A new skepd's socket in a running container's place of the old one: what is mounted after, and what is left.

The container is a process with mounts and a control group of its own; the host's mounts are shared, as
systemd makes them.
"""

from __future__ import annotations

import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skep.agent.executor import remount

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

REMOUNT = Path(remount.__file__)
GROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified")


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


class Machine:
    """`run` is the state directory's, `inside` where the container has the socket."""

    def __init__(self, directory: Path) -> None:
        self.given, self.engines = directory / "run/docker.sock", directory / "run/engine.sock"
        self.inside = directory / "inside/docker.sock"
        for each in ("run", "inside"):
            (directory / each).mkdir()
        self.inside.touch()
        bind(self.given)
        bind(self.engines)
        self.id = secrets.token_hex(32)
        base = next(Path(each) for each in GROUPS if Path(each, "cgroup.procs").exists())
        self.group = base / self.id
        self.group.mkdir()
        shared = f"mount --bind {directory} {directory} && mount --make-shared {directory}"
        self.host = self._begin("unshare", "--mount", "--propagation", "private", "sh", "-c", shared)
        self.container: subprocess.Popen[str] | None = None

    def _begin(self, *command: str) -> subprocess.Popen[str]:
        """Starts a process that stays, and waits until what the command says is done."""
        whole = [*command[:-1], f"set -e; {command[-1]}; echo ready; exec sleep 60"]
        made = subprocess.Popen(whole, stdout=subprocess.PIPE, text=True)
        assert made.stdout is not None
        assert made.stdout.readline() == "ready\n"
        return made

    def enter(self, process: subprocess.Popen[str], *command: str) -> list[str]:
        return ["nsenter", f"--mount=/proc/{process.pid}/ns/mnt", *command]

    def start(self, source: Path, options: str = "rw", is_in_group: bool = True) -> None:
        script = f"mount --bind {source} {self.inside}; mount -o remount,bind,{options} {self.inside}"
        private = self.enter(self.host, "unshare", "--mount", "--propagation", "private", "sh", "-c", script)
        self.container = self._begin(*private)
        if is_in_group:
            (self.group / "cgroup.procs").write_text(str(self.container.pid))

    def renew_socket(self) -> None:
        bind(self.given.with_suffix(".new"))
        self.given.with_suffix(".new").rename(self.given)

    def remount(self, *program: str, pid: int | None = None) -> str:
        assert self.container is not None
        wanted = (str(self.given), self.id, str(pid or self.container.pid), str(self.inside))
        start = program or (sys.executable, "-I", "-S", str(REMOUNT))
        done = subprocess.run(self.enter(self.host, *start, *wanted), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def mounts(self, process: subprocess.Popen[str] | None) -> list[str]:
        """Returns the whole lines of mountinfo in our directory, but for the ids of mounts."""
        assert process is not None
        lines = Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines()
        ours = [line for line in lines if str(self.given.parent.parent) in line.split()[4]]
        return sorted(re.sub(r"^\d+ \d+ ", "", line) for line in ours)

    def inode_inside(self) -> int:
        assert self.container is not None
        return Path(f"/proc/{self.container.pid}/root{self.inside}").stat().st_ino

    def stop(self) -> None:
        for each in (self.container, self.host):
            if each is not None:
                each.kill()
                each.communicate()
        self.group.rmdir()


@pytest.fixture
def machine(short_dir: Path) -> Iterator[Machine]:
    made = Machine(short_dir)
    try:
        yield made
    finally:
        made.stop()


@pytest.mark.parametrize("options", ["rw", "ro", "ro,nosuid,nodev,noexec"])
def test_the_mount_is_as_it_was_and_shares_nothing_with_the_hosts(machine: Machine, options: str) -> None:
    machine.start(machine.given, options)
    before, of_host = machine.mounts(machine.container), machine.mounts(machine.host)
    machine.renew_socket()
    assert "//deleted" in "".join(machine.mounts(machine.container))
    assert machine.remount() == "renewed"
    assert machine.mounts(machine.container) == before
    assert machine.inode_inside() == machine.given.stat().st_ino
    assert machine.remount() == "same"

    assert machine.container is not None
    over = machine.enter(machine.container, "mount", "--bind", "/etc/hostname", str(machine.inside))
    subprocess.run(over, check=True)
    assert machine.mounts(machine.host) == of_host


def test_a_sockets_path_on_its_device_is_that_in_mountinfo(short_dir: Path) -> None:
    """Also where the device is the one that is mounted at `/`."""
    for path in (short_dir / "docker.sock", Path("/dev/shm") / f"{secrets.token_hex(8)}.sock"):
        bind(path)
        over = f"mount --bind {path} {path} && cat /proc/self/mountinfo"
        private = ["unshare", "--mount", "--propagation", "private", "sh", "-c", over]
        try:
            shown = subprocess.run(private, check=True, capture_output=True, text=True).stdout
            found = remount._socket(str(path))
        finally:
            path.unlink()
        (line,) = (line.split() for line in shown.splitlines() if line.split()[4] == str(path))
        assert (found.device, found.root) == (line[2], line[3])


def test_another_socket_at_the_target_is_left_alone(machine: Machine) -> None:
    machine.start(machine.engines)
    before = machine.mounts(machine.container)
    machine.renew_socket()
    assert machine.remount() == "there is something else by now"
    assert machine.mounts(machine.container) == before
    assert machine.inode_inside() == machine.engines.stat().st_ino


def test_a_process_that_is_not_the_containers_is_left_alone(machine: Machine) -> None:
    machine.start(machine.given, is_in_group=False)
    assert machine.container is not None
    machine.renew_socket()
    before = machine.mounts(machine.container)
    assert f"process {machine.container.pid} is not the container's" in machine.remount()
    assert machine.mounts(machine.container) == before


def test_only_a_process_that_is_gone_has_ended(machine: Machine) -> None:
    machine.start(machine.given)
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert machine.remount(pid=gone.pid) == "ended"
    # One that cannot be looked at, here for want of descriptors, is not taken for ended, nor for well.
    machine.renew_socket()
    starved = 'ulimit -n 7; exec "$0" -I -S "$@"'
    assert "Too many open files" in machine.remount("sh", "-c", starved, sys.executable, str(REMOUNT))
    assert machine.remount() == "renewed"


@pytest.mark.parametrize(
    ("number", "said", "is_kept"),
    [(28, "[Errno 28] refused", True), (22, "renewed", False)],  # ENOSPC; EINVAL, from a kernel before 6.5
)
def test_the_old_mount_stays_until_the_new_one_is_there(
    machine: Machine, number: int, said: str, is_kept: bool
) -> None:
    machine.start(machine.given, "ro")
    present = machine.mounts(machine.container)
    machine.renew_socket()
    before = machine.mounts(machine.container)
    failing = (
        "import os, sys; sys.path.insert(0, os.path.dirname(sys.argv[1]))\n"
        "import remount; move, calls = remount._move, []\n"
        "def once(*given):\n"
        "    calls.append(given)\n"
        f"    if len(calls) == 1: raise OSError({number}, 'refused')\n"
        "    move(*given)\n"
        "remount._move = once; remount.main(*sys.argv[2:])"
    )
    assert machine.remount(sys.executable, "-c", failing, str(REMOUNT)) == said
    assert machine.mounts(machine.container) == (before if is_kept else present)
