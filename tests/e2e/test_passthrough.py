"""What is not the swarm's goes to the engine: streams, builds, copies; also over TLS, half-close included."""

from __future__ import annotations

import os
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import make_certificates

from .hosts import Host, free_port, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]


class Remote:
    """A way to one daemon: the unix socket, or TCP with client certificates."""

    def __init__(self, host: Host, url: str, certificates: Path | None) -> None:
        self.host = host
        self.url = url
        self._options = ["-H", url]
        if certificates is not None:
            self._options += ["--tlsverify", "--tlscacert", str(certificates / "ca.pem")]
            self._options += ["--tlscert", str(certificates / "cert.pem")]
            self._options += ["--tlskey", str(certificates / "key.pem")]

    def command(self, *arguments: str) -> list[str]:
        return ["docker", *self._options, *arguments]

    def docker(self, *arguments: str, data: bytes = b"", **environment: str) -> bytes:
        done = subprocess.run(
            self.command(*arguments),
            input=data,
            capture_output=True,
            timeout=60,
            env={**os.environ, **environment},
        )
        assert done.returncode == 0, done.stderr.decode() + self.host.log()
        return done.stdout


@pytest.fixture(scope="module")
def daemon(engine_socket: str, busybox_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    directory = tmp_path_factory.mktemp("p")
    make_certificates(directory / "c")
    port = free_port()
    tls = ["--host", f"tcp://127.0.0.1:{port}", "--tlsverify", "--tlscacert", f"{directory}/c/ca.pem"]
    tls += ["--tlscert", f"{directory}/c/server-cert.pem", "--tlskey", f"{directory}/c/server-key.pem"]
    host = Host(directory, "p", f"unix://{engine_socket}", *tls)
    try:
        host.start()
        yield host, port, directory / "c"
    finally:
        host.run("swarm", "leave", "--force", check=False)
        host.stop()


@pytest.fixture(params=["unix", "tls"])
def remote(daemon: Any, request: pytest.FixtureRequest) -> Remote:
    host, port, certificates = daemon
    if request.param == "unix":
        return Remote(host, host.url, None)
    return Remote(host, f"tcp://127.0.0.1:{port}", certificates)


@pytest.fixture
def container(remote: Remote, busybox_image: str) -> Iterator[str]:
    """A container that runs and says a line each 0.2 s."""
    script = "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.2; done"
    name = remote.docker("run", "-d", busybox_image, "sh", "-c", script).decode().strip()
    yield name
    remote.docker("rm", "-f", name)


def test_run_with_stdin_to_its_end(remote: Remote, busybox_image: str) -> None:
    """The client half-closes when its input ends; all output must still arrive."""
    data = os.urandom(3_000_000)
    assert remote.docker("run", "-i", "--rm", busybox_image, "cat", data=data) == data


def test_run_gives_the_exit_status(remote: Remote, busybox_image: str) -> None:
    command = remote.command("run", "--rm", busybox_image, "sh", "-c", "echo out; echo err >&2; exit 7")
    done = subprocess.run(command, capture_output=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_run_with_a_terminal(remote: Remote, busybox_image: str) -> None:
    """`script` gives the client a terminal, as an interactive user has one."""
    command = " ".join(
        remote.command("run", "-it", "--rm", busybox_image, "sh", "-c", "'test -t 0 && echo tty'")
    )
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"], capture_output=True, timeout=30, stdin=subprocess.DEVNULL
    )
    assert b"tty" in done.stdout, done.stdout


def test_exec_with_stdin(remote: Remote, container: str) -> None:
    assert remote.docker("exec", "-i", container, "cat", data=b"through\n") == b"through\n"
    assert remote.docker("exec", container, "sh", "-c", "echo hello") == b"hello\n"


def test_logs_follow_as_they_come(remote: Remote, container: str) -> None:
    with subprocess.Popen(remote.command("logs", "-f", container), stdout=subprocess.PIPE) as logs:
        assert logs.stdout is not None
        seen = [logs.stdout.readline() for _ in range(8)]
        logs.terminate()
    assert seen == [b"line %d\n" % n for n in range(1, 9)]


def test_attach_and_detach_by_its_end(remote: Remote, busybox_image: str) -> None:
    made = remote.docker("create", "-i", busybox_image, "cat").decode().strip()
    try:
        got = remote.docker("start", "-ai", made, data=b"attached\n")
        assert got == b"attached\n"
    finally:
        remote.docker("rm", "-f", made)


def test_copy_in_and_out(remote: Remote, container: str, tmp_path: Path) -> None:
    data = os.urandom(1_000_000)
    (tmp_path / "in").write_bytes(data)
    remote.docker("cp", str(tmp_path / "in"), f"{container}:/tmp/file")
    remote.docker("cp", f"{container}:/tmp/file", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == data


def test_build_with_the_classic_builder(remote: Remote, busybox_image: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox_image}\nCOPY data /data\nRUN cat /data\n")
    (tmp_path / "data").write_text("built\n")
    output = remote.docker("build", "-t", "skep-test/built", str(tmp_path), DOCKER_BUILDKIT="0")
    assert b"Successfully built" in output
    assert remote.docker("run", "--rm", "skep-test/built", "cat", "/data") == b"built\n"
    remote.docker("image", "rm", "-f", "skep-test/built")


def test_load_and_save_images(remote: Remote, busybox_image: str) -> None:
    saved = remote.docker("save", busybox_image)
    with tarfile.open(fileobj=BytesIO(saved)) as archive:
        assert "manifest.json" in archive.getnames()
    assert b"Loaded image" in remote.docker("load", data=saved)


def test_stats_and_top(remote: Remote, container: str) -> None:
    assert container[:12].encode() in remote.docker("stats", "--no-stream", container)
    # The container's loop sleeps most of the time, not all of it.
    wait_until("it sleeps", lambda: b"sleep" in remote.docker("top", container))


def test_errors_of_the_engine_arrive_unchanged(remote: Remote) -> None:
    done = subprocess.run(remote.command("inspect", "nothing-of-the-kind"), capture_output=True, timeout=30)
    assert done.returncode == 1
    assert b"No such object: nothing-of-the-kind" in done.stderr or b"no such object" in done.stderr.lower()


def test_events_of_swarm_and_engine_come_merged(remote: Remote, busybox_image: str) -> None:
    if "inactive" in remote.docker("info", "--format", "{{.Swarm.LocalNodeState}}").decode():
        address = f"127.0.0.1:{free_port()}"
        remote.docker("swarm", "init", "--advertise-addr", address, "--listen-addr", address)
    seen: list[bytes] = []
    command = remote.command("events", "--format", '{{.Type}} {{.Action}} {{index .Actor.Attributes "name"}}')
    with subprocess.Popen(command, stdout=subprocess.PIPE) as events:
        assert events.stdout is not None
        reader = threading.Thread(target=lambda: seen.extend(iter(events.stdout.readline, b"")))  # type: ignore[union-attr,arg-type]
        reader.start()
        time.sleep(0.5)
        remote.docker(
            "service", "create", "-q", "--no-resolve-image", "--name", "ev", busybox_image, "sleep", "1d"
        )
        remote.docker("service", "rm", "ev")
        wait_until("the service's removal is seen", lambda: b"service remove ev\n" in seen)
        events.terminate()
    reader.join(5)
    assert b"service create ev\n" in seen
    assert any(line.startswith(b"container start ev.1.") for line in seen)


def test_a_client_without_a_certificate_is_refused(daemon: Any) -> None:
    host, port, certificates = daemon
    command = [
        "docker",
        "-H",
        f"tcp://127.0.0.1:{port}",
        "--tls",
        "--tlscacert",
        str(certificates / "ca.pem"),
    ]
    done = subprocess.run([*command, "version"], capture_output=True, timeout=30)
    assert done.returncode == 1
    assert host.docker("version")
