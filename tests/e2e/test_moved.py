"""Managers whose addresses changed, all at once: `skep cluster reconnect` says where they are now."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from .fixtures import swarm_fixture
from .hosts import Host, free_port, wait_until
from .managers import Managers
from .skep_cli import skep, skep_ok

pytestmark = pytest.mark.timeout(240)


three = swarm_fixture(lambda directory: Managers(directory, 3, 1))


@pytest.fixture
def taken() -> Iterator[list[socket.socket]]:
    """Addresses that this machine cannot be reached at any more."""
    held: list[socket.socket] = []
    try:
        yield held
    finally:
        for each in held:
            each.shutdown(socket.SHUT_RDWR)
            each.close()


def take(address: str) -> socket.socket:
    """Somebody else is at this address now, who is no manager and hangs up."""
    host, port = address.split(":")
    held = socket.create_server((host, int(port)))

    def hang_up() -> None:
        with contextlib.suppress(OSError):
            while True:
                held.accept()[0].close()

    threading.Thread(target=hang_up, daemon=True).start()
    return held


def error_of(host: Host) -> str:
    return host.docker("info --format {{.Swarm.Error}}")


def test_what_makes_no_sense_is_refused(three: Managers) -> None:
    first, worker = three.managers[0], three.workers[0]
    before = worker.docker("info --format {{.Swarm.RemoteManagers}}")
    assert "at least one address" in skep("cluster reconnect", on=worker).stderr
    nobody = f"127.0.0.1:{free_port()}"
    done = skep("cluster reconnect", nobody, on=worker)
    assert done.returncode == 1
    assert nobody in done.stderr
    assert worker.docker("info --format {{.Swarm.RemoteManagers}}") == before
    done = skep("cluster reconnect", nobody, three.addresses["m1"], on=worker)
    assert done.returncode == 0
    assert (
        'Warning: rpc error: code = Unavailable desc = connection error: desc = "transport: Error while'
        in done.stderr
    )
    with take("127.0.0.1:0") as held:
        port = held.getsockname()[1]
        done = skep("cluster reconnect --advertise-addr 127.0.0.1:{}", port, on=first)
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    three.wait_reachable(3)


def test_one_that_moves_while_it_runs(three: Managers) -> None:
    """Nobody else is told: the others learn it by what this one says to them."""
    leader = three.leader()
    for manager in (*(m for m in three.managers if m is not leader), leader):
        moved = three.addresses[manager.name] = f"127.0.0.1:{free_port()}"
        said = skep_ok("cluster reconnect --advertise-addr", moved, on=manager)
        assert said == "This node knows where managers are now.\n"

        def is_listed(name: str = manager.name, moved: str = moved) -> bool:
            form = "{{.ManagerStatus.Addr}} {{.ManagerStatus.Reachability}}"
            said = three.leader().run("node inspect --format", form, name, check=False).stdout.strip()
            return said == f"{moved} reachable"

        wait_until(f"{manager.name} is reached where it is", is_listed)
        three.wait_reachable(3)


def test_all_managers_moved(three: Managers, taken: list[socket.socket]) -> None:
    first, second, third = three.managers
    (worker,) = three.workers
    options = ("--replicas", "10", "--constraint", "node.hostname==w0", "--no-resolve-image", "-q", "-d")
    first.docker("service create", *options, "--name", "web", "image")
    wait_until("it runs", lambda: len(first.running("web")) == 10)
    running = sorted(row["ID"] for row in first.running("web"))
    for manager in three.managers:
        manager.stop()
    for manager in three.managers:
        taken.append(take(three.addresses[manager.name]))
        three.addresses[manager.name] = f"127.0.0.1:{free_port()}"
    for manager in three.managers:
        manager.start()
        assert "skep cluster reconnect --advertise-addr" in error_of(manager)
    at = three.addresses
    skep_ok("cluster reconnect --advertise-addr", at["m0"], on=first)
    assert "does not have a leader" in error_of(first)
    skep_ok("cluster reconnect {} --advertise-addr {}", at["m0"], at["m1"], on=second)
    wait_until("two of three are a swarm", lambda: three.leader())
    skep_ok("cluster reconnect {} {} --advertise-addr {}", at["m0"], at["m1"], at["m2"], on=third)
    skep_ok("cluster reconnect", at["m1"], on=worker)
    three.wait_reachable(3)
    leader = three.leader()
    wait_until("what runs was kept", lambda: sorted(r["ID"] for r in leader.running("web")) == running)
    form = "{{.ManagerStatus.Addr}}"
    wait_until(
        "all are listed where they are",
        lambda: (
            leader.docker("node inspect --format {} m0 m1 m2", form).split() == [at["m0"], at["m1"], at["m2"]]
        ),
    )
    for manager in three.managers:
        manager.stop()
    for manager in three.managers:
        manager.start()
    three.wait_reachable(3)
    wait_until("it is kept again", lambda: sorted(r["ID"] for r in first.running("web")) == running)
