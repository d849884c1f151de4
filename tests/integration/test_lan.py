"""The hosts that ./quickstart makes on this machine: whole again when asked again, and nobody else's taken away."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.root


def ran(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def lan(*arguments: str | Path) -> str:
    return ran(str(ROOT / "scripts/lan.sh"), *map(str, arguments)).strip()


def refused(*arguments: str | Path) -> str:
    command = [ROOT / "scripts/lan.sh", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    return done.stderr


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    made = tmp_path / "a", tmp_path / "b"
    for each in made:
        each.mkdir()
    yield made
    for each in made:
        lan("down", each)


def bridge_of(home: Path) -> str:
    return lan("device", home, "h").removesuffix("-h")


def addresses(home: Path, host: str) -> str:
    return lan("in", home, host, "ip", "-4", "-br", "addr", "show", "eth0")


def links() -> str:
    return ran("ip", "-br", "link")


def test_two_have_networks_of_their_own_and_leave_nothing(homes: tuple[Path, Path]) -> None:
    first, second = homes
    before = links(), ran("iptables-save", "-t", "filter").count("-A")
    for home in homes:
        lan("up", home, "h", "i")
    assert lan("address", first, "h").endswith(".1")
    assert lan("address", first, "i") in addresses(first, "i")
    assert lan("address", first, "h") != lan("address", second, "h")
    assert "no host nobody is here" in refused("address", first, "nobody")
    for home in homes:
        lan("down", home)
        assert not (home / "lan").exists()
    assert (links(), ran("iptables-save", "-t", "filter").count("-A")) == before


def test_what_is_missing_is_made_again_at_the_same_address(homes: tuple[Path, Path]) -> None:
    home, _ = homes
    lan("up", home, "h", "i")
    address, device = lan("address", home, "i"), lan("device", home, "i")
    ran("ip", "link", "set", device, "down")
    lan("up", home, "h", "i")
    assert "LOWER_UP" in ran("ip", "link", "show", device), "a cable that was pulled"
    lan("in", home, "i", "ip", "link", "del", "eth0")
    lan("up", home, "h", "i")
    assert address in addresses(home, "i"), "a host whose making was interrupted"
    ran("ip", "link", "del", bridge_of(home))
    lan("up", home, "h", "i")
    assert "10.213." in lan("in", home, "i", "ip", "route", "get", lan("address", home, "h"))
    assert f"master {bridge_of(home)}" in ran("ip", "link", "show", device)


def test_who_has_its_network_by_now_keeps_it(homes: tuple[Path, Path]) -> None:
    """As after a restart of the machine, when another one was first."""
    first, second = homes
    lan("up", first, "h")
    number = (first / "lan").read_text()
    (second / "lan").write_text(number)
    assert "somebody else has network 10.213." in refused("up", second, "h")
    lan("down", second)
    assert bridge_of(first) in links()
    assert lan("address", first, "h") in addresses(first, "h")


def test_of_a_network_that_is_gone_nothing_is_looked_for_here(homes: tuple[Path, Path]) -> None:
    """Its number may be another one's by now, in this network."""
    home, _ = homes
    lan("up", home, "h")
    bridge, kept = bridge_of(home), (home / "lan").read_text()
    (home / "lan").write_text("".join(f"{line}\n" for line in kept.splitlines() if "network" not in line))
    lan("down", home)
    assert bridge in links()
    (home / "lan").write_text(kept)
