"""Drivers of packages beside skep: the one of docs/drivers.md, and ones that do everything wrong."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncssh
import pytest

from skep.machine.drivers import HostMaking, PowerChange, Resizable
from skep.machine.drivers.known import GROUP, driver_named, driver_names
from skep.machine.record import EngineWish, Machine, SshPlace
from skep.runtime.errors import Invalid, NotFound, Unavailable, Unsupported
from tests.drivers_page import PAGE, blocks, install, install_example

MACHINE = Machine(name="m0", driver="command", ssh=SshPlace(), engine=EngineWish())
SCRIPT = """#!/bin/sh
echo "$@" >>{log}
case $1 in
make) echo 127.0.0.1 ;;
state) echo Stopped ;;
kill) echo it has no plug >&2; exit 1 ;;
esac
"""


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where packages are installed for one test."""
    directory = tmp_path / "site"
    directory.mkdir()
    monkeypatch.syspath_prepend(str(directory))
    driver_named.cache_clear()
    yield directory
    driver_named.cache_clear()
    for name in ("skep_command", "odd"):
        sys.modules.pop(name, None)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A command that makes hosts; beside it is what it was told."""
    path = tmp_path / "hosts.sh"
    path.write_text(SCRIPT.format(log=tmp_path / "hosts.log"))
    path.chmod(0o755)
    return path


def test_the_example_is_short_and_is_what_it_says() -> None:
    (source,) = blocks("python")
    assert len(source.splitlines()) < 100
    for member in ("wanted", "check", "make", "remove", "power", "state", "resize"):
        assert f"`{member}(" in PAGE.read_text()


@pytest.mark.real_time
async def test_the_example_of_the_page_drives_hosts(beside: Path, script: Path, tmp_path: Path) -> None:
    install_example(beside)
    assert "command" in driver_names()
    driver = driver_named("command")
    assert driver is driver_named("command"), "one for all machines"
    assert not isinstance(driver, Resizable)
    values = {each.name: each.default for each in driver.options}
    with pytest.raises(Invalid, match="requires the --command-path option"):
        driver.wanted(MACHINE, values)
    machine = driver.wanted(MACHINE, {**values, "command-path": str(script)})
    saved: list[Machine] = []
    making = HostMaking(tmp_path, print, saved.append)
    await driver.check(machine, print)
    made = await driver.make(machine, making)
    assert made.ssh.address == "127.0.0.1"
    assert saved == [made]
    assert await driver.make(made, making) == made
    assert await driver.state(made) == "Stopped"
    assert await driver.power(made, PowerChange.STOP, making) == made
    with pytest.raises(Unavailable, match="kill failed: it has no plug"):
        await driver.power(made, PowerChange.KILL, making)
    assert await driver.remove(made, print) == ""
    told = (tmp_path / "hosts.log").read_text().splitlines()
    assert told == ["make m0", "state m0", "stop m0", "kill m0", "remove m0"]


@pytest.fixture
async def closed_host() -> AsyncIterator[int]:
    """The port of an sshd that lets nobody in."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    listener = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[key], server_factory=asyncssh.SSHServer
    )
    yield listener.get_port()
    listener.close()
    await listener.wait_closed()


@pytest.mark.real_time
async def test_the_example_makes_machines_by_the_command(
    beside: Path, script: Path, tmp_path: Path, closed_host: int
) -> None:
    """Up to the host's own sshd, which is none that lets us in: the machine is kept, and removed with its host."""
    install_example(beside)
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "id")
    create = f"create --driver command --engine-only --command-ssh-port {closed_host}"
    create += f" --command-path {script} --command-ssh-key {tmp_path / 'id'} m0"
    done = await skep(beside, tmp_path, create)
    assert done.returncode == 1
    assert "(m0) Making the host..." in done.stdout
    assert "it does not let us in" in done.stderr
    kept = json.loads((tmp_path / "machine/machines/m0/config.json").read_text())
    assert (kept["DriverName"], kept["Driver"]["CommandPath"]) == ("command", str(script))
    assert kept["Skep"]["State"] == "half-made"
    removed = await skep(beside, tmp_path, "rm -y m0")
    assert removed.returncode == 0, removed.stderr
    assert (tmp_path / "hosts.log").read_text().splitlines() == ["make m0", "remove m0"]
    usage = await skep(beside, tmp_path, "create --help")
    assert "--command-path" in usage.stdout


