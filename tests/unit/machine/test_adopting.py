"""Machines that come from another home's docker-machine."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from msgspec.structs import replace

from skep.machine import certs
from skep.machine.adopting import adopt, adopt_certificates, machines_in
from skep.machine.authority import authority, write_certificates
from skep.machine.store import MachineStore
from skep.runtime.errors import Conflict, NotFound
from tests.unit.machine.test_store import DOCKER_MACHINES

NOW = 1_800_000_000.0


@pytest.fixture
def other(tmp_path: Path) -> MachineStore:
    """What ada had, brought here: its paths are of her home."""
    made = MachineStore(tmp_path / "brought/.docker/machine")
    own = made.path / "machines/old"
    own.mkdir(parents=True)
    (own / "config.json").write_text(json.dumps(DOCKER_MACHINES))
    (own / "id_rsa").write_text("key")
    (own / "id_rsa").chmod(0o644)
    (own / "evil.sh").write_text("x")
    trust = authority(made, "ada", NOW)
    write_certificates(made, "old", trust, certs.new_server(trust.ca, "ada", ("h",), NOW))
    return made


def test_a_machine_comes_with_its_key_and_its_authority(tmp_path: Path, other: MachineStore) -> None:
    store = MachineStore(tmp_path / "machine")
    assert machines_in(tmp_path / "brought").path == other.path
    assert adopt_certificates(store, other) == "Their CA is yours now"
    assert adopt_certificates(store, other) == ""
    machine = adopt(store, other, "old")
    assert machine.ssh.key == str(store.directory("old") / "id_rsa")
    assert store.load("old") == machine
    assert authority(store, "bob", NOW).ca == authority(other, "ada", NOW).ca
    text = (store.directory("old") / "config.json").read_text()
    assert str(store.path) in text
    assert json.loads(text)["HostOptions"]["AuthOptions"]["CertDir"] == str(store.certs)
    assert not (store.directory("old") / "evil.sh").exists()
    for path in store.path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    with pytest.raises(Conflict, match="already exists"):
        adopt(store, other, "old")


def test_nobody_elses_config_says_where_your_token_goes(tmp_path: Path, other: MachineStore) -> None:
    """The driver would ask there how the machine is, with the token of whoever has adopted it."""
    path = other.directory("old") / "config.json"
    config = json.loads(path.read_text())
    config["Driver"]["APIURL"] = "https://api.digitalocean.example"
    path.write_text(json.dumps(config))
    store = MachineStore(tmp_path / "machine")
    machine = adopt(store, other, "old")
    assert "APIURL" not in machine.details
    assert "digitalocean.example" not in (store.directory("old") / "config.json").read_text()
    assert machine.details.keys() == other.load("old").details.keys() - {"APIURL"}


def test_an_authority_that_is_there_stays(tmp_path: Path, other: MachineStore) -> None:
    store = MachineStore(tmp_path / "machine")
    own = authority(store, "bob", NOW)
    assert "You have a CA already" in adopt_certificates(store, other)
    assert authority(store, "bob", NOW) == own
    lost = replace(other.load("old"), ssh=replace(other.load("old").ssh, key="/home/ada/.ssh/nowhere"))
    other.save(lost)
    assert adopt(store, other, "old").ssh.key == "", "a path of another home is no key here"


def test_a_directory_without_machines_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="has no machines"):
        machines_in(tmp_path)
