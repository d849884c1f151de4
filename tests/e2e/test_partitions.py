"""Managers on machines of their own, which lose power, their cables, or half of them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from .fixtures import swarm_fixture
from .hosts import wait_until
from .managers import create, wait_running
from .netns import Network, NetworkHost
from .test_failover import ANSWER_S, RUN_S

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]


formed = swarm_fixture(lambda directory: Network(directory, managers=3, workers=2))


@pytest.fixture
def swarm(formed: Network) -> Iterator[Network]:
    """The swarm, healed again after each test."""
    yield formed
    for host in formed.hosts:
        assert isinstance(host, NetworkHost)
        host.heal()
        if host.process is None:
            host.start()
    formed.wait_reachable(3)


def leader_and_others(swarm: Network) -> tuple[NetworkHost, list[NetworkHost]]:
    leader = swarm.leader()
    assert isinstance(leader, NetworkHost)
    return leader, [m for m in swarm.managers if m is not leader]


# First, that the swarm is there before the machine is waited for.
def test_two_managers_that_do_not_hear_each_other_follow_the_third(swarm: Network) -> None:
    first, second, third = swarm.managers
    first.deaf_to(second)
    second.deaf_to(first)
    created = []
    for n in range(12):
        name = f"split{n}"
        done = third.run("service create -q -d --no-resolve-image --name {} image", name, check=False)
        if done.returncode == 0:
            created.append(name)
        time.sleep(0.5)
    assert len(created) >= 6
    first.heal()
    second.heal()
    swarm.wait_reachable(3, third)
    for manager in swarm.managers:
        assert set(created) <= set(manager.docker("service ls --format {{.Name}}").split())
    third.docker("service rm", *created)


@pytest.mark.alone
def test_the_leaders_machine_loses_power(swarm: Network) -> None:
    leader, (other, _) = leader_and_others(swarm)
    began = time.monotonic()
    leader.lose_power()
    other.docker("node ls")
    answered_s = time.monotonic() - began
    create(other, "after", 5, "--constraint", f"node.hostname!={leader.name}")
    wait_running(other, "after", 5)
    ran_s = time.monotonic() - began
    assert answered_s < ANSWER_S
    assert ran_s < RUN_S
    wait_until("it is seen", lambda: swarm.nodes(other)[leader.name][1] == "Unreachable", 10)
    other.docker("service rm after")


@pytest.mark.alone
def test_the_leaders_cable_is_pulled_and_plugged_in_again(swarm: Network) -> None:
    leader, (other, _) = leader_and_others(swarm)
    create(other, "kept", 3)
    leader.unplug()
    began = time.monotonic()
    other.docker("service scale -d kept=6")
    assert time.monotonic() - began < ANSWER_S
    # What the old leader is asked is not done behind the new one's back.
    alone = leader.run("service scale -d kept=9", check=False, timeout_s=60)
    assert alone.returncode == 1
    assert "leader" in alone.stderr or "may or may not have been made" in alone.stderr
    leader.plug()
    swarm.wait_reachable(3, other)
    for manager in swarm.managers:
        form = "{{.Spec.Mode.Replicated.Replicas}}"
        assert manager.docker("service inspect kept --format", form) == "6"
    wait_running(other, "kept", 6)
    other.docker("service rm kept")


@pytest.mark.alone
def test_a_leader_that_hears_nobody(swarm: Network) -> None:
    """What it sends arrives, what is sent to it does not."""
    leader, others = leader_and_others(swarm)
    leader.deaf_to(*others, *swarm.workers)
    began = time.monotonic()
    create(others[0], "anyway", 4, "--constraint", f"node.hostname!={leader.name}")
    wait_running(others[0], "anyway", 4)
    assert time.monotonic() - began < 2 * RUN_S
    assert swarm.leader(others[0]) is not leader
    leader.heal()
    swarm.wait_reachable(3, others[0])
    assert "anyway" in leader.docker("service ls --format {{.Name}}")
    others[0].docker("service rm anyway")
