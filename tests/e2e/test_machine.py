"""`skep machine`: a bare host with sshd, from `create` to the docker client by mutual TLS, and what goes wrong."""

from __future__ import annotations

import json
import shlex
import stat
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.words import words

from .hosts import wait_until
from .machine_hosts import MachineHost, ssh_key
from .machine_user import User
from .skep_cli import SKEP

pytestmark = pytest.mark.root
UP = "systemctl is-system-running"
CREATE = "machine create --driver generic --engine-only --generic-ip-address {} {}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("m")


@pytest.fixture(scope="module")
def user(place: Path) -> User:
    return User(place / "user")


@pytest.fixture(scope="module")
def host(place: Path, user: User) -> Iterator[MachineHost]:
    """A host that is a machine of the user's, mg0: the tests of this module share it."""
    made = MachineHost(place, "h1", 1)
    try:
        made.start()
        made.let_in(user.key)
        user.ok(CREATE, made.address, "mg0")
        yield made
    finally:
        made.stop()


@pytest.fixture
def bare(short_dir: Path, user: User) -> Iterator[MachineHost]:
    """A host that nobody has been on yet."""
    made = MachineHost(short_dir, "h2", 2)
    try:
        made.start()
        made.let_in(user.key)
        yield made
    finally:
        made.stop()


