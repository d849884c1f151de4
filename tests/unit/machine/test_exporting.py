"""A machine for a colleague: sealed, opened, and what of it is believed."""

from __future__ import annotations

from pathlib import PurePath

import msgspec
import pytest
from msgspec.structs import replace

from skep.machine import certs, exporting
from skep.machine.drivers import HostMaking, PowerChange
from skep.machine.drivers.known import driver_names, driver_of
from skep.machine.exporting import ExportedMachine, imported, open_sealed, seal
from skep.machine.record import EngineWish, Machine, SshPlace, to_config
from skep.runtime.errors import Corrupt, Denied, Invalid, Unsupported

NOW = 1_800_000_000.0
SALT, NONCE, WORD = b"s" * exporting.SALT_BYTES, b"n" * exporting.NONCE_BYTES, "correct horse"
MACHINE = Machine(
    name="mg0",
    driver="digitalocean",
    ssh=SshPlace(address="10.0.0.5", user="ada", key="/home/ada/id"),
    engine=EngineWish(labels=("a=b",)),
    details={"AccessToken": "secret"},
)


@pytest.fixture(scope="module")
def exported() -> ExportedMachine:
    ca = certs.new_ca("ada", NOW)
    client = certs.new_client(ca, "bob", NOW)
    return ExportedMachine(
        name="mg0",
        config=msgspec.Raw(to_config(MACHINE, PurePath("/home/ada/m"))),
        trusted=ca.certificate_pem.decode(),
        certificate=client.certificate_pem.decode(),
        key=client.key_pem.decode(),
        host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA",
    )


def test_what_is_sealed_is_opened_by_its_passphrase_alone(exported: ExportedMachine) -> None:
    sealed = seal(exported, WORD, SALT, NONCE)
    assert b"PRIVATE" not in sealed
    opened = open_sealed(sealed, WORD)
    assert imported(opened, "mg0") == imported(exported, "mg0")
    with pytest.raises(Denied, match="the passphrase is another one, or the file was changed"):
        open_sealed(sealed, WORD + "s")
    for at in (len(exporting.MAGIC), len(exporting.MAGIC) + exporting.SALT_BYTES, len(sealed) - 1):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises(Denied):
            open_sealed(changed, WORD)


@pytest.mark.parametrize("content", [b"", b"skep machine export 2\n", exporting.MAGIC + b"short", b"x" * 100])
def test_what_is_no_export_is_said(content: bytes) -> None:
    with pytest.raises(Corrupt):
        open_sealed(content, WORD)
    with pytest.raises(Corrupt):
        open_sealed(exporting.MAGIC + b"x" * exporting.FILE_BYTES_MAX, WORD)


def test_a_passphrase_has_a_length(exported: ExportedMachine) -> None:
    for word in ("", "short", "x" * 2000):
        with pytest.raises(Invalid, match="8 characters"):
            seal(exported, word, SALT, NONCE)


def test_it_is_the_colleagues_and_nothing_of_its_makers_paths(exported: ExportedMachine) -> None:
    machine, client = imported(exported, "theirs")
    assert machine.name == "theirs"
    assert machine.ssh == SshPlace(address="10.0.0.5", user="ada")
    assert machine.details == {}
    assert certs.is_pair(client)
    assert b"/home/ada" not in to_config(machine, PurePath("/home/bob"))


def test_who_knows_the_passphrase_is_not_believed_everything(exported: ExportedMachine) -> None:
    other = certs.new_client(certs.new_ca("x", NOW), "x", NOW)
    hostile = [
        replace(exported, key=other.key_pem.decode()),
        replace(exported, trusted="nothing"),
        replace(exported, host_key="ssh-ed25519 AAAA\nhost2 ssh-ed25519 BBBB"),
        replace(exported, host_key="-oProxyCommand=x AAAAAAAAAAAAAAAAAAAA"),
        replace(exported, config=msgspec.Raw(b'{"ConfigVersion": 3, "Driver": {"IPAddress": "a b"}}')),
    ]
    for each in hostile:
        with pytest.raises(Corrupt):
            imported(each, "mg0")
    with pytest.raises((Corrupt, Invalid)):
        imported(exported, "../mg0")


async def test_what_the_colleague_cannot_do_is_said(exported: ExportedMachine) -> None:
    machine, _ = imported(exported, "mg0")
    driver = driver_of(machine)
    making = HostMaking(PurePath("/"), lambda _: None, lambda _: None)  # type: ignore[arg-type]
    with pytest.raises(Unsupported, match="by whoever has made it"):
        await driver.make(machine, making)
    with pytest.raises(Unsupported, match="switched on and off"):
        await driver.power(machine, PowerChange.STOP, making)
    assert "imported" not in driver_names()
