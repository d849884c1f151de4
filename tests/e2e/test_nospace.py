"""A swarm whose etcd has reached its quota says so, and is written to again without an operator."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial

import pytest

from .fixtures import starting
from .hosts import Host, wait_until
from .managers import Managers, create, info, wait_running

QUOTA_BYTES = 24 << 20
CURED_S = 90.0
pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managers]:
    """Three managers whose etcd has a small quota, whatever skepd says to it."""
    directory = tmp_path_factory.mktemp("q")
    etcd = directory / "small-etcd"
    quota = f"--quota-backend-bytes={QUOTA_BYTES}"
    etcd.write_text(f'#!/bin/bash\nexec {shutil.which("etcd")} "${{@/#--quota-backend-bytes=*/{quota}}}"\n')
    etcd.chmod(0o755)
    made = Managers(directory, managers=3, workers=0)
    for host in made.hosts:
        host.options = ("--etcd", str(etcd))
    with starting(made):
        yield made


def test_a_full_etcd_is_said_and_cured(swarm: Managers) -> None:
    create(swarm.first, "before", 2)
    wait_running(swarm.first, "before", 2)
    refused = fill(swarm.first)
    assert "quota" in refused or "no leader" in refused
    wait_until("it is said", lambda: any("its quota" in info(m)["Error"] for m in swarm.managers), 20)
    wait_until("it is written to again", partial(can_write, swarm.managers[1]), CURED_S)
    swarm.wait_reachable(3)
    wait_until("nothing is wrong", lambda: not any(info(m)["Error"] for m in swarm.managers), 20)
    create(swarm.first, "after", 2)
    wait_running(swarm.first, "after", 2)
    assert len(swarm.first.running("before")) == 2


def fill(host: Host) -> str:
    """Writes over and over, until it is refused; returns what is said."""
    for n in range(400):
        label = f"n{n}=" + "x" * 100_000
        done = host.run(
            "service update -q -d --label-add {} --label-rm n{} before",
            label,
            n - 1,
            check=False,
        )
        if done.returncode != 0:
            return done.stderr
    raise AssertionError("etcd takes more than its quota")


def can_write(host: Host) -> bool:
    done = host.run("service update -q -d --label-add is=cured before", check=False)
    return done.returncode == 0
