"""Machines' names, and many at once."""

from __future__ import annotations

import pytest

from skep.machine.drivers import DriverOption, values_of_each
from skep.machine.drivers.generic import Generic
from skep.machine.names import LENGTH_MAX, NAMES_MAX, compact, expand, expand_names
from skep.runtime.errors import Invalid


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("mg0", ["mg0"]),
        ("mg[0:2]", ["mg0", "mg1", "mg2"]),
        ("w[7:7]", ["w7"]),
        ("w[08:10]", ["w08", "w09", "w10"]),
        ("w[0:2]", ["w0", "w1", "w2"]),
        ("w[001:2]x", ["w001x", "w002x"]),
        ("r[1:2]-w[9:10]", ["r1-w9", "r1-w10", "r2-w9", "r2-w10"]),
        ("10.0.[0:1].[254:255]", ["10.0.0.254", "10.0.0.255", "10.0.1.254", "10.0.1.255"]),
        ("fd00::[8:9]", ["fd00::8", "fd00::9"]),
    ],
)
def test_ranges_are_belts(text: str, names: list[str]) -> None:
    assert expand(text) == names


@pytest.mark.parametrize(
    "text", ["w[1", "w1]", "w[]", "w[1]", "w[1:]", "w[a:c]", "w[1-3]", "w[1:2:3]", "[[1:2]]"]
)
def test_what_is_no_range_is_said(text: str) -> None:
    with pytest.raises(Invalid, match=r"a range is \[FIRST:LAST\]"):
        expand(text)


def test_a_range_that_ends_before_it_begins_is_said() -> None:
    with pytest.raises(Invalid, match=r"w\[5:1\]: the range \[5:1\] ends before it begins"):
        expand("w[5:1]")


@pytest.mark.parametrize(
    "text", ["w[0:10000]", "w[1:999999999]", "w[1:101][1:100]", "a[1:100][1:100][1:100]"]
)
def test_a_slip_makes_no_million_names(text: str) -> None:
    with pytest.raises(Invalid, match="more than 10,000 at once"):
        expand(text)


def test_all_names_of_a_command_are_bounded_and_checked_and_each_is_one() -> None:
    assert expand_names(("w[1:3]", "w2", "mg0")) == ("w1", "w2", "w3", "mg0")
    assert len(expand_names((f"w[1:{NAMES_MAX}]",))) == NAMES_MAX
    with pytest.raises(Invalid, match="more than 10,000"):
        expand_names((f"w[1:{NAMES_MAX}]", "mg0"))
    with pytest.raises(Invalid, match=r'Invalid machine name "\.\./w1"'):
        expand_names(("../w[1:3]",))
    with pytest.raises(Invalid, match="Invalid machine name"):
        expand_names((f"{'w' * LENGTH_MAX}[1:3]",))


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["w1", "w2", "w3", "w7", "mg0"], ["w[1:3]", "w7", "mg0"]),
        (["w1", "w2"], ["w1", "w2"]),
        (["w08", "w09", "w10", "w11", "w12"], ["w08", "w09", "w[10:12]"]),
        (["w8", "w9", "w10"], ["w[8:10]"]),
        (["w3", "w2", "w1"], ["w3", "w2", "w1"]),
        (["a", "b", "1", "2", "3"], ["a", "b", "[1:3]"]),
        (["w0", "w00", "w1", "w2", "w3"], ["w0", "w00", "w[1:3]"]),
        ([], []),
    ],
)
def test_names_in_a_row_are_shown_as_they_may_be_typed(names: list[str], short: list[str]) -> None:
    assert compact(names) == short
    assert list(expand_names(short)) == names


OPTIONS = (*Generic.options, DriverOption(name="other", help=""))


def test_addresses_stand_beside_names() -> None:
    said = {option.name: "x" for option in OPTIONS}
    each = values_of_each(OPTIONS, {**said, "generic-ip-address": "10.0.0.[8:9], h.example"}, 3)
    assert [values["generic-ip-address"] for values in each] == ["10.0.0.8", "10.0.0.9", "h.example"]
    assert {values["other"] for values in each} == {"x"}
    nothing = values_of_each(OPTIONS, {**said, "generic-ip-address": ""}, 2)
    assert [values["generic-ip-address"] for values in nothing] == ["", ""], (
        "the driver says that it is missing"
    )


@pytest.mark.parametrize(
    ("addresses", "reason"),
    [
        ("10.0.0.1", "values: 1, machines: 2"),
        ("10.0.0.[1:3]", "values: 3, machines: 2"),
        ("10.0.0.1,10.0.0.1", "two machines have the same"),
    ],
)
def test_each_machine_has_an_address_of_its_own(addresses: str, reason: str) -> None:
    said = {option.name: "" for option in OPTIONS}
    with pytest.raises(Invalid, match=reason):
        values_of_each(OPTIONS, {**said, "generic-ip-address": addresses}, 2)
