"""What a host lacks so that skepd runs there, in front of its engine."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from skep.machine import daemon_json, plan, unit
from skep.machine.facts import MachineFacts
from skep.machine.plan import InstallPackages, SendLibraries, SendProgram, StartEngine, StartSkepd, WriteFile
from skep.machine.record import EngineWish
from skep.machine.skepd_plan import (
    CONFIG,
    SCRIPT,
    UNIT,
    check_host,
    check_no_skepd,
    check_prepared,
    decide_skepd,
    packages,
)
from skep.machine.unit import MARK
from skep.runtime.errors import Conflict, Unavailable, Unsupported
from skep.runtime.settings import load_settings

from .test_plan import BY_SYSTEMD, FACTS
from .test_plan import UNIT as ENGINES_UNIT

HOST = replace(
    FACTS,
    architecture="x86_64",
    has_glibc=True,
    python="3.11",
    python_path="/usr/bin/python3",
    has_etcd=True,
    has_ip=True,
    has_iptables=True,
    has_libnftables=True,
    has_libbpf=True,
)
PACKAGED = {each: (files("skep.machine") / f"skepd.{each}").read_text() for each in ("service", "init")}


def decided(facts: MachineFacts) -> list[plan.Step]:
    return list(decide_skepd(facts, 2376, "py3.11-x", "skep-1", PACKAGED["service"], PACKAGED["init"]))


def written(facts: MachineFacts) -> dict[str, str]:
    return {each.path: each.content for each in decided(facts) if isinstance(each, WriteFile)}


@pytest.mark.parametrize(
    ("lacking", "package"),
    [
        ({"python": ""}, "python3"),
        ({"has_etcd": False}, "etcd-server"),
        ({"has_ip": False}, "iproute2"),
        ({"has_iptables": False}, "iptables"),
        ({"has_libnftables": False}, "libnftables1"),
    ],
)
def test_what_is_missing_is_installed(lacking: dict[str, object], package: str) -> None:
    facts = msgspec.structs.replace(HOST, **lacking)
    found = packages(facts)
    assert found is not None
    assert found.packages == (package,)
    assert found.kept_off == (("etcd",) if package == "etcd-server" else ()), "skepd starts its own"
    with pytest.raises(Conflict, match=package):
        packages(replace(facts, has_apt=False))


def test_a_host_that_has_all_gets_nothing() -> None:
    assert packages(HOST) is None
    assert packages(replace(HOST, has_libbpf=False, has_apt=False)) is None, "it is faster with it, no more"
    assert packages(replace(HOST, has_libbpf=False)) == InstallPackages("skepd's packages", (), ("libbpf1",))


def test_docker_and_skepds_packages_are_installed_at_once() -> None:
    facts = replace(HOST, dockerd="", has_etcd=False)
    (step,) = plan.decide_preparation(facts, "mg0", packages(facts))
    assert isinstance(step, InstallPackages)
    assert step.what == "Docker and skepd's packages"
    assert step.packages == ("docker.io", "iptables", "ca-certificates", "etcd-server")
    assert step.kept_off == ("etcd",)


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (replace(HOST, python="3.9"), "has Python 3.9: skepd needs 3.11"),
        (replace(HOST, architecture="riscv64"), "not for riscv64"),
        (replace(HOST, has_glibc=False), "another C library"),
    ],
)
def test_what_cannot_run_skepd_is_told_why(facts: MachineFacts, why: str) -> None:
    with pytest.raises(Unsupported, match=why):
        check_host(facts)


def test_a_host_is_looked_at_again_after_its_packages() -> None:
    """What it says then is what its libraries are called by, here too; packages may have brought nothing."""
    check_prepared(HOST)
    check_prepared(replace(HOST, has_libbpf=False))
    with pytest.raises(Unsupported, match="skep's libraries are there for"):
        check_prepared(replace(HOST, architecture="../../x"))
    with pytest.raises(Unavailable, match="still lacks python3, etcd-server"):
        check_prepared(replace(HOST, python="", has_etcd=False))


def test_somebody_elses_skepd_is_left_alone() -> None:
    for field in ("skepd_config", "skepd_unit", "skepd_script"):
        with pytest.raises(Conflict, match="did not write"):
            check_host(msgspec.structs.replace(HOST, **{field: "state_dir = '/data'\n"}))
        check_host(msgspec.structs.replace(HOST, **{field: f"{MARK}\n"}))


def test_a_full_disk_is_said_before_anything_is_sent() -> None:
    with pytest.raises(Conflict, match="99 MiB free in /var/lib"):
        check_host(replace(HOST, free_kib=99 * 1024))
    full = replace(HOST, local_free_kib=99 * 1024)
    with pytest.raises(Conflict, match="99 MiB free in /usr/local"):
        check_host(full)
    check_host(replace(full, free_kib=99 * 1024, skepd_libraries=("py3.11-x",)))


def test_a_plain_engine_does_not_push_skepd_aside() -> None:
    with pytest.raises(Conflict, match="skepd runs on the host"):
        check_no_skepd(replace(HOST, skepd_config=f"{MARK}\n"))
    check_no_skepd(HOST)


def test_what_is_there_is_not_sent_again() -> None:
    first = decided(HOST)
    assert first[:2] == [SendLibraries("py3.11-x"), SendProgram("skep-1")]
    assert first[-1] == StartSkepd(False, "py3.11-x", "skep-1")
    again = decided(replace(HOST, skepd_libraries=("py3.11-x",), skepd_programs=("skep-0", "skep-1")))
    assert again == first[2:]


def test_what_is_written_is_what_skepd_reads(tmp_path: Path) -> None:
    text = written(HOST)[CONFIG]
    (tmp_path / "skepd.toml").write_text(text)
    settings = load_settings({}, str(tmp_path / "skepd.toml"), {})
    assert settings.host == ["unix:///run/skep/skep.sock", "tcp://0.0.0.0:2376"]
    assert settings.tlsverify
    assert (settings.tlscacert, settings.engine) == (daemon_json.CA, "unix:///var/run/docker.sock")
    assert tomllib.loads(text)["tlskey"] == daemon_json.KEY


def test_who_starts_skepd_has_it_where_it_is() -> None:
    by_systemd = written(replace(HOST, has_systemd=True))
    assert SCRIPT not in by_systemd
    assert f"\nExecStart=/usr/local/lib/skep/bin/skepd --config {CONFIG}\n" in by_systemd[UNIT]
    by_script = written(HOST)
    assert UNIT not in by_script
    assert by_script[SCRIPT].startswith(f"#!/bin/sh\n{MARK}\n### BEGIN INIT INFO")
    assert f'\nDAEMON="/usr/local/lib/skep/bin/skepd --config {CONFIG}"\n' in by_script[SCRIPT]
    for each in (by_systemd, by_script):
        assert not any("/opt/skep" in text for text in each.values())
        assert all(MARK in text for text in each.values())


def test_a_starter_starts_what_it_names(tmp_path: Path) -> None:
    """Whatever else is installed there, and where the user is."""
    text = written(replace(HOST, python_path=sys.executable))["/usr/local/lib/skep/bin/skep"]
    program = tmp_path / "programs/skep-1/skep/cli"
    program.mkdir(parents=True)
    (program / "main.py").write_text("import sys\ndef main():\n    print('ours', sys.argv[1:])\n")
    starter = tmp_path / "skep"
    starter.write_text(text.replace("/usr/local/lib/skep", str(tmp_path)))
    starter.chmod(0o755)
    (tmp_path / "skep.py").write_text("print('not ours')")
    done = subprocess.run(
        [starter, "-a"], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("ours ['-a']\n", "")


def configured(facts: MachineFacts, wish: EngineWish = EngineWish()) -> tuple[dict[str, str], bool]:
    *steps, last = plan.decide_configuration(facts, wish, skepd=True)
    assert isinstance(last, StartEngine)
    return {each.path: each.content for each in steps if isinstance(each, WriteFile)}, last.anew


@pytest.mark.parametrize("facts", [FACTS, BY_SYSTEMD, replace(FACTS, daemon_json='{"mtu": 1400}')])
def test_an_engine_behind_skepd_is_left_as_it_is(facts: MachineFacts) -> None:
    """Its containers run on."""
    assert configured(facts) == ({}, False)


def test_its_options_are_the_engines_own() -> None:
    wish = EngineWish(options=("mtu=1400",), environment=("A=b",))
    changed, anew = configured(BY_SYSTEMD, wish)
    assert anew
    assert msgspec.json.decode(changed[daemon_json.PATH]) == {"mtu": 1400}
    assert 'Environment="A=b"' in changed[unit.DROP_IN]
    assert "ExecStart" not in changed[unit.DROP_IN], "it listens as it did"
    after = replace(
        BY_SYSTEMD,
        daemon_json=changed[daemon_json.PATH],
        unit=f"{ENGINES_UNIT}\n# {unit.DROP_IN}\n{changed[unit.DROP_IN]}",
    )
    assert configured(after, wish) == ({}, False)


def test_a_plain_machine_hands_its_port_over() -> None:
    plain = {
        each.path: each.content
        for each in plan.decide_configuration(BY_SYSTEMD, EngineWish())
        if isinstance(each, WriteFile)
    }
    facts = replace(
        BY_SYSTEMD,
        daemon_json=plain[daemon_json.PATH].replace("{", '{"mtu": 1400, ', 1),
        unit=f"{ENGINES_UNIT}\n# {unit.DROP_IN}\n{plain[unit.DROP_IN]}",
    )
    changed, anew = configured(facts)
    assert anew
    assert msgspec.json.decode(changed[daemon_json.PATH]) == {"mtu": 1400}
    assert "ExecStart" not in changed[unit.DROP_IN]


def test_docker_machines_own_command_line_gives_the_port_up() -> None:
    """Whoever moves from docker-machine keeps the storage driver, and has skepd in front."""
    theirs = (
        "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd -H tcp://0.0.0.0:2376 -H unix:///var/run/docker.sock"
        " --storage-driver overlay2 --tlsverify --tlscacert /etc/docker/ca.pem --tlscert /etc/docker/server.pem"
        " --tlskey /etc/docker/server-key.pem --label provider=generic\nEnvironment=\n"
    )
    facts = replace(BY_SYSTEMD, unit=f"{ENGINES_UNIT}\n# {unit.MACHINES_DROP_IN}\n{theirs}")
    changed, anew = configured(facts)
    assert anew
    (line,) = [each for each in changed[unit.DROP_IN].splitlines() if each.startswith("ExecStart=/")]
    assert "2376" not in line
    assert line.startswith("ExecStart=/usr/sbin/dockerd -H fd:// ")
    assert "--storage-driver" in line
    after = replace(facts, unit=f"{facts.unit}\n# {unit.DROP_IN}\n{changed[unit.DROP_IN]}")
    assert configured(after) == ({}, False)


def test_a_port_that_is_the_engines_is_not_taken() -> None:
    facts = replace(FACTS, daemon_json='{"hosts": ["unix:///var/run/docker.sock", "tcp://10.0.0.1:2376"]}')
    with pytest.raises(Conflict, match="listen at port 2376, where skepd is to"):
        configured(facts)
    assert configured(replace(FACTS, daemon_json='{"hosts": ["unix://", "tcp://10.0.0.1:2375"]}')) == (
        {},
        False,
    )
