"""`skep machine` on several machines at once: made by one command, and looked after by ranges of names."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from .machine_hosts import NETWORK, MachineHost
from .machine_user import User

pytestmark = pytest.mark.root
CREATE = "machine create --driver generic --engine-only --generic-ip-address {} {}"
FIRST = 11  # hosts' numbers; those of other files are below


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> User:
    return User(tmp_path_factory.mktemp("c") / "user")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory, user: User) -> Iterator[list[MachineHost]]:
    """Three hosts; the first two are machines of the user's, c1 and c2, and the third does not let them in."""
    place = tmp_path_factory.mktemp("h")
    made = [MachineHost(place, f"h{number}", FIRST + number) for number in range(3)]
    try:
        for each in made:
            each.start()
        for each in made[:2]:
            each.let_in(user.key)
        addresses = f"{NETWORK}.[{FIRST + 1}:{FIRST + 3}]"
        done = user.skep(CREATE, addresses, "c[1:3]")
        _check_created(done.returncode, done.stdout, done.stderr)
        user.ok("machine rm -y c3")
        yield made
    finally:
        for each in made:
            each.stop()


def _check_created(status: int, out: str, err: str) -> None:
    """Two of three were made, and what became of the third is said."""
    assert status == 1, out + err
    for name in ("c1", "c2"):
        assert f"({name}) Provisioning with debian(init)..." in out
        assert f"({name}) Done" in out
    assert "Docker is up and running!" not in out
    table = err[err.index("1 of 3 machines failed:") :].splitlines()
    assert re.match(r"  c3  root@\S+, port 22: it does not let us in", table[1])
    assert table[2] == "Go on with them, once the reasons are gone: skep machine provision c3"


def test_ranges_of_names_are_taken_by_all(hosts: list[MachineHost], user: User) -> None:
    assert user.ok("machine ip c[1:2]").split() == [each.address for each in hosts[:2]]
    assert user.ok("machine status c[1:2]").splitlines() == ["c1: Running", "c2: Running"]
    for name in ("c1", "c2"):
        assert user.shell(f"docker --context {name} info --format '{{{{.Name}}}}'").stdout.strip() == name
    assert "ends before it begins" in user.fails("machine ip c[2:1]")
    assert "values: 2, machines: 3" in user.fails(CREATE, f"{NETWORK}.[101:102]", "d[1:3]", status=3)