def test_a_bare_host_becomes_a_machine(bare: MachineHost, user: User) -> None:
    said = user.ok(
        CREATE + " --engine-label rack=7 --engine-env A='b c' --tls-san mg1.example", bare.address, "mg1"
    )
    stages = [
        "Running pre-create checks...",
        "Creating machine...",
        "Waiting for SSH to be available...",
        "Detecting the provisioner...",
        "Provisioning with debian(init)...",
        "Copying certs to the local machine directory...",
        "Copying certs to the remote machine...",
        "Setting Docker configuration on the remote daemon...",
        "Checking connection to Docker...",
        "Docker is up and running!",
    ]
    assert [line for line in said.splitlines() if line in stages] == stages
    shown = subprocess.run(
        ["ssh-keygen", "-lf", bare.directory / "ssh/host_key"], check=True, capture_output=True, text=True
    ).stdout.split()[1]
    assert f"The host's SSH key is {shown}: no other is taken from now on" in said
    info = user.shell("docker $(skep machine config mg1) info --format '{{json .}}'").stdout
    assert json.loads(info)["Labels"] == ["rack=7"]
    assert json.loads(info)["Name"] == "mg1", "the host is called as the machine"
    assert b"A=b c" in (bare.root / f"proc/{dockerd(bare)}/environ").read_bytes().split(b"\0")
    listens = bare.run("cat /etc/docker/daemon.json")
    assert json.loads(listens)["hosts"] == ["unix:///var/run/docker.sock", "tcp://0.0.0.0:2376"]
    # Nothing secret is on a command line, or where others may read it, on either host.
    key = stat.S_IMODE((bare.root / "etc/docker/server-key.pem").stat().st_mode)
    assert key == 0o600
    for path in [user.machines, *user.machines.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    names = user.shell(f"openssl x509 -noout -text -in {user.machines}/machines/mg1/server.pem").stdout
    for each in (f"IP Address:{bare.address}", "DNS:localhost", "DNS:mg1.example"):
        assert each in names
    assert "TLS Web Server Authentication" in names
    assert "TLS Web Client Authentication" not in names
    user.ok("machine rm -y mg1")


def dockerd(host: MachineHost) -> str:
    return host.run("cat /var/run/docker.pid").strip()


def test_the_docker_client_has_it_by_environment_and_by_context(host: MachineHost, user: User) -> None:
    by_environment = user.shell(
        'eval "$(skep machine env mg0)"; docker info --format "{{.Name}} $DOCKER_MACHINE_NAME";'
        ' eval "$(skep machine env --unset)"; echo "${DOCKER_HOST-gone}"'
    )
    assert by_environment.stdout.split() == ["mg0", "mg0", "gone"]
    host.stop_sshd()  # nobody needs SSH any more
    assert user.shell("docker --context mg0 info --format '{{.Name}}'").stdout.strip() == "mg0"
    host.start_sshd()
    assert user.ok("machine ip mg0").strip() == host.address
    assert user.ok("machine url mg0").strip() == f"tcp://{host.address}:2376"
    assert user.ok("machine status mg0").strip() == "Running"
    several = user.skep("machine status mg0 mg7")
    assert (several.returncode, several.stdout) == (1, "mg0: Running\n")
    assert 'mg7: Docker machine "mg7" does not exist' in several.stderr
    assert user.ok("machine inspect -f '{{.Driver.IPAddress}} {{json .DriverName}}' mg0").strip() == (
        f'{host.address} "generic"'
    )
    assert user.ok("machine ssh mg0 hostname").strip() == "mg0"
    assert user.skep("machine ssh mg0 exit 7").returncode == 7


def _systemd_wants_other_cgroups() -> bool:
    said = subprocess.run(["/lib/systemd/systemd", "--version"], capture_output=True, text=True, check=True)
    return int(said.stdout.split()[1]) >= 258 and not Path("/sys/fs/cgroup/cgroup.controllers").exists()


def test_a_host_with_systemd(short_dir: Path, user: User) -> None:
    """Its unit's own command line stays, but for where it listens; a drop-in that is there is merged, or refused."""
    if _systemd_wants_other_cgroups():
        pytest.skip(
            "systemd from 258 on takes control groups of version 2 only, and this kernel has version 1"
        )
    host = MachineHost(short_dir, "h3", 3, by="systemd")
    try:
        host.start()
        host.let_in(user.key)
        wait_until("systemd is up", lambda: host.run(UP, check=False).strip() in ("running", "degraded"))
        own = "/etc/systemd/system/docker.service.d/own.conf"
        host.run(f"printf '[Service]\\nExecStart=\\nExecStart=/usr/sbin/dockerd -D\\n' >{own}")
        assert "own.conf sets the engine's command line" in user.fails(CREATE, host.address, "sd0")
        host.run(f"rm {own}; systemctl daemon-reload")
        user.ok("machine rm -y sd0")
        assert "Provisioning with debian(systemd)..." in user.ok(
            CREATE + " --engine-env A=b%c", host.address, "sd0"
        )
        assert (
            user.shell("docker $(skep machine config sd0) info --format '{{.Name}}'").stdout.strip() == "sd0"
        )
        assert b"A=b%c" in (host.root / f"proc/{dockerd(host)}/environ").read_bytes().split(b"\0")
        assert host.run("systemctl is-enabled docker.service").strip() == "enabled"
        host.run("echo '{\"nonesuch\": 1}' >/etc/docker/daemon.json")
        host.run("systemctl restart docker", check=False)
        said = user.fails("machine provision sd0")
        assert "nonesuch" in said, "what the engine says of it"
        assert "nor by the files of before: the engine does not start" in said
        host.run("rm /etc/docker/daemon.json; systemctl reset-failed docker; systemctl restart docker")
        config = user.machines / "machines/sd0/config.json"
        wished = json.loads(config.read_text())
        wished["HostOptions"]["EngineOptions"]["ArbitraryFlags"] = ["dns=nowhere"]
        config.write_text(json.dumps(wished))
        said = user.fails("machine provision sd0")
        assert "it runs by the files of before again" in said
        assert "nowhere" in said
        assert host.run("systemctl is-active docker.service").strip() == "active"
    finally:
        host.stop()
        user.skep("machine rm -f sd0")


def test_who_has_no_certificate_of_the_machines_authority_is_refused(
    host: MachineHost, user: User, place: Path
) -> None:
    own = user.machines / "machines/mg0"
    without = user.shell(f"docker --tls --tlscacert {own}/ca.pem -H {host.address}:2376 version", check=False)
    assert without.returncode != 0
    assert "certificate" in without.stderr
    plain = user.shell(f"curl -sS http://{host.address}:2376/version", check=False)
    assert "HTTPS server" in plain.stdout + plain.stderr
    # A client of another authority, which trusts this machine's.
    other = place / "other"
    user.shell(
        f"mkdir -p {other}; cd {other}; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
        " -keyout key.pem -out cert.pem -subj /CN=client -days 2"
    )
    stranger = user.shell(
        f"docker --tlsverify --tlscacert {own}/ca.pem --tlscert {other}/cert.pem --tlskey {other}/key.pem"
        f" -H {host.address}:2376 version",
        check=False,
    )
    assert stranger.returncode != 0


def test_the_name_of_a_machine_is_taken(host: MachineHost, user: User) -> None:
    said = user.fails(CREATE, host.address, "mg0", status=3)
    assert said == 'Error with pre-create check: Docker machine "mg0" already exists\n'
    assert 'Docker machine "mg7" does not exist.' in user.fails("machine ip mg7")


def test_what_cannot_be_made_is_said_before_anything_is(user: User) -> None:
    assert "requires the --generic-ip-address" in user.fails("machine create --driver generic mg9", status=3)
    assert "there is no driver cloud: generic" in user.fails("machine create --driver cloud mg9", status=3)
    assert "SSH key does not exist" in user.fails(
        CREATE, "10.214.7.99", "mg9", status=3, GENERIC_SSH_KEY="/nowhere/id"
    )
    assert "tlsverify is set by skep" in user.fails(
        CREATE + " --engine-opt tlsverify=false", "10.214.7.99", "mg9", status=3
    )
    assert not (user.machines / "machines/mg9").exists()


def test_a_key_that_the_host_does_not_know_leaves_a_machine_that_can_be_gone_on_with(
    bare: MachineHost, user: User, place: Path
) -> None:
    wrong = ssh_key(place, "wrong")
    user.shell("docker context create mg2 --docker host=unix:///nowhere")
    began = time.monotonic()
    said = user.fails(CREATE, bare.address, "mg2", GENERIC_SSH_KEY=str(wrong))
    assert time.monotonic() - began < 20, "it does not wait for what will not change"
    assert "does not let us in" in said
    assert str(wrong) in said
    row = next(json.loads(line) for line in user.ok("machine ls --format json").splitlines() if "mg2" in line)
    assert row["State"] == "Half-made"
    assert "does not let us in" in row["Error"]
    assert "skep machine provision mg2" in user.fails("machine config mg2")
    bare.let_in(wrong)
    assert "a docker context mg2 already, which is not skep's" in user.ok("machine provision mg2")
    assert user.shell("docker $(skep machine config mg2) info --format '{{.Name}}'").stdout.strip() == "mg2"
    user.ok("machine rm -y mg2")
    assert "mg2" in user.shell("docker context ls --format '{{.Name}}'").stdout.split(), "it was not skep's"


def test_keys_are_the_agents_or_at_their_usual_place_where_none_is_named(
    bare: MachineHost, user: User, place: Path
) -> None:
    without = User(place / "without")
    del without.environment["GENERIC_SSH_KEY"]
    own = without.key.rename(place / "without/agents")
    bare.let_in(user.key)
    said = without.fails(CREATE, bare.address, "ag0")
    assert "no key of yours is among those of user root there" in said
    (bare.directory / "ssh/authorized_keys").write_text((place / "without/id.pub").read_text())
    done = without.shell(f"eval $(ssh-agent); ssh-add {own}; skep machine provision ag0; kill $SSH_AGENT_PID")
    assert "Checking connection to Docker..." in done.stdout, done.stderr
    assert without.ok("machine status ag0").strip() == "Running"
    (place / "without/.ssh").mkdir(mode=0o700, exist_ok=True)  # OpenSSH 10.1 has agents' sockets there
    own.rename(place / "without/.ssh/id_ed25519")
    assert "(ag1) No SSH key specified. Assuming an existing key at the default location." in without.ok(
        CREATE, bare.address, "ag1"
    )


def test_another_host_key_is_refused_until_it_is_said_to_be_right(host: MachineHost, user: User) -> None:
    before = (host.directory / "ssh/host_key").read_bytes()
    host.stop_sshd()
    host.new_host_key()
    host.start_sshd()
    said = user.fails("machine provision mg0")
    assert "is not the one that it had when it was seen first" in said
    assert "skep machine forget-host-key" in said
    refused = user.skep("machine ssh mg0 true")
    assert refused.returncode == 255, "OpenSSH's client is held to the same key"
    user.ok("machine forget-host-key mg0")
    user.ok("machine provision mg0")
    assert user.ok("machine ssh mg0 hostname").strip() == "mg0"
    assert before != (host.directory / "ssh/host_key").read_bytes()


def test_a_host_whose_sshd_comes_later_is_waited_for(bare: MachineHost, user: User) -> None:
    bare.stop_sshd()
    command = [SKEP, *words(CREATE, bare.address, "mg3")]
    seen = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=user.environment) as creating:
        assert creating.stdout is not None
        for line in creating.stdout:
            seen.append(line)
            if "not yet" in line:
                assert "Connection refused" in line
                bare.start_sshd()
    assert creating.returncode == 0, seen
    assert any("not yet" in line for line in seen)
    user.ok("machine rm -y mg3")


