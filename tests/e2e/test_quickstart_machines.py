"""`./quickstart machines`, as a new user has it: what it prints is typed, the host is rebooted, all of it goes."""

from __future__ import annotations

import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from skep.machine.record import EngineWish, Machine, SshPlace

from .hosts import wait_until
from .local_images import IMAGES, Owner
from .test_local_machines import what_there_is

ROOT = Path(__file__).parents[2]
NAMES = ["mg0", "mg1", "mg2", "w0", "w1"]
QUICKSTART_S = 200  # forty seconds where nothing else runs

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


class Newcomer(Owner):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.environment["SKEP_QUICKSTART_DIR"] = str(directory / "none")  # what `up` makes is another's

    def quickstart(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ROOT / "quickstart", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=QUICKSTART_S,
        )

    def started(self) -> str:
        done = self.quickstart("machines")
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def ready(self) -> int:
        said = self.shell("docker --context mg0 node ls --format '{{.Status}}'", check=False).stdout
        return said.split().count("Ready")


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    user = Newcomer(tmp_path / "n")
    before = what_there_is(user)
    try:
        yield user
    finally:
        down = user.quickstart("down")
        for name in user.store.names():
            user.skep("machine rm -f {}", name)
    assert down.returncode == 0, down.stderr
    assert f"rm -r {IMAGES}" in down.stdout, "where the image is kept"
    wait_until("nothing is left", lambda: what_there_is(user) == before)
    assert not user.hosts.exists()
    assert user.shell("docker context ls -q").stdout.split() == ["default"]
    assert user.ok("cluster ls") == ""
    assert "no quickstart swarm is here" in user.quickstart("status").stdout


def test_a_swarm_of_machines_that_survives_a_reboot_of_the_host(newcomer: Newcomer) -> None:
    said = newcomer.started()
    shown = re.findall(r"curl http://([0-9.]+):8080    # \w+\nhello from task \d on \w+\n", said)
    assert len(set(shown)) == 2, said
    assert newcomer.ready() == len(NAMES)
    assert newcomer.ok("cluster stats quickstart hello").strip() == "hello 3/3"
    typed = newcomer.shell(
        f"{said.splitlines()[-1]}; eval \"$(skep machine env mg1)\"; docker info -f '{{{{.Name}}}}'"
    )
    assert typed.stdout.strip() == "mg1"
    nodes = newcomer.shell("docker --context mg0 node ls -q").stdout

    reboot(newcomer)
    status = newcomer.quickstart("status").stdout
    assert status.count("Stopped") == len(NAMES)
    assert "no manager answers for the swarm of machines" in status
    again = newcomer.started()
    assert "service create" not in again
    wait_until("all are back", lambda: newcomer.ready() == len(NAMES))
    assert sorted(newcomer.shell("docker --context mg0 node ls -q").stdout.split()) == sorted(nodes.split())
    wait_until(
        "the service is back", lambda: "hello 3/3" in newcomer.skep("cluster stats quickstart hello").stdout
    )
    for address in shown:
        with urllib.request.urlopen(f"http://{address}:8080", timeout=10) as answer:
            assert answer.read().startswith(b"hello from task ")
    assert "hello" in newcomer.quickstart("status").stdout


def reboot(user: Newcomer) -> None:
    """Nothing is left of all machines' processes, nor of their network; what is on the disk stays."""
    user.ok("machine kill {} {} {} {} {}", *NAMES)
    (network,) = [each for each in what_there_is(user)["links"] if each.startswith("skepm")]
    subprocess.run(["ip", "link", "del", network.partition("@")[0]], check=True)
    subprocess.run(["umount", user.hosts / "bridge"], check=True)


def test_what_users_have_of_the_same_names_stays(tmp_path: Path) -> None:
    user = Newcomer(tmp_path / "n")
    before = what_there_is(user)
    own = Machine(name="w1", driver="generic", ssh=SshPlace(address="192.0.2.1"), engine=EngineWish())
    user.store.add(own)
    refused = user.quickstart("machines")
    assert refused.returncode == 1
    assert "you have machines of these names already, which stay as they are: w1" in refused.stderr
    assert user.store.names() == ["w1"]
    assert user.quickstart("down").returncode == 0
    assert user.store.load("w1") == own
    user.ok("machine rm -f w1")

    user.shell("docker context create mg2 --docker host=unix:///nowhere")
    refused = user.quickstart("machines")
    assert refused.returncode == 1
    assert "there is a docker context mg2 already" in refused.stderr
    assert not user.store.names()
    assert user.quickstart("machine").returncode == 1
    assert what_there_is(user) == before
    assert not user.hosts.exists()
