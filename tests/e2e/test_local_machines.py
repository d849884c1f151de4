"""Machines out of namespaces on this host, from `create` to nothing left: as real as others for who uses them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.words import words

from .hosts import wait_until
from .local_images import Owner, local_image
from .skep_cli import SKEP

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]
CREATE = "machine create --driver local --engine-only {}"
GROUPS = Path("/sys/fs/cgroup")


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    """Somebody with a machine, mg0, which the tests of this module share. All that was made is gone in the end."""
    owner = Owner(tmp_path_factory.mktemp("l") / "owner")
    before = what_there_is(owner)
    try:
        owner.ok(CREATE, "mg0")
        yield owner
    finally:
        there_was = what_there_is(owner)
        for name in owner.store.names():
            owner.skep("machine rm -f {}", name)
    wait_until("nothing is left", lambda: what_there_is(owner) == before)
    assert not owner.hosts.exists()
    assert all(there_was.values()), "what is looked for is what there was"


def what_there_is(owner: Owner) -> dict[str, list[str]]:
    """Returns what a machine could leave of itself, of this lane's and this owner's."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
    owner.seen |= {each.name for each in (owner.hosts / "hosts").glob("*")}
    return {
        "mounts": [line for line in mounts if str(owner.hosts) in line],
        "links": [line.split(": ")[1] for line in links.splitlines()],
        "rules": [line for line in rules.splitlines() if "skep-machines" in line],
        "groups": [str(each) for name in owner.seen for each in GROUPS.glob(f"**/skep-machines/{name}")],
        "processes": processes_of(owner),
    }


def processes_of(owner: Owner) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended
        if str(owner.hosts) in line:
            found.append(line)
    return found


def test_a_machine_is_a_host_of_its_own(owner: Owner) -> None:
    init = {"systemd": "systemd", "sysv": "init"}[local_image().init]
    assert owner.docker_by_config("mg0", "info --format '{{.Name}} {{.Driver}}'") == "mg0 overlay2"
    assert owner.shell("docker --context mg0 info --format '{{.Name}}'").stdout.strip() == "mg0"
    assert owner.on("mg0", "hostname; cat /proc/1/comm; id -un").split() == ["mg0", init, "root"]
    if init == "systemd":
        assert owner.on("mg0", "systemctl is-system-running") == "running"
    assert len(owner.on("mg0", "cat /etc/machine-id")) == 32
    config = json.loads(owner.ok("machine inspect mg0"))
    assert config["DriverName"] == "local"
    assert config["Driver"]["SSHKeyPath"] == str(owner.machines / "machines/mg0/id_ed25519")
    assert owner.ok("machine ip mg0").strip() in owner.on("mg0", "hostname -I").split()
    # This host's kernel is not the machine's to set, nor is its clock.
    assert owner.on(
        "mg0",
        "exec 2>/dev/null; (echo 1 >/proc/sys/kernel/panic) || echo no;"
        " (echo 0 >/sys/kernel/profiling) || echo no; date -s @0 >/dev/null || echo no;"
        " echo 1 >/proc/sys/net/ipv4/ip_forward && echo yes",
    ).split() == ["no", "no", "no", "yes"]
    assert owner.ok("machine provision mg0"), "what is whole is provisioned again"


def test_a_machine_is_switched_off_and_on(owner: Owner) -> None:
    owner.on("mg0", "echo kept >/root/kept; echo kept >/var/lib/skep/kept; sync")
    mac = owner.on("mg0", "cat /sys/class/net/eth0/address")
    first = owner.init("mg0")
    owner.ok("machine stop mg0")
    owner.ok("machine stop mg0")  # what is so already
    assert owner.ok("machine status mg0").strip() == "Stopped"
    rows = [json.loads(line) for line in owner.ok("machine ls --format json").splitlines()]
    assert [(row["Name"], row["State"]) for row in rows] == [("mg0", "Stopped")]
    assert "Host is not running" in owner.fails("machine provision mg0")
    assert not Path(f"/proc/{first}").exists()
    assert not processes_of(owner)
    owner.ok("machine start mg0")
    owner.ok("machine start mg0")
    assert owner.on("mg0", "cat /root/kept /var/lib/skep/kept").split() == ["kept", "kept"]
    assert owner.on("mg0", "cat /sys/class/net/eth0/address") == mac, "nobody's table of neighbours is wrong"
    wait_until("its engine is back", lambda: owner.ok("machine status mg0").strip() == "Running")
    assert owner.docker_by_config("mg0", "info --format '{{.Name}}'") == "mg0"


