"""What a container uses is the same by the kernel's files and by the engine's word."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from skep.agent.executor.docker import DockerExecutor
from skep.agent.executor.interfaces import RunningTask
from skep.agent.executor.meter import Meter
from skep.runtime.clock import SystemClock

pytestmark = pytest.mark.engine


def docker(engine_socket: str, *words: str) -> str:
    command = ["docker", "-H", f"unix://{engine_socket}", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def container(engine_socket: str, busybox_image: str) -> Iterator[RunningTask]:
    script = (
        "head -c 20000000 /dev/zero >/held/x; n=0; while test $n -lt 100000; do n=$((n+1)); done; sleep 1d"
    )
    options = ("--tmpfs", "/held", "--memory", "100m")
    found = docker(engine_socket, "run", "-d", *options, busybox_image, "sh", "-c", script)
    try:
        time.sleep(2.0)  # until it has held and spun
        pid = docker(engine_socket, "inspect", "--format", "{{.State.Pid}}", found)
        yield RunningTask("t", found, int(pid))
    finally:
        docker(engine_socket, "rm", "-f", found)


async def test_both_ways_say_the_same(container: RunningTask, engine_socket: str) -> None:
    executor = DockerExecutor(engine_socket, "a", SystemClock())
    try:
        by_files = await executor.read_usage([container])
        assert Meter().read([container])[1] == [], "the kernel's files were read"
        by_engine = await executor.read_usage([RunningTask("t", container.container_id, 0)])
        gone = await executor.read_usage([RunningTask("t", "f" * 64, container.pid)])
    finally:
        await executor.close()
    one, other = by_files.tasks["t"], by_engine.tasks["t"]
    assert 20_000_000 < one.memory_bytes < 30_000_000
    assert other.memory_bytes == pytest.approx(one.memory_bytes, rel=0.05)
    assert one.memory_limit_bytes == other.memory_limit_bytes == 100 << 20
    assert 0.01 < one.cpu_s <= other.cpu_s + 0.001 < one.cpu_s + 1.0
    assert gone.tasks == {}  # the process is another container's
    assert by_files.host.cpu_s > one.cpu_s
    assert by_files.host.memory_bytes > one.memory_bytes


async def test_reading_costs_little(container: RunningTask) -> None:
    meter = Meter()
    meter.read([container])
    began = time.process_time()
    for _ in range(100):
        meter.read([container])
    assert time.process_time() - began < 0.5  # 5 ms each; it is a tenth of that
