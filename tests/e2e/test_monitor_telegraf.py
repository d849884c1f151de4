"""`skep telegraf` as Telegraf runs it, for what a swarm of one manager shows; the rest: test_monitor_swarm2k.py."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

import pytest

from .fixtures import swarm_fixture
from .hosts import Swarm
from .skep_cli import SKEP, skep, skep_ok

pytestmark = pytest.mark.timeout(120)

swarm = swarm_fixture(lambda directory: Swarm(directory, "simulated", workers=1))


def run(*options: str) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen([SKEP, "telegraf", *options], stdin=pipe, stdout=pipe, stderr=pipe)


def test_once_for_inputs_exec(swarm: Swarm) -> None:
    lines = skep_ok("telegraf --once", on=swarm.manager).splitlines()
    assert {line.partition(",")[0].partition(" ")[0] for line in lines} >= {
        "swarm",
        "swarm_node",
        "swarm_task_status",
        "swarm_manager",
    }
    times = {line.rpartition(" ")[2] for line in lines}
    assert len(times) == 1
    assert abs(int(times.pop()) / 1e9 - time.time()) < 30


def test_a_manager_that_hangs_is_passed_over(swarm: Swarm, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(tmp_path / "h"))
        hanging.listen()  # the kernel takes connections, nobody answers
        options = ("--host", f"unix://{tmp_path}/h", "--host", swarm.manager.url, "--timeout", "1s")
        process = run(*options)
        began = time.monotonic()
        out, err = process.communicate(b"\n", timeout=20)
        assert time.monotonic() - began < 8
    assert b"swarm n_nodes=2i" in out
    assert err == b""
    assert process.returncode == 0  # its input has ended


def test_without_a_swarm_it_says_why_and_goes_on(tmp_path: Path) -> None:
    process = run("--host", f"unix://{tmp_path}/missing", "--timeout", "300ms")
    assert process.stdin is not None
    assert process.stderr is not None
    for _ in range(3):
        process.stdin.write(b"\n")
        process.stdin.flush()
        time.sleep(1)
    assert process.poll() is None
    process.terminate()
    out, err = process.communicate(timeout=10)
    assert out == b""
    (line,) = err.decode().splitlines()
    assert line.startswith("E! the swarm's numbers cannot be had: ")
    assert "is skepd running there?" in line


def test_who_reads_no_more_ends_it_without_a_traceback(swarm: Swarm) -> None:
    process = run("--host", swarm.manager.url)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stdin.write(b"\n")
    process.stdin.flush()
    assert process.wait(15) == 1
    assert b"Traceback" not in process.stderr.read()
    process.stdin.close()
    process.stderr.close()


def test_the_section_and_the_one_it_comes_from(tmp_path: Path) -> None:
    assert 'signal = "STDIN"' in skep_ok("telegraf --config --host {}", "tcp://mg0:2376")
    conf = tmp_path / "telegraf.conf"
    conf.write_text('[[inputs.swarm]]\n  endpoint = "tcp://mg0:2376"\n  timeout = "3s"\n')
    done = skep("telegraf --convert {}", conf)
    assert 'command = ["skep", "telegraf", "--host", "tcp://mg0:2376", "--timeout", "3s"]' in done.stdout
    assert "Note: the series swarm_task is left out" in done.stderr
    conf.write_text("[[inputs.cpu]]\n")
    refused = skep("telegraf --convert {}", conf)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"{conf}: it has no section [[inputs.swarm]]" in refused.stderr
    both = skep("telegraf --config --once")
    assert both.returncode == 2