def test_what_the_host_has_of_its_own_is_merged_or_refused(bare: MachineHost, user: User) -> None:
    bare.run('echo \'{"hosts": ["tcp://127.0.0.1:2375"], "debug": true}\' >/etc/docker/daemon.json')
    said = user.fails(CREATE, bare.address, "mg4")
    assert "says where its engine listens" in said
    assert "127.0.0.1:2375" in bare.run("cat /etc/docker/daemon.json"), "it is as it was"
    assert bare.run("hostname").strip() == "h2-before"
    bare.run('echo \'{"debug": true, "labels": ["own=1"]}\' >/etc/docker/daemon.json')
    user.ok("machine provision mg4")
    merged = json.loads(bare.run("cat /etc/docker/daemon.json"))
    assert merged["debug"] is True
    assert merged["labels"] == ["own=1"]
    # And an engine that another has started is not fought with.
    bare.run("/etc/init.d/docker stop; dockerd --config-file /etc/docker/daemon.json >/dev/null 2>&1 &")
    wait_until("it runs", lambda: (bare.root / "run/docker.pid").exists())
    assert "that /etc/init.d/docker has not started" in user.fails("machine provision mg4")
    user.ok("machine rm -y mg4")


def test_an_engine_that_does_not_start_says_why(bare: MachineHost, user: User) -> None:
    began = time.monotonic()
    said = user.fails(CREATE + " --engine-opt storage-driver=nonesuch", bare.address, "mg5")
    assert "the engine does not start: " in said
    assert "driver not supported" in said, "its own words"
    assert "it runs by the files of before again" in said
    assert time.monotonic() - began < 30, "it is not waited for what has ended"
    assert bare.run("ls /etc/docker/daemon.json", check=False) == "", "there was none"
    assert bare.run("docker -H unix:///var/run/docker.sock version --format '{{.Server.Version}}'").strip()
    user.ok("machine rm -f mg5")
    assert "mg5" not in user.ok("machine ls -q").split()


