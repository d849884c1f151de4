"""What is done to the kernel of a host beside our own devices."""

from __future__ import annotations

from pathlib import Path

from skep.network.modules import leave_others_alone


def test_other_bridges_of_the_host_are_left_as_they_were(tmp_path: Path) -> None:
    """The module begins with rules for all of them."""
    names = [f"bridge-nf-call-{each}" for each in ("iptables", "ip6tables", "arptables")]
    for name in names:
        (tmp_path / name).write_text("1")
    leave_others_alone(tmp_path)
    assert [(tmp_path / name).read_text() for name in names] == ["0"] * 3
    leave_others_alone(tmp_path / "not there")
