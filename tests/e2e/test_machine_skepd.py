"""`skep machine create` as it is by default: a bare host gets an engine and skepd, and is a swarm's first manager."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from skep.machine import bundle, certs
from skep.machine.authority import authority
from skep.machine.store import MachineStore
from tests.images import busybox_tar
from tests.wheels import make_wheel_house

from .hosts import wait_until
from .machine_hosts import MachineHost
from .machine_user import User

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]
CREATE = "machine create --driver generic --generic-ip-address {} {}"
PROGRAMS = "/usr/local/lib/skep/programs"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("m")


@pytest.fixture(scope="module")
def user(place: Path) -> User:
    return User(place / "user")


class Made(NamedTuple):
    """A host, and what was said of its disk on the way to a machine."""

    host: MachineHost
    was_small: str
    was_full: str
    left_of_full: str
    said: str


@pytest.fixture(scope="module")
def made(place: Path, user: User) -> Iterator[Made]:
    """A swarm's manager with a service, mg0, which the tests of this module share. Its disk was full twice: before
    anything was sent, and in the middle. Its libraries are of a wheel house."""
    made = MachineHost(place, "h4", 4)
    make_wheel_house(place / "wheels", "skep")
    try:
        made.start()
        made.let_in(user.key)
        made.run("mount -t tmpfs -o size=20m small /usr/local")
        was_small = user.fails(CREATE, made.address, "mg0")
        made.run("mount -o remount,size=400m,nr_inodes=500 /usr/local")
        again = f"machine provision mg0 --wheel-house {place}/wheels"
        was_full = user.fails(again)
        left = made.run("find /usr/local/lib/skep -mindepth 2")
        made.run("umount /usr/local")
        said = user.ok(again)
        user.docker("import - skep-test/busybox:latest", data=busybox_tar())
        user.docker("swarm init")
        user.docker("service create -d --name web --replicas 2 skep-test/busybox:latest sleep 1d")
        wait_until("two tasks run", lambda: user.docker("service ls --format {{.Replicas}}").strip() == "2/2")
        yield Made(made, was_small, was_full, left, said)
    finally:
        made.stop()


@pytest.fixture(scope="module")
def host(made: Made) -> MachineHost:
    return made.host


def test_a_full_disk_is_said_and_gone_on_from(made: Made) -> None:
    assert "the host has 19 MiB free in /usr/local" in made.was_small or "20 MiB" in made.was_small
    assert "cannot be unpacked" in made.was_full
    assert "No space left on device" in made.was_full
    assert made.left_of_full == "", "what was half unpacked is gone"
    assert "Installing skepd..." in made.said.splitlines()


def test_libraries_are_those_of_a_wheel_house(made: Made, place: Path) -> None:
    """No package index is within reach here."""
    assert made.host.run("ls /usr/local/lib/skep/libraries").split() == [
        bundle.libraries_name(this_python(), place / "wheels")
    ]


def this_python() -> bundle.LibrariesFor:
    return bundle.LibrariesFor("{}.{}".format(*sys.version_info[:2]), platform.machine())


def test_a_host_whose_clock_is_an_hour_wrong(short_dir: Path, user: User) -> None:
    """All of its programs have another clock, but for those of Go: it is a machine, and this is said."""
    library = Path(f"/usr/lib/{platform.machine()}-linux-gnu/faketime/libfaketime.so.1")
    assert library.exists(), "apt install libfaketime"
    host = MachineHost(short_dir, "h5", 5)
    try:
        host.start()
        host.let_in(user.key)
        host.run("mount -t tmpfs own /dev/shm")  # where that library keeps what it knows
        set_clock(host, library, "-2d")
        assert "the host's clock is 2 days behind" in user.fails(CREATE, host.address, "c0")
        assert host.run("ls /etc/docker") == "", "nothing was changed"
        set_clock(host, library, "-1h")
        assert "s behind: certificates" in user.ok("machine provision c0")
        environment = host.run(f"cat /proc/{pid_of_skepd(host)}/environ")
        assert "FAKETIME=-1h" in environment.split("\0"), "it is skepd's clock, too"
        assert user.ok("machine status c0").strip() == "Running"
        assert user.docker("version --format {{.Server.Version}}", "c0").strip()
        user.docker("swarm init", "c0")
        assert user.docker("node ls --format {{.Status}}", "c0").strip() == "Ready"
    finally:
        host.stop()
        user.skep("machine rm -f c0")


def set_clock(host: MachineHost, library: Path, off: str) -> None:
    """Has all that is started over SSH, and by that, have another clock."""
    config = host.directory / "ssh/sshd_config"
    kept = [line for line in config.read_text().splitlines() if not line.startswith("SetEnv")]
    own = f"SetEnv LD_PRELOAD={library} FAKETIME={off} FAKETIME_DONT_FAKE_MONOTONIC=1"
    config.write_text("\n".join([*kept, own, ""]))
    host.stop_sshd()
    host.start_sshd()


def pid_of_skepd(host: MachineHost) -> str:
    """Returns an empty text where none runs."""
    return host.run("pgrep -f '^/usr/bin/python3 .*bin/skepd --config'", check=False).strip()


def test_a_bare_host_runs_skepd_in_front_of_its_engine(host: MachineHost, user: User) -> None:
    # What the engine has, skepd says, too; and it answers by mutual TLS at the port that clients know.
    assert user.docker("info --format {{.Name}}").strip() == "mg0"
    # The engine keeps its own socket, and is in no swarm itself.
    engine = host.run("docker -H unix:///var/run/docker.sock info --format '{{.Swarm.LocalNodeState}}'")
    assert engine.strip() == "inactive"
    # What is typed on the host reaches the swarm.
    assert host.run("docker node ls --format '{{.Hostname}} {{.ManagerStatus}}'").strip() == "mg0 Leader"
    assert host.run("skep --version") == host.run("skepd --version").replace("skepd", "skep")


@pytest.mark.parametrize(
    ("who", "why"),
    [("nobody", "certificate required"), ("another CA's", "unknown ca"), ("expired", "certificate expired")],
)
def test_nobody_else_may_ask_it(who: str, why: str, host: MachineHost, user: User, tmp_path: Path) -> None:
    """And each is told why."""
    now = time.time()
    own = authority(MachineStore(user.machines), "ada", now).ca
    shown = {
        "another CA's": lambda: certs.new_client(certs.new_ca("eve", now), "eve", now),
        "expired": lambda: certs.new_client(own, "ada", now - 1200 * 86400),
    }
    options = ""
    if who in shown:
        client = shown[who]()
        (tmp_path / "cert").write_bytes(client.certificate_pem)
        (tmp_path / "key").write_bytes(client.key_pem)
        options = f"--cert {tmp_path}/cert --key {tmp_path}/key"
    url = f"https://{host.address}:2376/version"
    done = user.shell(f"curl -sS {options} --cacert {user.machines}/machines/mg0/ca.pem {url}", check=False)
    assert done.returncode != 0
    assert why in done.stderr.lower(), done.stderr


def test_no_key_is_where_others_may_read_it(host: MachineHost) -> None:
    config = host.run("stat -c %a /etc/docker/server-key.pem; cat /etc/skep/skepd.toml")
    assert config.startswith("600\n")
    assert "BEGIN" not in config


def test_provision_brings_another_skep_and_ends_no_container(host: MachineHost, user: User) -> None:
    before = (pid_of_skepd(host), user.docker("ps -q").split())
    assert len(before[1]) == 2
    said = user.ok("machine provision mg0")
    assert "Fetching skep's libraries" not in said
    wait_until("the swarm is back", lambda: user.docker("service ls --format {{.Replicas}}").strip() == "2/2")
    assert user.docker("ps -q").split() == before[1]
    assert pid_of_skepd(host) != before[0]
    # An older one stays as long as it is the last: what goes wrong can be gone back from.
    host.run(
        f"for n in 1 2 3; do mkdir {PROGRAMS}/skep-0.$n; touch -d 2020-01-0$n {PROGRAMS}/skep-0.$n; done"
    )
    user.ok("machine provision mg0")
    assert set(host.run(f"ls {PROGRAMS}").split()) == {"skep-0.3", bundle.program().name}
    wait_until("the swarm is back", lambda: user.docker("service ls --format {{.Replicas}}").strip() == "2/2")


def test_who_ends_skepd_has_it_started_again(host: MachineHost, user: User) -> None:
    before = pid_of_skepd(host)
    host.run(f"kill -9 {before}")
    wait_until("another runs", lambda: pid_of_skepd(host) not in ("", before))
    wait_until("it answers", lambda: user.skep("machine status mg0").stdout.strip() == "Running")
    host.run("/etc/init.d/skepd stop")
    assert not pid_of_skepd(host)
    assert user.ok("machine status mg0").strip() == "Stopped"
    host.run("/etc/init.d/skepd start")
    wait_until("it answers", lambda: user.skep("machine status mg0").stdout.strip() == "Running")
    wait_until("the swarm is back", lambda: user.docker("service ls --format {{.Replicas}}").strip() == "2/2")


def test_what_is_somebody_elses_is_not_taken(host: MachineHost, user: User) -> None:
    assert "without --engine-only" in user.fails(CREATE + " --engine-only", host.address, "mg9")
    user.ok("machine rm -y mg9")
    host.run("sed -i 1d /etc/skep/skepd.toml")
    assert "somebody else runs skepd there" in user.fails("machine provision mg0")
    assert json.loads(user.ok("machine inspect mg0"))["Skep"]["Skepd"] is True
