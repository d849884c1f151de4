"""Several managers: who joins, who leaves, who leads; and any of them answers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from .fixtures import swarm_fixture
from .hosts import Host, UnixConnection, free_port, wait_until
from .managers import Managers, create, info, wait_running

pytestmark = pytest.mark.timeout(180)


swarm = swarm_fixture(lambda directory: Managers(directory, managers=3, workers=1))


def refusal(host: Host, *arguments: str) -> str:
    done = host.run(*arguments, check=False)
    assert done.returncode == 1
    return done.stderr


def test_every_manager_answers_the_same(swarm: Managers) -> None:
    create(swarm.managers[1], "everywhere", 3)
    for manager in swarm.managers:
        assert manager.docker("service ls --format {{.Name}}") == "everywhere"
        nodes = swarm.nodes(manager)
        assert {nodes[name][0] for name in nodes} == {"Ready"}
        assert sorted(m for _, m in nodes.values()) == ["", "Leader", "Reachable", "Reachable"]
    wait_running(swarm.managers[2], "everywhere", 3)
    swarm.managers[2].docker("service rm everywhere")
    assert swarm.managers[0].docker("service ls -q") == ""


def test_info_has_the_lines_of_the_swarm_on_every_manager(swarm: Managers) -> None:
    for manager in swarm.managers:
        text = manager.docker("info")
        for line in ("Managers: 3", "Nodes: 4", "Is Manager: true", "Snapshot Interval: 10000"):
            assert line in text
        for line in ("Heartbeat Tick: 1", "Election Tick: 10", "Heartbeat Period: 5 seconds"):
            assert line in text
        assert "Expiry Duration: 3 months" in text
        assert "Task History Retention Limit: 5" in text
        peers = {peer["Addr"] for peer in info(manager)["RemoteManagers"]}
        assert peers == {swarm.addresses[m.name] for m in swarm.managers}


def test_a_node_joins_through_any_manager(swarm: Managers, short_dir: Path) -> None:
    follower = swarm.followers()[0]
    newcomer = Host(short_dir, "new", "simulated")
    try:
        newcomer.start()
        token = follower.docker("swarm join-token -q worker")
        newcomer.docker("swarm join --token", token, swarm.addresses[follower.name])
        assert swarm.nodes()["new"] == ("Ready", "")
        newcomer.docker("swarm leave")
    finally:
        newcomer.stop()
    wait_until("it is down", lambda: swarm.nodes()["new"][0] == "Down")
    swarm.first.docker("node rm new")


def test_a_node_that_cannot_manage_says_why(swarm: Managers, short_dir: Path) -> None:
    newcomer = Host(short_dir, "new", "simulated", "--etcd", "/nosuch")
    try:
        newcomer.start()
        token = swarm.first.docker("swarm join-token -q manager")
        address, own = swarm.addresses[swarm.first.name], f"127.0.0.1:{free_port()}"
        said = newcomer.run(
            "swarm join --token {} --advertise-addr {} --listen-addr {} {}",
            token,
            own,
            own,
            address,
            check=False,
        )
        assert "Timeout was reached before node joined" in said.stderr
        why = "This node is to be a manager, and is not yet: etcd was not found (/nosuch)"
        assert why in said.stderr
        assert why in info(newcomer)["Error"]
        swarm.first.docker("node demote new")
        wait_until("a worker it can be", lambda: not info(newcomer)["Error"])
        newcomer.docker("swarm leave")
    finally:
        newcomer.stop()
    wait_until("it is down", lambda: swarm.nodes()["new"][0] == "Down")
    swarm.first.docker("node rm new")


def test_a_node_whose_engine_is_not_there_says_so(swarm: Managers, short_dir: Path) -> None:
    newcomer = Host(short_dir, "new", f"unix://{short_dir}/none.sock")
    try:
        newcomer.start()
        token = swarm.first.docker("swarm join-token -q worker")
        said = newcomer.run("swarm join --token", token, swarm.addresses[swarm.first.name], check=False)
        assert "Timeout was reached before node joined" in said.stderr
        why = f"the Docker Engine at unix://{short_dir}/none.sock cannot be reached"
        assert why in said.stderr
        assert (info(newcomer)["LocalNodeState"], why in info(newcomer)["Error"]) == ("pending", True)
    finally:
        newcomer.stop()
    swarm.first.docker("node rm --force new")


def test_events_of_the_swarm_come_on_every_manager(swarm: Managers) -> None:
    follower = swarm.followers()[0]
    with follower.stream("events --filter type=service") as lines:
        create(swarm.leader(), "seen", 1)
        line = lines.first("service create")
    assert "name=seen" in line
    swarm.first.docker("service rm seen")
    for manager in swarm.managers:  # each remembers: history outlives a leader
        wait_until("it is told", partial(told_of_both, manager))


def told_of_both(manager: Host) -> bool:
    told = manager.docker("events --since 10m --until 0s --filter service=seen")
    return "service create" in told and "service remove" in told


def test_what_would_harm_is_refused_in_dockers_words(swarm: Managers) -> None:
    leader, follower = swarm.leader(), swarm.followers()[0]
    assert "is a cluster manager and is a member of the raft cluster" in refusal(
        leader, "node", "rm", follower.name
    )
    assert "is not down and can't be removed" in refusal(follower, "node", "rm", "w0")
    text = refusal(follower, "swarm", "leave")
    assert "You are attempting to leave the swarm on a node that is participating as a manager." in text
    assert "`--force-new-cluster`" in text
    assert "already part of a swarm" in refusal(follower, "swarm", "init")


def test_a_worker_is_promoted_and_demoted(swarm: Managers) -> None:
    worker = swarm.host("w0")
    create(swarm.first, "kept", 8)
    wait_running(swarm.first, "kept", 8)
    before = {row["ID"] for row in swarm.first.running("kept")}
    assert swarm.first.docker("node promote w0") == "Node w0 promoted to a manager in the swarm."
    swarm.wait_reachable(4)
    assert "w0" in worker.docker("node ls")
    assert swarm.first.docker("node demote w0") == "Manager w0 demoted in the swarm."
    wait_until("it is a worker", lambda: swarm.nodes()["w0"][1] == "")
    wait_until("it knows", lambda: not info(worker)["ControlAvailable"])
    assert "Worker nodes can't be used to view" in refusal(worker, "node", "ls")
    connection = UnixConnection(worker.socket)
    connection.request("HEAD", "/_ping")
    assert connection.getresponse().headers["Swarm"] == "active/worker"
    assert {row["ID"] for row in swarm.first.running("kept")} == before
    swarm.first.docker("service rm kept")


def test_a_leader_that_is_demoted_hands_the_lead_over_first(swarm: Managers) -> None:
    leader, follower = swarm.leader(), swarm.followers()[0]
    follower.docker("node demote", leader.name)
    wait_until("it is a worker", lambda: swarm.nodes(follower)[leader.name][1] == "")
    assert swarm.leader(follower) is not leader
    wait_until("it knows", lambda: not info(leader)["ControlAvailable"])

    def told() -> str:
        return follower.docker("events --since 10m --until 0s --filter node={}", leader.name)

    wait_until("it is told", lambda: "role.new=worker, role.old=manager" in told())
    wait_until("it leads no more", lambda: "leader.new=false, leader.old=true" in told())
    follower.docker("node promote", leader.name)
    swarm.wait_reachable(3, follower)


def test_a_manager_that_leaves_is_let_go_of_first(swarm: Managers) -> None:
    leader, follower = swarm.leader(), swarm.followers()[0]
    leader.docker("swarm leave --force")
    swarm.wait_reachable(2, follower)
    assert info(leader)["LocalNodeState"] == "inactive"
    wait_until("it is down", lambda: swarm.nodes(follower)[leader.name][0] == "Down", 60)
    follower.docker("node rm", leader.name)
    token = follower.docker("swarm join-token -q manager")
    address = swarm.addresses[leader.name]
    leader.docker(
        "swarm join --token {} --advertise-addr {} --listen-addr {} {}",
        token,
        address,
        address,
        swarm.addresses[follower.name],
    )
    swarm.wait_reachable(3, follower)


def test_the_last_manager_is_not_demoted(short_dir: Path) -> None:
    alone = Managers(short_dir, managers=1, workers=1)
    try:
        alone.start()
        text = refusal(alone.first, "node", "demote", "m0")
        assert "attempting to demote the last manager of the swarm" in text
    finally:
        alone.stop()
