"""What every test may ask for. A missing engine or missing root fails the test, it never skips it."""

from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.images import IMAGE, busybox_tar
from tests.lane import Machine, own_network, run_directory

ENGINE_SH = Path(__file__).parents[1] / "scripts/engine.sh"
KEPT = "f"  # begins the names of directories that stay
LANE = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
if "PYTEST_XDIST_WORKER" in os.environ and os.geteuid() == 0:
    # Named namespaces are the machine's (tests/e2e/netns.py). Said here: folders' own conftests, which are read before
    # pytest is configured where they are named, may import what reads it.
    os.environ["SKEP_TEST_NETNS"] = f"{os.environ.get('SKEP_TEST_NETNS', 'skt')}{'abcdefgh'[int(LANE)]}"
MACHINE = pytest.StashKey[Machine]()
TIDY = ("unit", "simulation")  # folders whose tests close all they open
LONG = ("test_swarm2k_machines.py",)  # files with a test of several minutes, which come first in their folder
WAS_TIDY = pytest.StashKey[bool]()  # whether the test before was in one of them


# A test's time is the machine's, which others use as well.
settings.register_profile("skep", deadline=None)
settings.load_profile("skep")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") and os.geteuid() == 0:
        own_network()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with tests that are alone come in the middle of their folder. They wait for what a whole ./check does
    beside its first tests, and for what other lanes are at: no test of minutes is just before them. Later the
    simulation would have ended, which takes the processors that they leave."""
    places = {path: place for place, path in enumerate(_in_order(items))}
    items.sort(key=lambda item: places[item.path])
    for item in filter(_is_tidy, items):
        item.add_marker(pytest.mark.filterwarnings("error::ResourceWarning"))


def _in_order(items: list[pytest.Item]) -> Iterator[Path]:
    alone = {item.path for item in items if _is_alone(item)}
    folders: dict[Path, list[Path]] = {}
    for path in dict.fromkeys(item.path for item in items):
        folders.setdefault(path.parent, []).append(path)
    for folder in sorted(folders, key=str):
        others = [path for path in folders[folder] if path not in alone]
        others.sort(key=lambda path: path.name not in LONG)
        half = len(others) // 2
        yield from (*others[:half], *(path for path in folders[folder] if path in alone), *others[half:])


@pytest.hookimpl(
    wrapper=True, tryfirst=True
)  # around pytest-timeout: waiting for the machine is not the test's time
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    if _is_tidy(item) and not item.config.stash.get(WAS_TIDY, True):
        gc.collect()  # what others left open is not this test's
    item.config.stash[WAS_TIDY] = _is_tidy(item)
    run = run_directory()
    if run is None:
        return (yield)
    alone = _is_alone(item)
    machine = item.config.stash.setdefault(MACHINE, Machine(run))
    machine.take(alone)
    try:
        return (yield)
    finally:
        # Several such tests, one after the other, wait for the other lanes once.
        if not (alone and nextitem is not None and _is_alone(nextitem)):
            machine.give_back()


def _is_tidy(item: pytest.Item) -> bool:
    return item.nodeid.startswith(tuple(f"tests/{each}/" for each in TIDY))


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A command that failed is shown with what it said: its error has no more than its exit status."""
    report = yield
    error = call.excinfo.value if call.excinfo is not None else None
    if isinstance(error, subprocess.CalledProcessError) and error.stderr:
        said = error.stderr if isinstance(error.stderr, str) else error.stderr.decode(errors="replace")
        report.sections.append((f"what {error.cmd[0]} said", said))
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") is not None and os.geteuid() != 0:
        pytest.fail("this test needs root")


@pytest.fixture(scope="session")
def engine_socket() -> Iterator[str]:
    """The socket of a Docker Engine that tests may fill and empty: SKEP_TEST_ENGINE, or one of this lane's."""
    path, run = os.environ.get("SKEP_TEST_ENGINE", ""), run_directory()
    if path:
        yield path
        return
    if run is None or os.geteuid() != 0:
        pytest.fail(
            "this test needs a Docker Engine of its own: run ./check as root, or set SKEP_TEST_ENGINE"
        )
    directory = run / f"e{LANE}"
    start = [str(ENGINE_SH), "start", str(directory), f"skc{os.getpid() % 100000}e{LANE}"]
    started = subprocess.run(start, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if started.returncode != 0:
        pytest.fail(started.stderr)
    yield str(directory / "docker.sock")
    subprocess.run([str(ENGINE_SH), "stop", str(directory)], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def busybox_image(engine_socket: str) -> str:
    """The tag of an image with a shell and some tools, made from Debian's busybox-static."""
    command = ["docker", "-H", f"unix://{engine_socket}", "import", "-", IMAGE]
    subprocess.run(command, input=busybox_tar(), check=True, capture_output=True)
    return IMAGE


@pytest.fixture(scope="session")
def session_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a short path that stays until all tests are done."""
    return tmp_path_factory.mktemp(KEPT)


@pytest.fixture
def short_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory whose path leaves room for unix sockets."""
    made = tmp_path_factory.mktemp("d")
    yield made
    remove([made])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, None, None]:
    """What a file of tests has written goes with its last test: /tmp may be in memory, and each etcd sets aside
    130 MB for its log."""
    yield
    if nextitem is None or nextitem.path != item.path:
        base = item.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        remove([each for each in base.iterdir() if not each.name.startswith(KEPT)])


def remove(directories: list[Path]) -> None:
    """Removes what nobody needs any more; where no ./check does it in the end, it is left to be looked at."""
    if run_directory() is not None and directories:
        subprocess.run(["rm", "-rf", "--one-file-system", *map(str, directories)], check=False)
