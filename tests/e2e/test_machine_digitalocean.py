"""`skep machine` with droplets: a fake of DigitalOcean's API gives out hosts with sshd and an engine, and switches them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers_page import install_example
from tests.fake_digitalocean import TOKEN, FakeDigitalOcean, Fault

from .hosts import wait_until
from .machine_hosts import MachineHost
from .machine_user import User
from .skep_cli import SKEP

pytestmark = pytest.mark.root
CREATE = "machine create --driver digitalocean --engine-only"


class Cloud:
    """The API, and one host that it has: what is ordered next gets it."""

    def __init__(self, directory: Path) -> None:
        self.host = MachineHost(directory, "d1", 4)
        self.api = FakeDigitalOcean(self._boot)
        self.api.switch = lambda on: self.host.cable("up" if on else "down")

    def _boot(self, name: str, keys: list[str]) -> str:
        (self.host.directory / "ssh").mkdir(parents=True, exist_ok=True)
        (self.host.directory / "ssh/authorized_keys").write_text("\n".join(keys) + "\n")
        return self.host.address


@pytest.fixture
def cloud(short_dir: Path) -> Iterator[Cloud]:
    made = Cloud(short_dir)
    try:
        with made.api.in_thread():
            made.host.start()
            yield made
    finally:
        made.host.stop()


@pytest.fixture
def user(short_dir: Path, cloud: Cloud) -> User:
    made = User(short_dir / "user")
    made.environment.update(DIGITALOCEAN_API_URL=cloud.api.url, DIGITALOCEAN_ACCESS_TOKEN=TOKEN)
    return made


def row(user: User, name: str) -> dict[str, str]:
    return next(json.loads(line) for line in user.ok("machine ls --format json").splitlines() if name in line)


def test_a_droplet_becomes_a_machine_and_is_resized_and_removed(cloud: Cloud, user: User) -> None:
    """The scenario's live upgrade: off, more memory, on."""
    said = user.ok(f"{CREATE} --digitalocean-tags swarm2k mg0")
    for line in (
        "A droplet s-1vcpu-1gb costs 6 USD a month",
        "(mg0) Creating SSH key...",
        "(mg0) Creating Digital Ocean droplet...",
        "(mg0) Waiting for IP address to be assigned to the Droplet...",
        "Docker is up and running!",
    ):
        assert line in said.splitlines()
    info = "docker $(skep machine config mg0) info --format '{{.Name}}'"
    assert user.shell(info).stdout.strip() == "mg0"
    assert user.ok("machine ip mg0").strip() == cloud.host.address
    assert user.ok("machine ssh mg0 hostname").strip() == "mg0"
    (droplet,) = cloud.api.droplets.values()
    assert user.ok("machine inspect -f {} mg0", "{{.Driver.DropletID}}").strip() == str(droplet.number)
    assert TOKEN not in user.ok("machine inspect mg0")

    refused = user.fails("machine resize mg0 --size s-2vcpu-4gb")
    assert "skep machine stop mg0 first, or --power-cycle" in refused
    resized = user.ok("machine resize mg0 --size s-2vcpu-4gb --power-cycle")
    assert [each["type"] for each in droplet.actions.values()] == ["shutdown", "resize", "power_on"]
    assert 'Machine "mg0" is s-2vcpu-4gb now.' in resized
    assert droplet.size == "s-2vcpu-4gb"
    assert user.shell(info).stdout.strip() == "mg0"

    user.ok("machine stop mg0")
    began = time.monotonic()
    assert row(user, "mg0")["State"] == "Stopped"
    assert time.monotonic() - began < 9, "it is not waited for"
    assert user.ok("machine status mg0").strip() == "Stopped"
    user.ok("machine start mg0")
    assert user.ok("machine status mg0").strip() == "Running"

    assert "Successfully removed mg0" in user.ok("machine rm -y mg0")
    assert not cloud.api.droplets
    assert not cloud.api.keys
    assert cloud.api.tokens == {f"Bearer {TOKEN}"}


def test_what_is_killed_in_the_middle_is_gone_on_with(cloud: Cloud, user: User) -> None:
    """The droplet is paid for by then, and has no address yet; nothing secret is seen of the process."""
    cloud.api.address_after = 1 << 30
    with subprocess.Popen(
        [SKEP, *CREATE.split(), "mg1"], env=user.environment, stdout=subprocess.DEVNULL
    ) as creating:
        wait_until(
            "it is ordered", lambda: any(each.looks > 1 for each in list(cloud.api.droplets.values())), 30
        )
        assert TOKEN.encode() not in Path(f"/proc/{creating.pid}/cmdline").read_bytes()
        creating.kill()
    assert row(user, "mg1")["State"] == "Half-made"
    cloud.api.address_after = 0
    user.ok("machine provision mg1")
    assert len(cloud.api.droplets) == 1
    assert user.shell("docker $(skep machine config mg1) info --format '{{.Name}}'").stdout.strip() == "mg1"
    for path in user.machines.rglob("*"):
        assert path.is_dir() or TOKEN not in path.read_text()
    user.ok("machine rm -y mg1")


def test_what_fails_is_one_line(cloud: Cloud, user: User) -> None:
    wrong = user.fails(f"{CREATE} mg2", status=3, DIGITALOCEAN_ACCESS_TOKEN="wrong")
    assert wrong == (
        "Error with pre-create check: DigitalOcean does not take the token of DIGITALOCEAN_ACCESS_TOKEN: Unable to"
        " authenticate you (request 4d9d8375)\n"
    )
    assert "requires a valid region" in user.fails(f"{CREATE} --digitalocean-region mars1 mg2", status=3)
    assert not (user.machines / "machines/mg2").exists()
    cloud.api.faults.append(Fault("POST", "/v2/droplets", "422"))
    assert "DigitalOcean refuses: Server was unable" in user.fails(f"{CREATE} mg2")
    assert "DigitalOcean refuses" in row(user, "mg2")["Error"]
    user.ok("machine rm -y mg2")
    assert not cloud.api.keys


def test_the_example_of_the_drivers_page_makes_a_machine(cloud: Cloud, user: User, short_dir: Path) -> None:
    site = short_dir / "site"
    site.mkdir()
    install_example(site)
    script = short_dir / "hosts.sh"
    script.write_text(f"#!/bin/sh\n[ $1 != make ] || echo {cloud.host.address}\necho $1 >>{short_dir}/told\n")
    script.chmod(0o755)
    cloud.host.let_in(user.key)
    user.environment["PYTHONPATH"] = os.pathsep.join(
        [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    user.ok(
        "machine create --driver command --engine-only --command-path {} --command-ssh-key {} c0",
        script,
        user.key,
    )
    assert user.shell("docker $(skep machine config c0) info --format '{{.Name}}'").stdout.strip() == "c0"
    user.ok("machine rm -y c0")
    assert (short_dir / "told").read_text().split() == ["make", "remove"]
