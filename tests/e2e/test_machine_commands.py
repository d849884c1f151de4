"""`skep machine` on several machines at once: made by one command, and looked after by ranges of names."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.words import words

from .hosts import wait_until
from .machine_hosts import NETWORK, MachineHost
from .machine_user import User
from .netns import ip
from .skep_cli import SKEP

pytestmark = pytest.mark.root
CREATE = "machine create --driver generic --engine-only --generic-ip-address {} {}"
FIRST = 11  # hosts' numbers; those of other files are below


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> User:
    return User(tmp_path_factory.mktemp("c") / "user")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory, user: User) -> Iterator[list[MachineHost]]:
    """Three hosts; the first two are machines of the user's, c1 and c2, and the third does not let them in."""
    place = tmp_path_factory.mktemp("h")
    made = [MachineHost(place, f"h{number}", FIRST + number) for number in range(3)]
    try:
        for each in made:
            each.start()
        for each in made[:2]:
            each.let_in(user.key)
        addresses = f"{NETWORK}.[{FIRST + 1}:{FIRST + 3}]"
        done = user.skep(CREATE, addresses, "c[1:3]")
        _check_created(done.returncode, done.stdout, done.stderr)
        user.ok("machine rm -y c3")
        yield made
    finally:
        for each in made:
            each.stop()


def _check_created(status: int, out: str, err: str) -> None:
    """Two of three were made, and what became of the third is said."""
    assert status == 1, out + err
    for name in ("c1", "c2"):
        assert f"({name}) Provisioning with debian(init)..." in out
        assert f"({name}) Done" in out
    assert "Docker is up and running!" not in out
    table = err[err.index("1 of 3 machines failed:") :].splitlines()
    assert re.match(r"  c3  root@\S+, port 22: it does not let us in", table[1])
    assert table[2] == "Go on with them, once the reasons are gone: skep machine provision c3"


def test_ranges_of_names_are_taken_by_all(hosts: list[MachineHost], user: User) -> None:
    assert user.ok("machine ip c[1:2]").split() == [each.address for each in hosts[:2]]
    assert user.ok("machine status c[1:2]").splitlines() == ["c1: Running", "c2: Running"]
    for name in ("c1", "c2"):
        assert user.shell(f"docker --context {name} info --format '{{{{.Name}}}}'").stdout.strip() == name
    assert "ends before it begins" in user.fails("machine ip c[2:1]")
    assert "values: 2, machines: 3" in user.fails(CREATE, f"{NETWORK}.[101:102]", "d[1:3]", status=3)


def test_a_command_runs_on_all_of_a_range_and_options_are_sshs(hosts: list[MachineHost], user: User) -> None:
    done = user.skep("machine ssh c[1:2] hostname; test $(hostname) = c1")
    assert sorted(done.stdout.splitlines()) == ["(c1) c1", "(c2) c2"]
    assert (done.returncode, done.stderr) == (1, "Error: c2: it ended with status 1\n")
    assert user.ok("machine ssh c1 -o LogLevel=QUIET echo -n x") == "x"
    assert "options of ssh are for one machine" in user.fails("machine ssh c[1:2] -L 1:h:2")


def test_files_are_copied_to_from_and_between_machines(
    hosts: list[MachineHost], user: User, short_dir: Path
) -> None:
    (short_dir / "d").mkdir()
    (short_dir / "d/a b").write_text("it's")
    user.ok("machine scp -r -q {} c1:/root/", short_dir / "d")
    user.ok("machine scp -r c1:/root/d c2:")  # at home there
    assert hosts[1].run("cat '/root/d/a b'") == "it's"
    user.ok("machine scp {} c[1:2]:/tmp/", short_dir / "d/a b")
    assert [each.run("cat '/tmp/a b'") for each in hosts[:2]] == ["it's", "it's"]
    user.ok("machine scp -q c2:/etc/hostname {}", short_dir / "name")
    assert (short_dir / "name").read_text() == "c2\n"
    assert "neither x nor y is a machine's" in user.fails("machine scp x y")
    assert "skep machine scp -r c1:/root ." in user.fails("machine mount c1:/root")


def test_which_machine_is_active_and_how_they_are(hosts: list[MachineHost], user: User) -> None:
    assert user.shell('eval "$(skep machine env c2)"; skep machine active').stdout == "c2\n"
    assert "No active host found" in user.fails("machine active")
    versions = [json.loads(line) for line in user.ok("machine version --format json c[1:2]").splitlines()]
    assert [each["Name"] for each in versions] == ["c1", "c2"]
    assert versions[0]["Version"]
    assert user.ok("machine version").startswith("skep ")
    assert user.ok("machine ls -q --filter name=2$ --filter state=running").split() == ["c2"]
    assert user.ok("machine ls --filter driver=none").split()[0] == "NAME"
    assert len(user.ok("machine ls c[1:2]").splitlines()) == 3
    status = json.loads(user.ok("machine status --format json c1"))
    assert status == {"Name": "c1", "State": "Running", "Error": ""}
    assert json.loads(user.ok("machine inspect --format json c1"))["Name"] == "c1"