async def skep(beside: Path, home: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Runs `skep machine …` with the packages that are beside it."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("COMMAND_")},
        "PYTHONPATH": f"{beside}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "MACHINE_STORAGE_PATH": str(home / "machine"),
        "HOME": str(home),
    }
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", "from skep.cli.main import main; main()", "machine", *line.split()],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        stdin=subprocess.DEVNULL,
    )


ODD = """
from skep.machine.drivers import DriverOption
class Odd:
    summary = "odd"
    options = (DriverOption(name="odd-x", help="x"),)
    def wanted(self, machine, values):
        return {wanted}
    async def check(self, machine, say):
        raise ValueError("two\\nlines, \\x1b[31mred")
    async def make(self, machine, making):
        return None
    async def remove(self, machine, say):
        return None
    async def power(self, machine, change, making):
        return machine.nonesuch
    async def state(self, machine):
        return 1 / 0
    async def resize(self, machine, size, making):
        return machine
"""


def install_odd(beside: Path, source: str) -> None:
    install(beside, "odd", "odd.py", source, {GROUP: {"odd": "odd:Odd"}})


async def test_what_a_driver_does_wrong_is_one_line(beside: Path, tmp_path: Path) -> None:
    install_odd(beside, ODD.format(wanted="machine"))
    driver = driver_named("odd")
    making = HostMaking(tmp_path, print, lambda machine: None)
    with pytest.raises(Unsupported, match=r"^the driver odd failed: ValueError: two lines,  \[31mred$"):
        await driver.check(MACHINE, print)
    with pytest.raises(Unsupported, match="TypeError: it returned NoneType, not a Machine"):
        await driver.make(MACHINE, making)
    with pytest.raises(Unsupported, match="failed: AttributeError"):
        await driver.power(MACHINE, PowerChange.STOP, making)
    with pytest.raises(Unsupported, match="failed: ZeroDivisionError"):
        await driver.state(MACHINE)
    assert await driver.remove(MACHINE, print) == ""
    assert isinstance(driver, Resizable)
    assert await driver.resize(MACHINE, "big", making) == MACHINE


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise RuntimeError('broken')", "cannot be loaded: RuntimeError"),
        ("x = 1", "cannot be loaded: AttributeError"),
        ("class Odd: pass", "cannot be asked what it is: AttributeError"),
        (ODD.replace('"odd-x"', '"name"'), "has an option --name, which does not begin with its name"),
        (
            ODD.replace('DriverOption(name="odd-x", help="x")', '"--odd-x"'),
            "an option that is no DriverOption",
        ),
    ],
)
async def test_what_cannot_be_a_driver_says_so(source: str, said: str, beside: Path) -> None:
    install_odd(beside, source)
    with pytest.raises(Unsupported, match=f"^the driver odd.*{said}"):
        driver_named("odd")
    with pytest.raises(NotFound, match=r"there is no driver nonesuch: .*generic.*odd"):
        driver_named("nonesuch")


@pytest.mark.real_time
async def test_a_driver_that_fails_ends_create_in_one_line(beside: Path, tmp_path: Path) -> None:
    install_odd(beside, ODD.format(wanted="machine"))
    done = await skep(beside, tmp_path, "create --driver odd --engine-only m0")
    assert (done.returncode, done.stderr) == (
        3,
        "Error with pre-create check: the driver odd failed: ValueError: two lines, [31mred\n",
    )
    (beside / "odd.py").write_text("raise RuntimeError('broken')")
    done = await skep(beside, tmp_path, "create --driver odd --engine-only m0")
    assert done.returncode == 3
    assert "cannot be loaded: RuntimeError('broken')" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "machine/machines/m0").exists()
