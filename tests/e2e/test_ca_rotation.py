"""`docker swarm ca`, with the client's own progress: the root changes under a swarm that works on."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from skep.manager.ca.authority import new_root
from skep.rpc.certificates import load_keys, validity_of

from .fixtures import swarm_fixture
from .hosts import Host, Swarm, wait_until
from .managers import Managers, end_leftovers
from .test_simulate import simulate

pytestmark = pytest.mark.timeout(120)


swarm = swarm_fixture(lambda directory: Swarm(directory, "simulated", workers=2), own=True)


# For tests that leave every node in its place.
lone = swarm_fixture(lambda directory: Swarm(directory, "simulated", workers=2))


newcomer = swarm_fixture(lambda directory: Host(directory, "new", "simulated"), own=True)


def root(swarm: Swarm) -> str:
    return swarm.manager.docker("swarm ca")


def token(swarm: Swarm) -> str:
    return swarm.manager.docker("swarm join-token -q worker")


def is_rotating(swarm: Swarm) -> bool:
    return rotates(swarm.manager)


def rotates(manager: Host) -> bool:
    cluster = manager.json("info --format '{{json .Swarm.Cluster}}'")
    return bool(cluster["RootRotationInProgress"])


def tls_status(swarm: Swarm) -> dict[str, str]:
    return statuses(swarm.manager)


def statuses(manager: Host) -> dict[str, str]:
    lines = manager.docker("node ls --format '{{.Hostname}} {{.TLSStatus}}'").splitlines()
    return {name: status for name, _, status in (line.partition(" ") for line in lines)}


def sessions_lost(swarm: Swarm) -> list[int]:
    return [host.state_dir.with_suffix(".log").read_text().count("session.lost") for host in swarm.hosts]


def test_rotating_ends_by_itself_and_nobody_is_cut_off(swarm: Swarm, newcomer: Host) -> None:
    before, old_token = root(swarm), token(swarm)
    done = swarm.manager.run("swarm ca --rotate", timeout_s=60)
    assert done.returncode == 0
    assert done.stdout.strip().endswith("-----END CERTIFICATE-----")
    after = root(swarm)
    assert after != before
    assert done.stdout.strip().endswith(after)
    assert sessions_lost(swarm) == [0, 0, 0], "connections that stand stay"
    assert tls_status(swarm) == {"mg0": "Ready", "w0": "Ready", "w1": "Ready"}
    for host in swarm.hosts:
        assert load_keys(host.state_dir / "certificates").ca_pem.decode().strip() == after
    refused = newcomer.run("swarm join --token", old_token, swarm.address, check=False)
    assert "remote CA does not match fingerprint" in refused.stderr
    assert token(swarm) != old_token
    newcomer.docker("swarm join --token", token(swarm), swarm.address)
    newcomer.docker("swarm leave")
    restart(swarm.workers[0])
    restart(swarm.manager)
    wait_until("all are back", lambda: list(swarm.nodes().values()).count("Ready") == 3)
    assert root(swarm) == after


def test_a_node_that_is_down_holds_up_the_end(swarm: Swarm, newcomer: Host) -> None:
    before, old_token = root(swarm), token(swarm)
    swarm.manager.docker("swarm update --dispatcher-heartbeat 1s")
    late = swarm.workers[1]
    late.stop()
    wait_until("it is down", lambda: swarm.nodes()["w1"] == "Down")
    swarm.manager.docker("swarm ca --rotate -d")
    wait_until(
        "the others have new certificates",
        lambda: tls_status(swarm) == {"mg0": "Ready", "w0": "Ready", "w1": "Needs Rotation"},
    )
    assert is_rotating(swarm)
    assert root(swarm) == before, "as Docker shows it: trusted until the end"
    newcomer.docker("swarm join --token", old_token, swarm.address)
    restart(swarm.manager)
    wait_until("the new leader knows", lambda: swarm.nodes()["w0"] == "Ready" and is_rotating(swarm))
    late.start()
    wait_until("it ends", lambda: not is_rotating(swarm))
    wait_until("all trust the new root", lambda: set(tls_status(swarm).values()) == {"Ready"})
    assert root(swarm) != before
    assert list(swarm.nodes().values()) == ["Ready"] * 4
    newcomer.docker("swarm leave")


def test_removing_the_node_that_is_gone_ends_it(swarm: Swarm) -> None:
    swarm.manager.docker("swarm update --dispatcher-heartbeat 1s")
    swarm.workers[1].docker("swarm leave")
    wait_until("it is down", lambda: swarm.nodes()["w1"] == "Down")
    swarm.manager.docker("swarm ca --rotate -d")
    wait_until("the others are ready", lambda: tls_status(swarm)["w0"] == "Ready")
    time.sleep(1)
    assert is_rotating(swarm)
    swarm.manager.docker("node rm w1")
    wait_until("it ends", lambda: not is_rotating(swarm))


def test_a_root_of_the_users_own(lone: Swarm, short_dir: Path) -> None:
    cert, key = new_root(time.time())
    (short_dir / "cert").write_bytes(cert)
    (short_dir / "key").write_bytes(key)
    files = ("--ca-cert", str(short_dir / "cert"), "--ca-key", str(short_dir / "key"))
    lone.manager.docker("swarm ca --rotate -q --cert-expiry 48h", *files)
    assert root(lone) == cert.decode().strip()
    spec = lone.manager.json("info --format '{{json .Swarm.Cluster.Spec.CAConfig}}'")
    assert spec == {"NodeCertExpiry": 48 * 3600 * 10**9}
    for host in lone.hosts:
        assert life_s(host) == pytest.approx(49 * 3600, abs=2)
    version = lone.manager.docker("info --format {{.Swarm.Cluster.Version.Index}}")
    lone.manager.docker("swarm update --task-history-limit 3")
    assert root(lone) == cert.decode().strip()
    assert not is_rotating(lone), f"writing settings of version {version} back asks for no change"


def test_what_cannot_be_is_refused(lone: Swarm, short_dir: Path) -> None:
    before = root(lone)
    cert, _ = new_root(time.time())
    _, key = new_root(time.time())
    (short_dir / "cert").write_bytes(cert)
    (short_dir / "key").write_bytes(key)
    (short_dir / "not").write_bytes(key.replace(b"M", b"N", 3))
    for named, words in (
        (("--ca-cert", "cert", "--ca-key", "key"), "certificate key mismatch"),
        (("--ca-cert", "cert", "--ca-key", "not"), "malformed private key"),
        (("--external-ca", "protocol=cfssl,url=https://127.0.0.1:1", "--ca-cert", "cert"), "not supported"),
    ):
        files = [str(short_dir / word) if (short_dir / word).exists() else word for word in named]
        done = lone.manager.run("swarm ca --rotate", *files, check=False)
        assert done.returncode == 1
        assert words in done.stderr
    assert root(lone) == before
    assert not is_rotating(lone)


def test_another_expiry_reaches_the_nodes_soon(lone: Swarm) -> None:
    before = sessions_lost(lone)
    lone.manager.docker("swarm update --cert-expiry 1h")
    for host in lone.hosts:
        wait_until(f"{host.name} has it", lambda host=host: life_s(host) < 7300)
    assert sessions_lost(lone) == before


def test_simulated_nodes_take_part(lone: Swarm) -> None:
    nodes = simulate(lone, "--nodes", "40", "--procs", "2")
    try:
        wait_until("all are ready", lambda: list(lone.nodes().values()).count("Ready") == 43)
        lone.manager.docker("swarm ca --rotate -q")
        assert set(tls_status(lone).values()) == {"Ready"}
    finally:
        nodes.send_signal(signal.SIGINT)
        assert nodes.wait(20) == 0


def test_the_root_changes_while_the_leader_does(short_dir: Path) -> None:
    """Ordered by a manager that does not lead; the leader is killed in the middle of it."""
    swarm = Managers(short_dir, managers=3, workers=1)
    (worker,) = swarm.workers
    try:
        swarm.start()
        before = swarm.first.docker("swarm ca")
        worker.stop()
        leader, orders = swarm.leader(), swarm.followers()[0]
        orders.docker("swarm ca --rotate -d")
        wait_until("the managers have followed", lambda: have_followed(orders, {"m0", "m1", "m2"}))
        leader.kill()
        end_leftovers(leader)
        wait_until("another leads", lambda: leads_another(swarm, orders, leader), 40)
        assert rotates(orders)
        wait_until("they have told it", lambda: have_followed(orders, {m.name for m in swarm.followers()}))
        leader.start()
        worker.start()
        wait_until("it ends", lambda: not rotates(orders), 60)
        wait_until("all trust the new root", lambda: set(statuses(orders).values()) == {"Ready"})
        assert orders.docker("swarm ca") != before
        swarm.wait_reachable(3, orders)
        swarm.followers()[0].docker("swarm ca --rotate -q")
        swarm.first.docker("node promote", worker.name)
        swarm.wait_reachable(4)
        restart(swarm.followers()[0])
        swarm.wait_reachable(4)
    finally:
        swarm.stop()


def have_followed(by: Host, names: set[str]) -> bool:
    return names <= {name for name, status in statuses(by).items() if status == "Ready"}


def leads_another(swarm: Managers, by: Host, than: Host) -> bool:
    if by.run("node ls", check=False).returncode != 0:
        return False
    return any(name != than.name and m == "Leader" for name, (_, m) in swarm.nodes(by).items())


def restart(host: Host) -> None:
    host.stop()
    host.start()


def life_s(host: Host) -> float:
    """One file, which is replaced at once: the node may be changing its keys."""
    file = host.state_dir / "certificates" / "swarm-node.crt"
    not_before, not_after = validity_of(file.read_bytes())
    return not_after - not_before
