"""Which processes a local machine's files name; locks; images."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import pytest

from skep.machine.local import base, power
from skep.machine.local.hosts import LocalHosts
from skep.machine.local.power import Power
from skep.machine.local.programs import locked, run_program
from skep.runtime.errors import NotFound, Unavailable

BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def began(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


@pytest.fixture
def switch(tmp_path: Path) -> Power:
    found = Power(LocalHosts(tmp_path), "mg0-1")
    found.own.mkdir(parents=True)
    return found


def test_a_process_is_known_by_when_it_began(switch: Power) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        own = f"{process.pid} {began(process.pid)} {BOOT}"
        (switch.own / "init").write_text(own)
        assert switch.is_on()
        # Its number is another's now: that one is neither taken for it nor signalled.
        for other in (f"{process.pid} 1 {BOOT}", f"{process.pid} {began(process.pid)} another-boot", "", "7"):
            (switch.own / "init").write_text(other)
            assert not switch.is_on()
            assert not power._signal(switch.own / "init", signal.SIGKILL)
        assert process.poll() is None
        (switch.own / "init").write_text(own)
        assert power._signal(switch.own / "init", signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not switch.is_on(), "one that nobody has waited for has ended"
    assert not power._signal(switch.own / "init", signal.SIGKILL)


@pytest.mark.real_time
async def test_unplugging_what_is_off_is_no_error(switch: Power) -> None:
    (switch.own / "init").write_text(f"1 1 {BOOT}")
    await switch.unplug()
    assert not (switch.own / "init").exists()
    with pytest.raises(NotFound, match="skep machine rm"):
        await switch.on()


@pytest.mark.real_time
async def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    """Also where who has it removes the file, and the directory: the others do not go on by an old one."""
    inside = 0

    async def one() -> None:
        nonlocal inside
        async with locked(tmp_path / "d/lock"):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0.01)
            inside -= 1
            (tmp_path / "d/lock").unlink()
            (tmp_path / "d").rmdir()

    await asyncio.gather(*(one() for _ in range(5)))


@pytest.mark.real_time
async def test_a_program_that_fails_says_why_and_one_that_hangs_is_ended() -> None:
    assert await run_program(["sh", "-c", "echo $GIVEN"], "it", {"GIVEN": "a b"}) == "a b\n"
    with pytest.raises(Unavailable, match="it cannot be made: no room"):
        await run_program(["sh", "-c", "echo no room >&2; exit 3"], "it cannot be made")
    with pytest.raises(Unavailable, match="did not end within"):
        await run_program(["sleep", "60"], "it", timeout_s=0.1)


def test_what_is_done_to_an_image_is_read_from_its_log() -> None:
    said = "I: Retrieving libc6 2.36\nnoise\nUnpacking docker.io (20.10) ...\nPreparing to unpack x\n"
    assert base._doing(said) == "Unpacking docker.io"
    assert base._doing("I: Retrieving libc6 2.36\n") == "Retrieving libc6"
    assert base._doing("") == ""
