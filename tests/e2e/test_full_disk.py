"""A manager whose disk is full says so, goes on when there is room again, and has lost nothing."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .hosts import Host, free_port, wait_until
from .managers import Managers

FULL = "no space left on device"
pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]


@pytest.fixture
def small_disk(short_dir: Path) -> Iterator[Path]:
    """300 MB: etcd preallocates logs of 64 MB, two or, for a moment, three of them."""
    disk = short_dir / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.fixture
def lone(small_disk: Path) -> Iterator[Host]:
    """A swarm of one; its daemon's log is on the small disk, too."""
    host = Host(small_disk, "m", "simulated")
    host.start()
    try:
        address = f"127.0.0.1:{free_port()}"
        host.docker("swarm init --advertise-addr {} --listen-addr {}", address, address)
        host.docker("service create -q -d --name before image")
        yield host
    finally:
        host.stop()


def names() -> Iterator[str]:
    """A new name each time: one whose answer was lost may have been taken all the same."""
    return (f"n{number}" for number in itertools.count())


def test_a_full_disk(lone: Host, small_disk: Path) -> None:
    fill(small_disk / "fill")
    name = names()
    wait_told(lone, name)
    (small_disk / "fill").unlink()
    wait_created(lone, name)
    assert "before" in lone.docker("service ls --format {{.Name}}").split()


def test_a_daemon_that_starts_on_a_full_disk(lone: Host, small_disk: Path) -> None:
    lone.stop()
    fill(small_disk / "fill")
    lone.start()
    name = names()
    wait_told(lone, name)
    (small_disk / "fill").unlink()
    wait_created(lone, name)
    assert "before" in lone.docker("service ls --format {{.Name}}").split()


def test_a_full_disk_of_the_leader_is_the_others_chance(short_dir: Path) -> None:
    swarm = Managers(short_dir, managers=3, workers=1)
    disks = [manager.state_dir for manager in swarm.managers]
    try:
        for disk in disks:
            disk.mkdir(mode=0o700)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", disk], check=True)
        swarm.start()
        leader, other = swarm.leader(), swarm.followers()[0]
        assert create(other, "before") == ""
        fill(leader.state_dir / "fill")
        name = names()
        wait_until(
            "another one leads and works",
            lambda: create(other, next(name)) == "" and swarm.leader(other) is not leader,
            90,
        )
        (leader.state_dir / "fill").unlink()
        swarm.wait_reachable(3, other)
        for manager in swarm.managers:
            assert "before" in manager.docker("service ls --format {{.Name}}").split()
    finally:
        swarm.stop()
        for disk in disks:
            subprocess.run(["umount", "-l", disk], check=False, capture_output=True)


def wait_told(host: Host, name: Iterator[str]) -> None:
    """Waits until it is said why no service can be created."""
    wait_answer(host, name, "it says why", lambda answer: FULL in answer)


def wait_created(host: Host, name: Iterator[str]) -> None:
    """Waits until a service can be created."""
    wait_answer(host, name, "it works again", lambda answer: answer == "")


def wait_answer(host: Host, name: Iterator[str], what: str, is_it: Callable[[str], bool]) -> None:
    answers: list[str] = []

    def comes() -> bool:
        answers.append(create(host, next(name)))
        return is_it(answers[-1])

    try:
        wait_until(what, comes, 60)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{answers[-5:]}\n{host.log()}") from error


def fill(file: Path) -> None:
    try:
        with file.open("wb", buffering=0) as stream:
            while stream.write(b"\0" * (1 << 20)):
                pass
    except OSError:
        pass  # it is full


def create(host: Host, name: str) -> str:
    """Returns the error; an empty text where it was created."""
    label = "x=" + "y" * 100_000  # etcd's database must grow
    done = host.run(
        "service create -q -d --no-resolve-image --name {} --label {} image",
        name,
        label,
        check=False,
    )
    return "" if done.returncode == 0 else done.stderr
