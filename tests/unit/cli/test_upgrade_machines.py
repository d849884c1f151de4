"""`skep cluster upgrade-managers` of machines: what is run for each."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from skep.cli.machine.managers import command_for
from skep.cli.recovery import cluster
from skep.cli.upgrade_plan import Seat, filled, names_the_node
from skep.runtime.errors import Invalid

SEAT = Seat(
    id="i",
    name="mg0",
    addr="",
    role="manager",
    is_ready=True,
    is_member=True,
    is_leader=False,
    is_reachable=True,
)


@pytest.mark.parametrize(
    ("said", "run"),
    [
        (("16gb", False, False), "/b/skep machine resize --size 16gb --power-cycle mg0"),
        (("", True, False), "/b/skep machine upgrade mg0 && /b/skep machine provision mg0"),
        (("", False, True), "/b/skep machine restart mg0"),
        (
            ("a b", True, True),
            "/b/skep machine upgrade mg0 && /b/skep machine provision mg0"
            " && /b/skep machine resize --size 'a b' --power-cycle mg0",
        ),
    ],
)
def test_what_is_run_for_a_manager(said: tuple[str, bool, bool], run: str) -> None:
    command = command_for(*said, skep="/b/skep")
    assert names_the_node(command)
    assert filled(command, SEAT) == run


def test_a_size_is_not_filled_in() -> None:
    with pytest.raises(Invalid, match="a brace in"):
        command_for("{addr}", False, False, skep="/b/skep")


def test_what_is_filled_in_is_not_filled_in_again() -> None:
    """A name that looks like a field stays within its quotes."""
    odd = replace(SEAT, name="a{addr}", addr="; reboot")
    assert filled("x {name}", odd) == "x 'a{addr}'"


def test_machines_are_a_clusters(tmp_path: Path) -> None:
    """Another swarm's nodes may be called as the user's machines."""
    for words, why in (
        (["--power-cycle"], "Say whose managers"),
        (["--run", "x {name}", "--packages"], "Say what upgrades"),
        (["--power-cycle", "--cluster", "demo", "-H", "tcp://x"], "leave --host out"),
        (["--power-cycle", "--cluster", "demo"], "there is no cluster demo"),
    ):
        done = CliRunner().invoke(
            cluster, ["upgrade-managers", *words], env={"MACHINE_STORAGE_PATH": str(tmp_path)}
        )
        assert done.exit_code != 0
        assert why in done.output + str(done.exception)
