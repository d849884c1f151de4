"""What every test may ask for. A missing engine or missing root fails the test, it never skips it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.images import IMAGE, busybox_tar


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
    command = ["docker", "-H", f"unix://{engine_socket}", "import", "-", IMAGE]
    subprocess.run(command, input=busybox_tar(), check=True, capture_output=True)
    return IMAGE


@pytest.fixture
def short_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose path leaves room for unix sockets."""
    return tmp_path_factory.mktemp("d", numbered=True)
