"""`skep cluster create`, run again."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from skep.cli.machine import wishes
from skep.cli.machine.cluster import create_command
from skep.machine.making import Maker
from skep.machine.record import EngineWish, Machine, SshPlace
from skep.machine.store import MachineStore


def test_what_is_said_for_all_machines_counts_for_the_missing_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address for each of them, though some are there by now."""
    monkeypatch.setenv("MACHINE_STORAGE_PATH", str(tmp_path))
    MachineStore(tmp_path).add(
        Machine(name="mg0", driver="generic", ssh=SshPlace(address="192.0.2.1"), engine=EngineWish())
    )
    checked: list[Machine] = []

    async def check(self: Maker, driver: object, machine: Machine) -> None:
        checked.append(machine)
        raise wishes.SkepError("no more is tried here")

    monkeypatch.setattr(Maker, "check", check)
    words = ["demo", "--managers", "mg[0:1]", "--generic-ip-address", "192.0.2.[1:2]"]
    done = CliRunner().invoke(create_command, words)
    assert done.exit_code == wishes.PRE_CHECK_STATUS
    assert [(each.name, each.ssh.address) for each in checked] == [("mg1", "192.0.2.2")]