def test_a_machine_is_unplugged_and_reboots(owner: Owner) -> None:
    first = owner.init("mg0")
    owner.ok("machine restart mg0")
    second = owner.init("mg0")
    assert first != second
    owner.skep("machine ssh mg0 reboot")  # by itself; the connection may end before the command does
    wait_until("it has rebooted", lambda: is_back(owner, second))
    began = time.monotonic()
    owner.ok("machine kill mg0")
    assert time.monotonic() - began < 15, "nobody is asked"
    assert owner.ok("machine status mg0").strip() == "Stopped"
    assert not processes_of(owner)
    owner.ok("machine restart mg0")  # of one that is off
    owner.skep("machine ssh mg0 poweroff")
    wait_until("it is off", lambda: not processes_of(owner))
    owner.ok("machine start mg0")


def is_back(owner: Owner, before: int) -> bool:
    try:
        return owner.init("mg0") != before and owner.skep("machine ssh mg0 true").returncode == 0
    except FileNotFoundError:
        return False


def test_after_a_boot_of_this_host_machines_are_off_and_start(owner: Owner) -> None:
    """Nothing is left of processes and namespaces, and its files name processes that are others' now."""
    own = owner.hosts / "hosts" / owner.host("mg0")
    owner.ok("machine kill mg0")
    link = next(each for each in what_there_is(owner)["links"] if each.startswith("skepm")).partition("@")[0]
    subprocess.run(["ip", "link", "del", link], check=True)
    subprocess.run(["umount", owner.hosts / "bridge"], check=True)
    for each in ("init", "supervisor"):
        (own / each).write_text(f"{os.getpid()} 1 11111111-2222-3333-4444-555555555555\n")
    assert owner.ok("machine status mg0").strip() == "Stopped"
    owner.ok("machine start mg0")
    assert owner.on("mg0", "hostname") == "mg0"


def test_three_at_once_reach_each_other_and_go(owner: Owner) -> None:
    names = ("w1", "w2", "w3")
    with ThreadPoolExecutor() as pool:
        made = list(
            pool.map(lambda name: owner.skep(CREATE + " --local-memory 512m --local-cpus 1", name), names)
        )
    assert [each.returncode for each in made] == [0, 0, 0], [each.stderr for each in made]
    addresses = [owner.ok("machine ip {}", name).strip() for name in names]
    assert len(set(addresses)) == 3
    assert (
        len({owner.on(name, "cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub") for name in names}) == 3
    )
    for address in (*addresses, owner.ok("machine ip mg0").strip()):
        owner.on("w1", f"ping -c 1 -W 5 {address}")
    # A swarm of Docker's own, as on any hosts.
    owner.docker_by_config("w1", "swarm init --advertise-addr eth0")
    token = owner.docker_by_config("w1", "swarm join-token -q worker")
    owner.docker_by_config("w2", f"swarm join --token {token} {addresses[0]}:2377")
    assert owner.docker_by_config("w1", "node ls -q").count("\n") == 1
    group = Path(f"/sys/fs/cgroup/memory/skep-machines/{owner.host('w3')}/memory.limit_in_bytes")
    if group.exists():
        assert int(group.read_text()) == 512 << 20
    left = owner.ok("machine rm -y {} {} {}", *names)
    assert "base images" not in left, "another machine is there"
    assert owner.store.names() == ["mg0"]
    assert len(list((owner.hosts / "hosts").iterdir())) == 1
    assert owner.on("mg0", "hostname") == "mg0"


@pytest.mark.parametrize("seen", ["its name", "its host", "its first process"])
def test_a_creation_that_is_killed_goes_on_or_is_removed(owner: Owner, seen: str) -> None:
    """At each of three moments; once it goes on, always it can be removed."""
    config = owner.machines / "machines/k1/config.json"
    is_there: dict[str, Callable[[], bool]] = {
        "its name": config.exists,
        "its host": lambda: any(owner.hosts.glob("hosts/k1-*/host.json")),
        "its first process": lambda: any(owner.hosts.glob("hosts/k1-*/init")),
    }
    with subprocess.Popen(
        [SKEP, *words(CREATE, "k1")],
        env=owner.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as creating:
        while not is_there[seen]():
            assert creating.poll() is None
            time.sleep(0.002)
        creating.send_signal(signal.SIGKILL)
    assert owner.ok("machine status k1").strip() == "Half-made"
    if seen == "its host":
        owner.ok("machine provision k1")
        assert owner.docker_by_config("k1", "info --format '{{.Name}}'") == "k1"
    owner.ok("machine rm -y k1")
    assert not list(owner.hosts.glob("hosts/k1-*"))
    assert not [each for each in processes_of(owner) if "k1" in each]


def test_what_cannot_be_is_said_before_anything_is_made(owner: Owner) -> None:
    for options, reason in (
        ("--local-release sid", "it is one of bookworm, trixie, testing"),
        ("--local-memory 1", "a machine takes 128 MB or more"),
        ("--local-network 10.9.8.0/24", "have the network"),
        ("--local-directory relative", "it is a whole path"),
    ):
        assert reason in owner.fails(f"{CREATE} {options}", "no1", status=3)
    assert "no1" not in owner.store.names()
