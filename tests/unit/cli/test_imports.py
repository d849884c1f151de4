"""What a program loads before it does something: libraries that a command does not need cost each start of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "aiohttp",
    "asyncssh",
    "cryptography",
    "dns",
    "grpc",
    "matplotlib",
    "numpy",
    "pyroute2",
    "rich",
    "uvloop",
)
LOOK = "import atexit, sys; atexit.register(lambda: print(*{m.partition('.')[0] for m in sys.modules}))"


def loaded(program: str, *arguments: str) -> set[str]:
    """Returns what the program has loaded when it ends."""
    command = [sys.executable, "-c", f"{LOOK}\n{program}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("program", ["cli", "daemon"])
def test_who_asks_for_the_version_waits_for_no_library(program: str) -> None:
    found = loaded(f"from skep.{program}.main import main; main()", "--version")
    assert "click" in found, "it is what was looked at"
    assert sorted(found & set(HEAVY)) == []


def test_what_keeps_a_store_needs_no_clients_library() -> None:
    assert "aiohttp" not in loaded("from skep.cli.main import main; main()", "store", "--help")


def test_who_asks_for_the_way_to_a_machine_loads_nothing_of_ssh() -> None:
    """`eval "$(skep machine env NAME)"` is in people's shell profiles."""
    for command in ("config", "env"):
        found = loaded("from skep.cli.main import main; main()", "machine", command, "--help")
        assert sorted(found & {"aiohttp", "asyncssh", "cryptography"}) == [], command


def test_a_daemon_loads_what_is_for_networks_once_it_has_some() -> None:
    found = loaded("import skep.daemon.serving")
    assert {"aiohttp", "cryptography"} <= found
    assert sorted(found & {"dns", "matplotlib", "pyroute2"}) == []


def test_a_daemon_loads_what_a_manager_needs_beside_its_loop() -> None:
    """What the loop has to load after that, everything else on the host waits for."""
    load = (
        "import asyncio, skep.daemon.serving, skep.daemon.this_host as host; asyncio.run(host.load_manager())"
    )
    late = "before = {*sys.modules}; import skep.daemon.manager_parts, skep.daemon.manager_runner"
    assert "numpy" not in loaded("import skep.daemon.serving"), "it is what was loaded"
    loaded(f"{load}\n{late}\nassert {{*sys.modules}} == before, {{*sys.modules}} - before")
