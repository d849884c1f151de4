"""Swarm2k as it was done: machines, three managers, a first service, workers that join, and a live upgrade of the
managers. Nothing is typed but `skep` and the docker client (local machines in place of a cloud's)."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images import IMAGE, busybox_tar

from .hosts import wait_until
from .local_images import Owner

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]
MANAGERS, WORKERS = ("mg0", "mg1", "mg2"), ("w0", "w1")


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    owner = Owner(tmp_path_factory.mktemp("s") / "owner")
    try:
        yield owner
    finally:
        owner.skep("cluster rm --force demo")
        for name in owner.store.names():
            owner.skep("machine rm -f {}", name)


def nodes(owner: Owner, name: str = "mg0") -> dict[str, tuple[str, str, str]]:
    """Returns status, availability and manager status of the nodes, by their names."""
    found = owner.docker("node ls --format '{{json .}}'", name)
    rows = [json.loads(line) for line in found.splitlines()]
    return {row["Hostname"]: (row["Status"], row["Availability"], row["ManagerStatus"]) for row in rows}


def running(owner: Owner, service: str, name: str = "mg0") -> str:
    found = owner.docker(f"service ls --filter name={service} --format {{{{.Replicas}}}}", name)
    return found.strip()


def test_swarm2k(owner: Owner) -> None:
    """One test: who tries it once more has all of it again."""
    three_managers(owner)
    workers_join_by_whatever_means(owner)
    a_first_service_and_managers_without_work(owner)
    a_manager_is_powered_off_and_on_while_the_swarm_runs(owner)
    all_managers_are_upgraded_by_one_command(owner)
    managers_that_are_named_together_take_turns(owner)
    a_plug_that_is_pulled_and_the_end(owner)


def three_managers(owner: Owner) -> None:
    """Sections 1 and 2."""
    names = "mg[0:2]"
    assert "create mg[0:2] (driver local)" in owner.ok(
        "cluster create demo --driver local --managers {} --dry-run", names
    )
    assert not owner.store.names(), "it said what it would do"
    said = owner.ok("cluster create demo --driver local --managers {}", names)
    for stage in (
        "Waiting for SSH to be available...",
        "Detecting the provisioner...",
        "Installing skepd...",
    ):
        assert sum(line.endswith(stage) for line in said.splitlines()) == 3
    assert "docker swarm init on mg0" in said
    info = owner.shell("docker $(skep machine config mg0) info").stdout
    swarm = [line.strip() for line in info[info.index("Swarm:") :].splitlines()[:20]]
    for each in ("Swarm: active", "Is Manager: true", "Managers: 3", "Nodes: 3"):
        assert each in swarm
    assert "Heartbeat Period: 5 seconds" in swarm
    assert "Expiry Duration: 3 months" in [line.strip() for line in info.splitlines()]
    found = nodes(owner)
    assert found["mg0"] == ("Ready", "Active", "Leader")
    assert found["mg1"] == found["mg2"] == ("Ready", "Active", "Reachable")
    by_environment = owner.shell('eval "$(skep machine env mg1)"; docker node ls --format "{{.Hostname}}"')
    assert sorted(by_environment.stdout.split()) == list(MANAGERS)


def workers_join_by_whatever_means(owner: Owner) -> None:
    """Section 4: one by hand, by ssh; the other by skep; then the same once more."""
    owner.ok("machine create --driver local {}", "w[0:1]")
    token = owner.docker("swarm join-token -q worker").strip()
    address = owner.ok("machine ip mg0").strip()
    said = owner.ok("machine ssh w0 docker swarm join --token {} {}:2377", token, address)
    assert "This node joined a swarm as a worker." in said
    join = "machine join --advertise-addr eth0 --to mg0 --workers {}"
    table = owner.ok(join, "w[0:1]").splitlines()
    assert [line.split(None, 2) for line in table] == [
        ["NAME", "ROLE", "RESULT"],
        ["w0", "worker", "already in it"],
        ["w1", "worker", "joined"],
    ]
    assert token not in "".join(table)
    known = owner.docker("node inspect w1 --format {{.Status.Addr}}").strip()
    assert known == owner.ok("machine ip w1").strip()
    wait_until("five nodes are ready", lambda: [each[0] for each in nodes(owner).values()] == ["Ready"] * 5)
    assert owner.ok("cluster stats demo").splitlines()[0] == "nodes      5 (5 ready; 0 drained)"


def a_first_service_and_managers_without_work(owner: Owner) -> None:
    """Section 3."""
    for name in (*MANAGERS, *WORKERS):
        owner.docker(f"import - {IMAGE}", name, busybox_tar())
    service = owner.docker(
        "service create -d --name web --replicas 3 --publish 8080:80 --stop-grace-period 1s"
        f" --no-resolve-image {IMAGE} busybox httpd -f -p 80 -h /tmp",
    )
    assert service.strip()
    wait_until("three run", lambda: running(owner, "web") == "3/3")
    for name in MANAGERS:
        owner.docker(f"node update --availability drain {name}")
    wait_until(
        "workers have all", lambda: set(places(owner)) == set(WORKERS) and running(owner, "web") == "3/3"
    )
    for name in (*MANAGERS, *WORKERS):  # the mesh leads there from every host
        wait_until(f"{name} leads there", lambda name=name: answers(owner, name))


def places(owner: Owner, name: str = "mg0") -> list[str]:
    return owner.docker("service ps web --filter desired-state=running --format {{.Node}}", name).split()


def answers(owner: Owner, name: str) -> bool:
    address = owner.store.load(name).ssh.address
    done = subprocess.run(
        ["curl", "-s", "-m", "2", "-o", "/dev/null", f"http://{address}:8080/"], check=False
    )
    return done.returncode == 0


def a_manager_is_powered_off_and_on_while_the_swarm_runs(owner: Owner) -> None:
    """Section 5, by hand: mg1, then the leader."""
    assert owner.docker("node demote mg1").strip() == "Manager mg1 demoted in the swarm."
    wait_until("it is none", lambda: nodes(owner)["mg1"][2] == "")
    owner.ok("machine stop mg1")
    assert owner.ok("machine status mg1").strip() == "Stopped"
    wait_until("it is down", lambda: nodes(owner)["mg1"][0] == "Down", timeout_s=60)
    wait_until("the service runs on", lambda: running(owner, "web") == "3/3")
    owner.ok("machine start mg1")
    wait_until("it is ready", lambda: nodes(owner)["mg1"][0] == "Ready")
    assert owner.docker("node promote mg1").strip() == "Node mg1 promoted to a manager in the swarm."
    wait_until("it is a manager", lambda: nodes(owner)["mg1"][2] == "Reachable", timeout_s=60)


def all_managers_are_upgraded_by_one_command(owner: Owner) -> None:
    """Section 5, as it should have been: the leader last, the service runs on through all of it."""
    leader = next(name for name, each in nodes(owner).items() if each[2] == "Leader")
    before = set(owner.docker("service ps web --filter desired-state=running -q").split())
    said = owner.ok("cluster upgrade-managers --cluster demo --power-cycle")
    assert said.splitlines()[-1] == "All 3 managers are upgraded."
    assert said.index(f"[3/3] {leader}: demoting it, another manager takes the lead") > 0
    assert sorted(each[2] for each in nodes(owner).values()) == ["", "", "Leader", "Reachable", "Reachable"]
    wait_until("the service runs on", lambda: running(owner, "web") == "3/3")
    assert set(owner.docker("service ps web --filter desired-state=running -q").split()) == before


def managers_that_are_named_together_take_turns(owner: Owner) -> None:
    """Whose skepd restarts: all at once there would be no leader for a while."""
    lines = owner.ok("machine regenerate-certs -f {} w0", "mg[0:2]").splitlines()
    at_work = sorted(
        (lines.index(f"({name}) Detecting the provisioner..."), lines.index(f"({name}) Done"))
        for name in MANAGERS
    )
    assert all(end < begin for (_, end), (begin, _) in itertools.pairwise(at_work)), lines
    assert sum("managers of demo are worked at one after the other" in line for line in lines) == 2
    assert sorted(each[2] for each in nodes(owner).values()) == ["", "", "Leader", "Reachable", "Reachable"]


def a_plug_that_is_pulled_and_the_end(owner: Owner) -> None:
    owner.ok("machine kill w1")
    wait_until(
        "all run elsewhere",
        lambda: places(owner) == ["w0"] * 3 and running(owner, "web") == "3/3",
        timeout_s=60,
    )
    failed = owner.skep("machine join --attempts 1 --to mg0 --workers {}", "w[0:1]")
    assert failed.returncode == 1
    assert "w1     worker   failed: no daemon answers" in failed.stdout
    assert "1 of 2 failed. Once the reasons are gone, run it again: w1" in failed.stderr
    owner.ok("cluster rm -y demo")
    owner.ok("machine rm -y {}", "w[0:1]")
    assert not Path(owner.hosts).exists()
    assert owner.ok("cluster ls") == ""
