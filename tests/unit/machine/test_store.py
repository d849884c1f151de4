"""Machines on disk: who may read them, what is written at the same time, what docker-machine left."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from skep.machine import certs
from skep.machine.authority import authority, renew_client, write_certificates
from skep.machine.record import HALF_MADE, EngineWish, Machine, SshPlace
from skep.machine.store import FILE_BYTES_MAX, MachineStore, default_path
from skep.runtime.errors import Conflict, Corrupt, Invalid, NotFound

NOW = 1_800_000_000.0
DOCKER_MACHINES = {
    "ConfigVersion": 3,
    "Driver": {
        "IPAddress": "203.0.113.7",
        "MachineName": "old",
        "SSHUser": "ubuntu",
        "SSHPort": 2222,
        "SSHKeyPath": "/home/ada/.docker/machine/machines/old/id_rsa",
        "StorePath": "/home/ada/.docker/machine",
        "SwarmMaster": False,
        "EnginePort": 2376,
        "SSHKey": "/home/ada/.ssh/id_rsa",
    },
    "DriverName": "generic",
    "HostOptions": {
        "Driver": "",
        "Memory": 0,
        "EngineOptions": {"ArbitraryFlags": None, "Labels": ["a=b"], "InstallURL": "https://get.docker.com"},
        "SwarmOptions": {"IsSwarm": False},
        "AuthOptions": {"ServerCertSANs": ["old.example"]},
    },
    "Name": "old",
}


def a_machine(name: str = "mg0", **more: str) -> Machine:
    return Machine(
        name=name,
        driver="generic",
        ssh=SshPlace(address="10.0.0.5", user="ada", port=2222, key="/k"),
        engine=EngineWish(port=2377, options=("dns=10.0.0.1",), labels=("a=b",), tls_sans=("x",)),
        **more,
    )


@pytest.fixture
def store(tmp_path: Path) -> MachineStore:
    return MachineStore(tmp_path / "deep" / "machine")


def test_what_is_written_is_read(store: MachineStore) -> None:
    store.add(a_machine(state=HALF_MADE, why="the plug"))
    assert store.names() == ["mg0"]
    assert store.load("mg0") == a_machine(state=HALF_MADE, why="the plug")


def test_nobody_else_may_read_anything(store: MachineStore) -> None:
    store.add(a_machine())
    own = authority(store, "ada", NOW)
    write_certificates(store, "mg0", own, certs.new_server(own.ca, "ada", ("10.0.0.5",), NOW))
    store.pin_host_key("mg0", "ssh-ed25519 AAAA")
    paths = [store.path, *store.path.rglob("*")]
    assert len(paths) == 16
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_name_is_taken_once(store: MachineStore) -> None:
    store.add(a_machine())
    with pytest.raises(Conflict, match='Docker machine "mg0" already exists'):
        store.add(a_machine())
    (store.directory("mg0") / "config.json").unlink()
    store.add(a_machine())  # of one that was being made, whose process was killed
    assert store.names() == ["mg0"]


@pytest.mark.parametrize("name", ["", "../x", "-x", "a b", "a/b", "x" * 64, "a\n"])
def test_a_name_is_no_path(store: MachineStore, name: str) -> None:
    with pytest.raises(Invalid, match="Invalid machine name"):
        store.load(name)


def test_what_is_not_there_is_said_in_docker_machines_words(store: MachineStore) -> None:
    for ask in (store.load, store.remove, store.config, store.forget_host_key):
        with pytest.raises(NotFound, match='Docker machine "mg0" does not exist'):
            ask("mg0")
    assert store.names() == []
    assert not store.path.exists(), "who only looks makes nothing"


def test_a_machine_is_removed_whatever_is_wrong_with_it(store: MachineStore) -> None:
    store.add(a_machine())
    (store.directory("mg0") / "config.json").write_text("{")
    with pytest.raises(Corrupt, match="mg0"):
        store.load("mg0")
    store.remove("mg0")
    assert not store.directory("mg0").exists()


def test_docker_machines_own_is_read_and_what_it_has_besides_stays(store: MachineStore) -> None:
    own = store.path / "machines/old"
    own.mkdir(parents=True)
    (own / "config.json").write_text(json.dumps(DOCKER_MACHINES))
    found = store.load("old")
    assert found.is_whole
    assert found.url == "tcp://203.0.113.7:2376"
    assert found.ssh == SshPlace(
        address="203.0.113.7",
        user="ubuntu",
        port=2222,
        key="/home/ada/.docker/machine/machines/old/id_rsa",
    )
    assert found.engine == EngineWish(labels=("a=b",), tls_sans=("old.example",))
    store.save(found)
    after = store.config("old")
    assert after["HostOptions"]["EngineOptions"]["InstallURL"] == "https://get.docker.com"
    assert after["HostOptions"]["SwarmOptions"] == {"IsSwarm": False}
    assert store.load("old") == found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ConfigVersion": 1}, "version 1"),
        ({"Driver": {"IPAddress": "a b"}}, "neither an IP address"),
        ({"Driver": {"IPAddress": "10.0.0.1", "SSHPort": 70000}}, "no port"),
        ({"Driver": []}, "cannot be used"),
        ({"HostOptions": {"EngineOptions": {"Labels": "a"}}}, "no list"),
    ],
)
def test_a_config_that_cannot_be_used_is_said(
    store: MachineStore, change: dict[str, object], said: str
) -> None:
    own = store.path / "machines/old"
    own.mkdir(parents=True)
    (own / "config.json").write_text(json.dumps({**DOCKER_MACHINES, **change}))
    with pytest.raises(Corrupt, match=said):
        store.load("old")
    (own / "config.json").write_bytes(b" " * (FILE_BYTES_MAX + 1))
    with pytest.raises(Invalid, match="more than"):
        store.load("old")


def test_the_storage_path_is_docker_machines() -> None:
    assert default_path({"MACHINE_STORAGE_PATH": "/srv/m"}) == Path("/srv/m")
    assert default_path({}) == Path("~/.docker/machine").expanduser()


def test_a_file_where_the_directory_should_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "machine").write_text("")
    with pytest.raises(Invalid, match="cannot be made"):
        MachineStore(tmp_path / "machine").add(a_machine())


def test_a_disk_that_is_full_is_said_and_leaves_what_was_there(store: MachineStore, tmp_path: Path) -> None:
    store.add(a_machine())
    (store.directory("mg0") / f".config.json.{os.getpid()}").mkdir()  # in the way of the new file
    with pytest.raises(Invalid, match="cannot be written"):
        store.save(a_machine(why="x"))
    assert store.load("mg0") == a_machine()


def _take(path: Path, found: multiprocessing.Queue[bytes]) -> None:
    ca, client, _ = authority(MachineStore(path), "ada", NOW)
    found.put(ca.certificate_pem + client.certificate_pem)


def test_of_many_that_begin_at_once_all_have_one_authority(store: MachineStore) -> None:
    """docker-machine's #3634, #4005: each made its own, and the last one's counted."""
    context = multiprocessing.get_context("fork")
    found: multiprocessing.Queue[bytes] = context.Queue()
    takers = [context.Process(target=_take, args=(store.path, found)) for _ in range(8)]
    for taker in takers:
        taker.start()
    seen = {found.get(timeout=30) for _ in takers}
    for taker in takers:
        taker.join(30)
    found.close()
    found.join_thread()
    assert len(seen) == 1


def test_a_client_that_ends_soon_is_made_anew_and_the_authority_never(store: MachineStore) -> None:
    ca, client, _ = authority(store, "ada", NOW)
    assert authority(store, "ada", NOW + 1000 * certs.DAY_S)[:2] == (ca, client)
    later_ca, later, _ = authority(store, "ada", NOW + 1060 * certs.DAY_S)
    assert later_ca == ca
    assert later != client
    renew_client(store, "ada", NOW + 1060 * certs.DAY_S)
    assert authority(store, "ada", NOW + 1060 * certs.DAY_S)[1] != later
    with pytest.raises(Corrupt, match="has expired"):
        authority(store, "ada", NOW + 4000 * certs.DAY_S)


def test_a_client_of_another_authority_is_made_anew(store: MachineStore) -> None:
    authority(store, "ada", NOW)
    for name in ("ca.pem", "ca-key.pem"):
        (store.certs / name).unlink()
    ca, client, _ = authority(store, "ada", NOW)
    assert certs.is_of(client.certificate_pem, ca.certificate_pem)


def test_half_an_authority_is_not_made_whole_by_another(store: MachineStore) -> None:
    authority(store, "ada", NOW)
    (store.certs / "ca-key.pem").unlink()
    with pytest.raises(Corrupt, match=r"only one of ca\.pem and ca-key\.pem"):
        authority(store, "ada", NOW)


def test_docker_machine_can_list_what_skep_has_made(store: MachineStore) -> None:
    """Its `ls` looks into SwarmOptions of all machines, and ends where there are none."""
    store.add(a_machine())
    assert store.config("mg0")["HostOptions"]["SwarmOptions"]["Master"] is False


def test_a_key_that_is_another_certificates_is_noticed(store: MachineStore) -> None:
    ca, *_ = authority(store, "ada", NOW)
    other = certs.new_client(ca, "ada", NOW)
    (store.certs / "key.pem").write_bytes(other.key_pem)  # of a process that was killed after the first file
    _, client, _ = authority(store, "ada", NOW)
    assert certs.is_pair(client)
    (store.certs / "ca-key.pem").write_bytes(other.key_pem)
    with pytest.raises(Corrupt, match=r"ca-key\.pem is not ca\.pem's key"):
        renew_client(store, "ada", NOW)
    assert (store.certs / "cert.pem").read_bytes() == client.certificate_pem, "nothing is lost by it"