def test_a_colleague_has_a_machine_and_a_certificate_of_their_own(
    hosts: list[MachineHost], user: User, short_dir: Path
) -> None:
    colleague = User(short_dir / "colleague")
    file, word = short_dir / "c1.machine", {"SKEP_EXPORT_PASSPHRASE": "correct horse"}
    said = user.ok("machine export c1 {} --for bob", file, **word)
    assert "is let in until the certificate ends" in said
    assert "to all of your machines" in said
    assert file.stat().st_mode & 0o777 == 0o600
    assert "is there already" in user.fails("machine export c1 {}", file, **word)
    assert "the passphrase is another one" in colleague.fails(
        "machine import {}", file, SKEP_EXPORT_PASSPHRASE="wrong horse"
    )
    colleague.ok("machine import {} theirs", file, **word)
    assert "already exists" in colleague.fails("machine import {} theirs", file, **word)
    info = colleague.shell("docker $(skep machine config theirs) info --format '{{.Name}}'")
    assert info.stdout.strip() == "c1"
    assert colleague.shell("docker --context theirs info --format '{{.Name}}'").stdout.strip() == "c1"
    own = colleague.machines / "machines/theirs"
    assert (own / "cert.pem").read_bytes() != (user.machines / "machines/c1/cert.pem").read_bytes()
    assert not (colleague.machines / "certs").exists(), "the CA's key stays where it is"
    assert str(user.machines) not in (own / "config.json").read_text()
    assert "by whoever has made it" in colleague.fails("machine provision theirs")
    assert user.ok("machine status c1").strip() == "Running"


def test_an_authority_is_renewed_though_a_machine_lets_nobody_in(
    hosts: list[MachineHost], user: User
) -> None:
    """Nobody is shut out half way: the old client and the new one are both let in until all machines were told."""
    own = user.machines / "machines/c1"
    before = {file: (own / file).read_bytes() for file in ("ca.pem", "cert.pem", "key.pem")}
    (hosts[1].directory / "ssh/authorized_keys").write_text("")
    said = user.fails("machine regenerate-certs --ca -f")
    hosts[1].let_in(user.key)
    assert "1 of 2 machines failed:" in said
    assert "Nobody is shut out. Go on" in said
    for name in ("c1", "c2"):
        assert user.ok(f"machine status {name}").strip() == "Running"
    old = own.parent / "old"
    old.mkdir()
    for file, content in before.items():
        (old / file).write_bytes(content)
    (old / "ca.pem").write_bytes((own / "ca.pem").read_bytes())
    client = f"docker --tlsverify --tlscacert {old}/ca.pem --tlscert {old}/cert.pem --tlskey {old}/key.pem"
    client += f" -H {hosts[0].address}:2376 version"
    assert user.shell(client, check=False).returncode == 0, "the old client is let in still"
    assert "of the new authority" in user.ok("machine regenerate-certs --ca -f --at-a-time 2")
    assert user.shell(client, check=False).returncode != 0
    assert (own / "ca.pem").read_bytes().count(b"BEGIN CERTIFICATE") == 1
    assert before["ca.pem"] not in (own / "ca.pem").read_bytes()
    assert user.ok("machine status c[1:2]").splitlines() == ["c1: Running", "c2: Running"]
    assert user.shell("docker --context c2 info --format '{{.Name}}'").stdout.strip() == "c2"


def test_a_machine_whose_address_changed_is_known_by_its_key(hosts: list[MachineHost], user: User) -> None:
    other = f"{NETWORK}.{FIRST + 50}"
    assert "is not the one that it had" in user.fails(
        f"machine regenerate-certs -f --ip {hosts[1].address} c1"
    )
    assert user.ok("machine ip c1").strip() == hosts[0].address
    ip("-n", hosts[0].namespace, "addr", "add", f"{other}/24", "dev", "eth0")
    ip("route", "replace", f"{other}/32", "dev", f"{hosts[0].namespace}h", "src", f"{NETWORK}.1")
    assert "No docker context" not in user.ok(f"machine regenerate-certs -f --ip {other} c1")
    assert user.ok("machine url c1").strip() == f"tcp://{other}:2376"
    assert user.shell("docker --context c1 info --format '{{.Name}}'").stdout.strip() == "c1"


def _systemd_wants_other_cgroups() -> bool:
    said = subprocess.run(["/lib/systemd/systemd", "--version"], capture_output=True, text=True, check=True)
    return int(said.stdout.split()[1]) >= 258 and not Path("/sys/fs/cgroup/cgroup.controllers").exists()


def test_a_host_is_restarted_and_shut_down_from_within(short_dir: Path, user: User) -> None:
    """Its first process ends it, in its own namespace; who has the plug (this test) switches it on again."""
    if _systemd_wants_other_cgroups():
        pytest.skip(
            "systemd from 258 on takes control groups of version 2 only, and this kernel has version 1"
        )
    host = MachineHost(short_dir, "h9", FIRST + 9, by="systemd")
    try:
        host.start()
        host.let_in(user.key)
        wait_until(
            "systemd is up",
            lambda: host.run("systemctl is-system-running", check=False).strip() in ("running", "degraded"),
        )
        user.ok(CREATE, host.address, "p1")
        assert "skep machine stop p1" in user.fails("machine kill p1")
        assert user.ok("machine start p1").strip() == 'Machine "p1" is already running.'
        with subprocess.Popen(
            [SKEP, *words("machine restart p1")], stdout=subprocess.PIPE, text=True, env=user.environment
        ) as restarting:
            wait_until("it goes off", lambda: not host.is_on)
            host.power_on()
            out, _ = restarting.communicate(timeout=60)
        assert restarting.returncode == 0, out
        assert out.splitlines()[-1] == 'Machine "p1" was restarted.'
        assert user.ok("machine status p1").strip() == "Running", "its engine was waited for"
        assert 'Machine "p1" was stopped.' in user.ok("machine stop p1")
        wait_until("it is off", lambda: not host.is_on)
        assert user.ok("machine status p1").strip() in ("Stopped", "Timeout")
    finally:
        host.stop()
        user.skep("machine rm -f p1")
