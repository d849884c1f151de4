"""The script that starts skepd where no systemd runs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from shutil import which

import pytest

pytestmark = [
    pytest.mark.real_time,
    pytest.mark.skipif(which("start-stop-daemon") is None, reason="it is Debian's"),
]


class Service:
    """The script as a host has it, in a directory of its own. `skepd` notes that it began, and waits."""

    def __init__(self, directory: Path) -> None:
        self.pid_file, self.log = directory / "skepd.pid", directory / "skepd.log"
        self.began = directory / "began"
        daemon = directory / "skepd"
        daemon.write_text(f"#!/bin/sh\necho $$ >>{self.began}\nulimit -Hn\nexec sleep 60\n")
        daemon.chmod(0o755)
        text = (files("skep.machine") / "skepd.init").read_text()
        text = text.replace("DAEMON=/opt/skep/bin/skepd", f'DAEMON="{daemon} --config x"')
        text = text.replace("/run/skepd.", f"{directory}/skepd.").replace("/var/log/", f"{directory}/")
        self.script = directory / "init"
        self.script.write_text(text)
        self.script.chmod(0o755)

    def begin(self, verb: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.script, verb], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, verb: str) -> int:
        process = self.begin(verb)
        process.communicate(timeout=60)
        return process.returncode

    def daemons(self) -> list[int]:
        """Returns those that run."""
        there = map(int, self.began.read_text().split()) if self.began.exists() else ()
        return [pid for pid in there if is_there(pid)]


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    found = Service(tmp_path)
    yield found
    found.run("stop")
    wait_until(lambda: not found.daemons())


def test_it_starts_and_ends(service: Service) -> None:
    assert service.run("status") == 3
    assert service.run("start") == 0
    wait_until(lambda: len(service.daemons()) == 1)
    assert service.run("status") == 0
    before = service.daemons()
    assert service.run("restart") == 0
    wait_until(lambda: len(service.daemons()) == 1 and service.daemons() != before)
    os.kill(service.daemons()[0], signal.SIGKILL)
    wait_until(lambda: len(service.began.read_text().split()) == 3)
    assert service.run("stop") == 0
    assert not service.daemons()
    assert service.log.stat().st_mode & 0o007 == 0, "what it says is root's to read"


def test_a_process_that_has_its_number_now_is_not_taken_for_it(service: Service) -> None:
    """After a kill, or a boot of a host that keeps its /run."""
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            service.pid_file.write_text(f"{other.pid}\n")
            assert service.run("status") == 3
            assert service.run("stop") == 0
            assert other.poll() is None
            service.pid_file.write_text(f"{other.pid}\n")
            assert service.run("start") == 0
            wait_until(lambda: len(service.daemons()) == 1)
            assert other.poll() is None
        finally:
            other.kill()


def test_two_who_start_it_at_once_start_one(service: Service) -> None:
    for _ in range(3):
        processes = [service.begin("start") for _ in range(8)]
        for each in processes:
            each.communicate(timeout=60)
            assert each.returncode == 0
        time.sleep(0.5)
        assert len(service.daemons()) == 1
        assert service.run("stop") == 0
        assert not service.daemons()


def test_a_stop_at_any_time_ends_it(service: Service) -> None:
    for delay_s in (0.0, 0.002, 0.005, 0.01, 0.02) * 6:
        assert service.run("start") == 0
        time.sleep(delay_s)
        began = time.monotonic()
        assert service.run("stop") == 0
        assert time.monotonic() - began < 15
        assert not service.daemons()