def test_an_engine_that_ran_runs_on_where_it_does_not_take_an_option(host: MachineHost, user: User) -> None:
    config = user.machines / "machines/mg0/config.json"
    before, on_host = config.read_text(), host.run("cat /etc/docker/daemon.json")
    wished = json.loads(before)
    wished["HostOptions"]["EngineOptions"]["ArbitraryFlags"] = ["storage-driver=nonesuch"]
    config.write_text(json.dumps(wished))
    try:
        said = user.fails("machine provision mg0")
    finally:
        config.write_text(before)
    assert "driver not supported" in said
    assert "it runs by the files of before again" in said
    assert host.run("cat /etc/docker/daemon.json") == on_host
    assert user.ok("machine status mg0").strip() == "Running"


def test_a_machine_is_removed_with_its_context(bare: MachineHost, user: User) -> None:
    user.ok(CREATE, bare.address, "mg6")
    assert "mg6" in user.shell("docker context ls --format '{{.Name}}'").stdout.split()
    assert "goes on as it is" in user.ok("machine rm -y mg6")
    assert "mg6" not in user.shell("docker context ls --format '{{.Name}}'").stdout.split()
    assert not (user.machines / "machines/mg6").exists()
    assert "ok" in bare.run("docker version >/dev/null && echo ok"), "its engine runs on"


def test_certificates_are_made_anew(host: MachineHost, user: User) -> None:
    own = user.machines / "machines/mg0"
    before = (own / "server.pem").read_bytes(), (own / "cert.pem").read_bytes()
    user.ok("machine regenerate-certs -f --client-certs mg0")
    after = (own / "server.pem").read_bytes(), (own / "cert.pem").read_bytes()
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert user.shell("docker --context mg0 info --format '{{.Name}}'").stdout.strip() == "mg0"


def test_a_dead_host_costs_one_time_out_however_many_there_are(host: MachineHost, user: User) -> None:
    """Thirty machines at an address where nobody is: their SYNs are answered by nothing."""
    config = json.loads((user.machines / "machines/mg0/config.json").read_text())
    config["Driver"]["IPAddress"] = "10.214.7.250"
    for number in range(30):
        own = user.machines / f"machines/dead{number}"
        own.mkdir(mode=0o700)
        (own / "config.json").write_text(json.dumps(config))
        for file in ("ca.pem", "cert.pem", "key.pem"):
            (own / file).write_bytes((user.machines / "machines/mg0" / file).read_bytes())
    subprocess.run(["ip", "route", "replace", "10.214.7.250/32", "dev", "lo"], check=True)
    try:
        began = time.monotonic()
        rows = [json.loads(line) for line in user.ok("machine ls -t 2 --format json").splitlines()]
        took_s = time.monotonic() - began
    finally:
        subprocess.run(["ip", "route", "del", "10.214.7.250/32"], check=False, capture_output=True)
    states = {row["Name"]: row["State"] for row in rows}
    assert states.pop("mg0") == "Running"
    assert set(states.values()) <= {"Timeout", "Stopped"}
    assert took_s < 10
    names = shlex.join(sorted(states))
    user.ok(f"machine rm -f {names}")


def test_machines_made_at_the_same_time_have_one_authority(bare: MachineHost, place: Path) -> None:
    """Before, each of several that began at once made the authority, and the last one's counted."""
    newcomer = User(place / "newcomer")
    bare.let_in(newcomer.key)
    with ThreadPoolExecutor() as pool:
        # One host will do: all of them come as far as the certificates, one after the other on the host.
        list(pool.map(lambda name: newcomer.skep(CREATE, bare.address, name), ("a1", "a2", "a3")))
    authorities = {path.read_bytes() for path in newcomer.machines.glob("machines/*/ca.pem")}
    assert len(list(newcomer.machines.glob("machines/*/ca.pem"))) == 3
    assert len(authorities) == 1
