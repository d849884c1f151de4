"""What every test may ask for. A missing engine or missing root fails the test, it never skips it."""

from __future__ import annotations

import os
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

IMAGE = "skep-test/busybox:latest"
APPLETS = (
    *("sh", "cat", "sleep", "echo", "ls", "nc", "env", "hostname", "true", "false", "ps", "id", "pwd"),
    *("kill", "mkdir", "touch", "trap", "test", "head", "wc"),
)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") is not None and os.geteuid() != 0:
        pytest.fail("this test needs root")


@pytest.fixture(scope="session")
def engine_socket() -> str:
    """The socket of a Docker Engine that tests may fill and empty: ./check starts one."""
    path = os.environ.get("SKEP_TEST_ENGINE", "")
    if not path:
        pytest.fail("this test needs a Docker Engine of its own: run ./check, or set SKEP_TEST_ENGINE")
    return path


@pytest.fixture(scope="session")
def busybox_image(engine_socket: str) -> str:
    """The tag of an image with a shell and some tools, made from Debian's busybox-static."""
    subprocess.run(
        ["docker", "-H", f"unix://{engine_socket}", "import", "-", IMAGE],
        input=busybox_tar(),
        check=True,
        capture_output=True,
    )
    return IMAGE


def busybox_tar() -> bytes:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add("/bin/busybox", "bin/busybox")
        for name in APPLETS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
        for directory in ("tmp", "etc", "dev", "proc", "sys"):
            made = tarfile.TarInfo(directory)
            made.type, made.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(made)
    return buffer.getvalue()


@pytest.fixture
def short_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose path leaves room for unix sockets."""
    return tmp_path_factory.mktemp("d", numbered=True)
