"""One TLS context for all machines of one authority."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from skep.machine import certs
from skep.machine.authority import authority, renew_client, write_certificates
from skep.machine.client_tls import machine_context
from skep.machine.store import MachineStore, make_directory
from skep.runtime.errors import Invalid

NOW = 1_800_000_000.0


def test_machines_of_one_authority_share_a_context(tmp_path: Path) -> None:
    store = MachineStore(tmp_path / "machine")
    for name in ("a", "b"):
        make_directory(store.directory(name))
        own = authority(store, "ada", NOW)
        write_certificates(store, name, own, certs.new_server(own.ca, "ada", ("10.0.0.5",), NOW))
    first = machine_context(store.directory("a"))
    assert machine_context(store.directory("b")) is first
    renew_client(store, "ada", NOW)
    own = authority(store, "ada", NOW)
    write_certificates(store, "b", own, certs.new_server(own.ca, "ada", ("10.0.0.5",), NOW))
    assert machine_context(store.directory("b")) is not first, "what was renewed counts"
    shutil.rmtree(store.directory("a"))
    with pytest.raises(Invalid, match=r"ca\.pem cannot be read"):
        machine_context(store.directory("a"))
