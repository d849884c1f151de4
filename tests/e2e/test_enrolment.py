"""Joining and leaving: what goes wrong says so in Docker's words, and the daemon stays usable."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from skep.manager.ca.authority import Authority, new_root
from skep.rpc.certificates import (
    NodeKeys,
    identity_of,
    load_keys,
    new_key_and_request,
    save_keys,
    validity_of,
)

from .fixtures import swarm_fixture
from .hosts import Host, Swarm, free_port, wait_until

pytestmark = pytest.mark.timeout(120)


# A swarm of simulated engines: needs no root and no Docker Engine.
lone = swarm_fixture(lambda directory: Swarm(directory, "simulated", workers=1))


newcomer = swarm_fixture(lambda directory: Host(directory, "new", "simulated"), own=True)


def join_error(host: Host, token: str, address: str) -> str:
    """Returns what the client prints, after making sure that the daemon is as before."""
    done = host.run("swarm join --token", token, address, check=False)
    assert done.returncode == 1
    assert host.docker("info --format {{.Swarm.LocalNodeState}}") == "inactive"
    return done.stderr.strip()


def worker_token(swarm: Swarm) -> str:
    return swarm.manager.docker("swarm join-token -q worker")


def test_a_malformed_token_is_refused(lone: Swarm, newcomer: Host) -> None:
    assert "invalid join token" in join_error(newcomer, "SWMTKN-1-nonsense", lone.address)


def test_a_wrong_secret_is_refused(lone: Swarm, newcomer: Host) -> None:
    version, number, digest, secret = worker_token(lone).split("-")
    wrong = "-".join((version, number, digest, secret[::-1]))
    assert "A valid join token is necessary to join this cluster" in join_error(newcomer, wrong, lone.address)


def test_a_token_of_another_swarm_is_refused(lone: Swarm, newcomer: Host, short_dir: Path) -> None:
    other = Swarm(short_dir / "o", "simulated", workers=0)
    (short_dir / "o").mkdir()
    try:
        other.start()
        text = join_error(newcomer, worker_token(other), lone.address)
        assert re.search(r"remote CA does not match fingerprint\. Expected: [0-9a-f]{64}$", text)
    finally:
        other.stop()


def test_a_manager_that_does_not_answer_is_named(lone: Swarm, newcomer: Host) -> None:
    port = free_port()
    text = join_error(newcomer, worker_token(lone), f"127.0.0.1:{port}")
    assert f"127.0.0.1:{port}" in text
    assert "refused" in text


def handshakes(manager: Host) -> int:
    lines = manager.get_raw("/metrics").decode().splitlines()
    known = 'skep_handshakes_total{result="known"} '
    return next(int(float(line.removeprefix(known))) for line in lines if line.startswith(known))


def test_a_node_joins_by_one_handshake(lone: Swarm, newcomer: Host) -> None:
    before = handshakes(lone.manager)
    newcomer.docker("swarm join --token", worker_token(lone), lone.address)
    wait_until("it is ready", lambda: lone.nodes()["new"] == "Ready")
    # An answer is kept for a moment: this one may be of before.
    wait_until("it is counted", lambda: handshakes(lone.manager) > before)
    assert handshakes(lone.manager) - before == 1
    newcomer.docker("swarm leave")
    wait_until("it is down", lambda: lone.nodes()["new"] == "Down")
    lone.manager.docker("node rm new")


def test_a_rotated_token_ends_the_old_one(lone: Swarm, newcomer: Host) -> None:
    old = worker_token(lone)
    lone.manager.docker("swarm join-token --rotate -q worker")
    assert worker_token(lone) != old
    assert "valid join token" in join_error(newcomer, old, lone.address)
    newcomer.docker("swarm join --token", worker_token(lone), lone.address)
    newcomer.docker("swarm leave")
    wait_until("it is down", lambda: lone.nodes()["new"] == "Down")
    lone.manager.docker("node rm new")
    assert "new" not in lone.nodes()


def test_a_member_cannot_join_again(lone: Swarm) -> None:
    (worker,) = lone.workers
    done = worker.run("swarm join --token", worker_token(lone), lone.address, check=False)
    assert "This node is already part of a swarm" in done.stderr
    done = worker.run("swarm init", check=False)
    assert "This node is already part of a swarm" in done.stderr


def test_a_worker_cannot_answer_for_the_swarm(lone: Swarm) -> None:
    (worker,) = lone.workers
    for command in (("node", "ls"), ("service", "ls"), ("swarm", "join-token", "worker")):
        done = worker.run(*command, check=False)
        assert "This node is not a swarm manager. Worker nodes can't be used to view" in done.stderr


def test_a_node_of_no_swarm_says_so(newcomer: Host) -> None:
    done = newcomer.run("node ls", check=False)
    assert "This node is not a swarm manager. Use" in done.stderr
    done = newcomer.run("swarm leave", check=False)
    assert "This node is not part of a swarm" in done.stderr


def test_the_last_manager_leaves_only_by_force(newcomer: Host) -> None:
    address = f"127.0.0.1:{free_port()}"
    newcomer.docker("swarm init --advertise-addr {} --listen-addr {}", address, address)
    done = newcomer.run("swarm leave", check=False)
    assert "Removing the last manager erases all current state of the swarm" in done.stderr
    newcomer.docker("swarm leave --force")
    newcomer.docker("swarm init --advertise-addr {} --listen-addr {}", address, address)
    assert newcomer.docker("node ls -q")


def test_init_keeps_what_it_was_told(newcomer: Host) -> None:
    address = f"127.0.0.1:{free_port()}"
    newcomer.docker(
        (
            "swarm init --advertise-addr {} --listen-addr {} --availability drain --cert-expiry 48h"
            " --task-history-limit 2 --default-addr-pool 10.77.0.0/16"
            " --default-addr-pool-mask-length 26 --dispatcher-heartbeat 7s"
        ),
        address,
        address,
    )
    cluster = newcomer.json("info --format '{{json .Swarm.Cluster}}'")
    assert cluster["DefaultAddrPool"] == ["10.77.0.0/16"]
    assert cluster["SubnetSize"] == 26
    assert cluster["Spec"]["Orchestration"]["TaskHistoryRetentionLimit"] == 2
    assert cluster["Spec"]["CAConfig"]["NodeCertExpiry"] == 48 * 3600 * 10**9
    assert cluster["Spec"]["Dispatcher"]["HeartbeatPeriod"] == 7 * 10**9
    assert newcomer.docker("node ls --format {{.Availability}}") == "Drain"
    newcomer.docker("swarm update --task-history-limit 3")
    assert newcomer.json("info --format '{{json .Swarm.Cluster}}'")["Spec"]["Orchestration"] == {
        "TaskHistoryRetentionLimit": 3
    }


def test_an_expired_certificate_says_so_and_the_node_can_join_again(lone: Swarm, newcomer: Host) -> None:
    newcomer.docker("swarm join --token", worker_token(lone), lone.address)
    newcomer.stop()
    expire(newcomer)
    newcomer.start()
    info = newcomer.json("info --format '{{json .Swarm}}'")
    assert info["LocalNodeState"] == newcomer.pinged() == "error"
    assert "Swarm certificates have expired" in info["Error"]
    newcomer.docker("swarm leave --force")
    newcomer.docker("swarm join --token", worker_token(lone), lone.address)
    assert newcomer.docker("info --format {{.Swarm.LocalNodeState}}") == "active"


def test_a_join_that_cannot_go_on_is_refused_before_the_swarm_hears_of_it(
    lone: Swarm, newcomer: Host
) -> None:
    before = lone.manager.docker("node ls -q")
    join = ("swarm", "join", "--token", worker_token(lone))
    for option, words in (
        ("--advertise-addr", "advertise address"),
        ("--data-path-addr", "data path address"),
    ):
        done = newcomer.run(*join, option, "nonsense", lone.address, check=False)
        assert f"{words} must be a non-zero IP address or network interface" in done.stderr
    assert lone.manager.docker("node ls -q") == before
    newcomer.docker(*join, "--data-path-addr", "127.0.0.1", "--availability", "drain", lone.address)
    assert newcomer.pinged() == "active/worker"


def test_a_worker_that_has_not_found_a_manager_is_pending_and_says_why(
    newcomer: Host, short_dir: Path
) -> None:
    manager = Swarm(short_dir, "simulated", workers=0)
    try:
        manager.start().join(newcomer)
        assert newcomer.pinged() == "active/worker"
        newcomer.stop()
        manager.manager.kill()
        newcomer.start()
        wait_until(
            "it has tried", lambda: manager.address in newcomer.docker("info --format {{.Swarm.Error}}")
        )
        assert newcomer.docker("info --format {{.Swarm.LocalNodeState}}") == newcomer.pinged() == "pending"
        assert "Worker nodes can't be used" in newcomer.run("node ls", check=False).stderr
        manager.manager.start()
        wait_until("it has a session", lambda: newcomer.pinged() == "active/worker")
        assert newcomer.docker("info --format {{.Swarm.Error}}") == ""
        manager.manager.kill()
        assert newcomer.pinged() == "active/worker", "a session that broke is another matter"
        manager.manager.start()
    finally:
        manager.stop()


def test_a_manager_that_slept_past_its_expiry_renews_itself(newcomer: Host) -> None:
    """The CA is its own: the swarm is not lost."""
    address = f"127.0.0.1:{free_port()}"
    newcomer.docker("swarm init --advertise-addr {} --listen-addr {}", address, address)
    newcomer.docker("service create -q -d --no-resolve-image --name s image")
    newcomer.stop()
    expire(newcomer, is_ca_kept=True)
    newcomer.start()
    assert newcomer.docker("service ls --format {{.Name}}") == "s"
    wait_until("its agent is back", lambda: len(newcomer.running("s")) == 1)
    _, not_after = validity_of(load_keys(newcomer.state_dir / "certificates").certificate_pem)
    assert not_after > time.time() + 80 * 24 * 3600


def expire(host: Host, is_ca_kept: bool = False) -> None:
    """Gives a stopped node a certificate of its own name that ended yesterday."""
    directory = host.state_dir / "certificates"
    kept = load_keys(directory)
    old = identity_of(kept.certificate_pem)
    long_ago = time.time() - 10 * 24 * 3600
    ca_cert, ca_key = new_root(long_ago)
    key, request = new_key_and_request()
    certificate = Authority(ca_cert, ca_key).sign(
        request, old.node_id, old.role, old.cluster_id, long_ago, 9 * 24 * 3600
    )
    save_keys(directory, NodeKeys(key, certificate, kept.ca_pem if is_ca_kept else ca_cert))
