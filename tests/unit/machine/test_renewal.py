"""An authority that gives way to another: who is trusted at each step, and what an interruption leaves."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from skep.cli.machine.looking import ls_command
from skep.machine import certs, renewal
from skep.machine.authority import (
    authority,
    authority_ends,
    certificates_end,
    own_authorities,
    renew_client,
    write_certificates,
)
from skep.machine.record import EngineWish, Machine, SshPlace
from skep.machine.renewal import Stage
from skep.machine.store import MachineStore
from skep.runtime.errors import Conflict, Corrupt, Invalid

NOW = 1_800_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> MachineStore:
    return MachineStore(tmp_path / "machine")


def test_there_is_no_moment_in_which_a_client_is_not_trusted(store: MachineStore) -> None:
    before = authority(store, "ada", NOW)
    assert renewal.stage(store) is None
    assert renewal.begin(store, "ada", NOW) is Stage.BOTH
    between = authority(store, "ada", NOW)
    assert between.ca != before.ca
    assert between.client == before.client, "an engine that was not told yet trusts the old one alone"
    assert between.trusted == between.ca.certificate_pem + before.ca.certificate_pem
    assert authority(store, "ada", NOW) == between
    renewal.switch(store)
    after = authority(store, "ada", NOW)
    assert after.ca == between.ca
    assert after.trusted == after.ca.certificate_pem
    assert certs.is_of(after.client.certificate_pem, after.ca.certificate_pem)
    assert renewal.begin(store, "ada", NOW) is Stage.NEW, "until all machines were told"
    renewal.end(store)
    assert renewal.stage(store) is None
    assert own_authorities(store) == (after.ca.certificate_pem, before.ca.certificate_pem)
    for path in [*store.certs.iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.parametrize("killed_at", [1, 2, 3, 4])
def test_who_is_killed_in_the_middle_of_it_goes_on(
    store: MachineStore, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    """The switch replaces four files (two of them by Path.replace, in write_file)."""
    authority(store, "ada", NOW)
    renewal.begin(store, "ada", NOW)
    new = authority(store, "ada", NOW).ca
    calls = 0
    whole, whole_path = os.replace, Path.replace

    def counted() -> None:
        nonlocal calls
        calls += 1
        if calls == killed_at:
            raise KeyboardInterrupt

    def replace(source: Path, target: Path) -> None:
        counted()
        whole(source, target)

    def path_replace(self: Path, target: Path) -> Path:
        counted()
        return whole_path(self, target)

    monkeypatch.setattr("os.replace", replace)
    monkeypatch.setattr(Path, "replace", path_replace)
    with pytest.raises(KeyboardInterrupt):
        renewal.switch(store)
    monkeypatch.undo()
    if renewal.begin(store, "ada", NOW) is Stage.BOTH:
        renewal.switch(store)
    own = authority(store, "ada", NOW)
    assert own.ca == new
    assert certs.is_pair(own.ca)
    assert own.trusted == new.certificate_pem
    assert renewal.stage(store) is Stage.NEW


def test_an_authority_that_has_ended_or_lost_its_key_is_renewed_all_the_same(store: MachineStore) -> None:
    authority(store, "ada", NOW)
    (store.certs / "ca-key.pem").unlink()
    with pytest.raises(Corrupt):
        authority(store, "ada", NOW)
    after_its_end = NOW + 4000 * certs.DAY_S
    renewal.begin(store, "ada", after_its_end)
    own = authority(store, "ada", after_its_end)
    assert certs.is_of(own.client.certificate_pem, own.ca.certificate_pem), "the old client is of no use"
    renewal.switch(store)
    assert authority(store, "ada", after_its_end).ca == own.ca


def test_there_must_be_something_to_renew(store: MachineStore) -> None:
    with pytest.raises(Invalid, match="no authority yet"):
        renewal.begin(store, "ada", NOW)
    authority(store, "ada", NOW)
    renewal.begin(store, "ada", NOW)
    with pytest.raises(Conflict, match="is being renewed"):
        renew_client(store, "ada", NOW)


def test_when_certificates_end_is_known(store: MachineStore) -> None:
    assert authority_ends(store) is None
    own = authority(store, "ada", NOW)
    store.add(Machine(name="mg0", driver="generic", ssh=SshPlace(address="h"), engine=EngineWish()))
    assert certificates_end(store, "mg0") is None
    server = certs.new_server(own.ca, "ada", ("h",), NOW - certs.DAY_S)
    write_certificates(store, "mg0", own, server)
    assert certificates_end(store, "mg0") == NOW - certs.DAY_S + certs.LEAF_S
    assert authority_ends(store) == NOW + certs.CA_S


@pytest.mark.real_time
def test_certificates_that_end_soon_are_said(store: MachineStore) -> None:
    now = time.time()
    own = authority(store, "ada", now)
    for number, age_days in enumerate((1060, 1060, 1060, 10)):
        name = f"w{number}"
        engine = EngineWish(port=1)  # where nobody listens
        store.add(Machine(name=name, driver="generic", ssh=SshPlace(address="127.0.0.1"), engine=engine))
        write_certificates(
            store, name, own, certs.new_server(own.ca, "ada", ("h",), now - age_days * certs.DAY_S)
        )
    environment = {"MACHINE_STORAGE_PATH": str(store.path)}
    shown = CliRunner().invoke(ls_command, [], env=environment)
    assert "Certificates end, the first on" in shown.stderr
    assert shown.stderr.endswith("skep machine regenerate-certs 'w[0:2]'\n")
    as_json = CliRunner().invoke(ls_command, ["--format", "json", "w3"], env=environment)
    assert json.loads(as_json.stdout)["CertificatesEnd"].startswith("20")
    for file in renewal.CA:
        (store.certs / file).unlink()
    authority(store, "ada", now - 3640 * certs.DAY_S)
    shown = CliRunner().invoke(ls_command, ["w3"], env=environment)
    assert "The machines' CA ends on" in shown.stderr
    assert shown.stderr.endswith("skep machine regenerate-certs --ca\n")
