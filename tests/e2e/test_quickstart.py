"""The first command of the README, as a new user runs it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest
from msgspec.structs import replace

from skep.model.mesh import Mesh, MeshPort, MeshService
from skep.model.overlay import OverlayNetwork
from skep.network.nftables import Nftables
from skep.network.plane import DataPlane
from skep.network.ruleset import LIST

from .hosts import Host, wait_until
from .remains import new_in, remains, task_files

ROOT = Path(__file__).parents[2]


def run(home: Path, engine: str, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": path + os.environ["PATH"],
        "SKEP_QUICKSTART_DIR": str(home),
        "SKEP_QUICKSTART_ENGINE": engine,
    }
    return subprocess.run(
        [ROOT / "quickstart", *arguments], env=environment, capture_output=True, text=True, timeout=110
    )


def quickstart(home: Path, engine: str, *arguments: str) -> str:
    done = run(home, engine, *arguments)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.root
@pytest.mark.timeout(240)
def test_quickstart_leaves_a_running_swarm_finds_it_again_and_takes_it_down(
    engine_socket: str, short_dir: Path
) -> None:
    """Down takes all of it, also what a daemon that was killed ran."""
    home, engine = short_dir / "q", f"unix://{engine_socket}"
    hosts = [Host(home, name, engine) for name in ("mg0", "mg1", "mg2", "w0", "w1")]
    before = remains(engine_socket, hosts)
    nodes: list[str] = []
    try:
        last = quickstart(home, engine).splitlines()[-1]
        assert last == f"export DOCKER_HOST=unix://{home}/mg0.sock"
        again = quickstart(home, engine)
        assert again.splitlines()[-1] == last
        assert "service create" not in again
        first, killed = hosts[0], hosts[-1]
        states = first.docker("service", "ps", "hello", "--format", "{{.CurrentState}}").split("\n")
        assert len([state for state in states if state.startswith("Running")]) == 3
        assert "service ls" in quickstart(home, engine, "status")
        first.docker("service", "update", "-q", "--publish-add", "8080:8080", "hello")
        with urllib.request.urlopen("http://127.0.0.1:8080", timeout=10) as answer:
            assert answer.read().startswith(b"hello from ")
        first.docker("node", "demote", "mg0")
        control = ("info", "-f", "{{.Swarm.ControlAvailable}}")
        wait_until("a worker it is", lambda: hosts[0].docker(*control) == "false")
        again = quickstart(home, engine)
        assert again.splitlines()[-1] == f"export DOCKER_HOST=unix://{home}/mg1.sock"
        assert "service create" not in again
        first = hosts[1]
        first.docker("network", "create", "-d", "overlay", "n")
        first.docker("secret", "create", "s", "-", data=b"secret")
        options = ["--name", "all", "--mode", "global", "--network", "n", "--secret", "s"]
        image = [
            "--no-resolve-image",
            "skep-quickstart",
            "sh",
            "-c",
            "trap '' TERM; while sleep 1; do :; done",
        ]
        first.docker("service", "create", "-q", *options, "--stop-grace-period", "60s", *image)
        nodes = [host.docker("info", "-f", "{{.Swarm.NodeID}}") for host in hosts]
        assert task_files(nodes[-1])
        for host in (hosts[0], killed):
            os.kill(int((home / f"{host.name}.pid").read_text()), signal.SIGKILL)
        status = quickstart(home, engine, "status")
        assert "skepd mg0 does not run" in status
        assert "service ls" in status, "another manager answers"
        assert status.splitlines()[-1] == f"export DOCKER_HOST=unix://{home}/mg1.sock"
    finally:
        quickstart(home, engine, "down")
    assert not home.exists()
    assert new_in(remains(engine_socket, hosts), before) == {}
    assert [path for node in nodes for path in task_files(node)] == []


@pytest.mark.root
def test_down_says_what_it_cannot_remove_and_keeps_what_it_knows(
    engine_socket: str, busybox_image: str, short_dir: Path
) -> None:
    """Else it is there for ever, and nobody knows whose it is."""
    home, engine, node = short_dir / "q", f"unix://{engine_socket}", secrets.token_hex(13)[:25]
    former = home / "w0" / "former-nodes.json"
    former.parent.mkdir(parents=True)
    former.write_text(json.dumps([node]))
    address = home / "engine-address"
    address.write_text(f"unix://{short_dir}/none.sock\n")
    # Which engine it is was noted when it began: what is asked for now is another one.
    done = run(home, engine, "down")
    assert done.returncode == 1
    assert f"the Docker Engine at unix://{short_dir}/none.sock does not answer" in done.stderr
    assert former.exists()
    address.write_text(engine + "\n")
    label, docker = f"com.docker.swarm.node.id={node}", shutil.which("docker")
    command = ["docker", "-H", engine, "create", "--label", label, busybox_image, "true"]
    container = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    try:
        refuses = short_dir / "bin" / "docker"  # an engine that removes nothing
        refuses.parent.mkdir()
        refuses.write_text(f'#!/bin/sh\n[ "$3" != rm ] || exit 1\nexec {docker} "$@"\n')
        refuses.chmod(0o755)
        done = run(home, engine, "down", path=f"{refuses.parent}:")
        assert done.returncode == 1
        assert "not all of it could be removed" in done.stderr
        assert "container " in done.stderr
        assert former.exists()
    finally:
        subprocess.run(["docker", "-H", engine, "rm", "-f", container], check=True, capture_output=True)


@pytest.mark.root
def test_down_clears_the_mesh_of_daemons_that_were_killed(engine_socket: str, short_dir: Path) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("in a network of its own only, as a lane of ./check has")
    home = short_dir / "q"
    home.mkdir()
    made = Mesh(OverlayNetwork("net", "198.18.9.0/24", 4097, 4789), {"n": "127.0.0.1"})
    web = MeshService("s", "web", (MeshPort("tcp", 8080, 80),))
    plane = DataPlane("n")
    assert plane.apply(replace(made, services={"s": web})).failures == ()
    plane.close()  # what it made stays
    assert "skb4097" in subprocess.run(["ip", "link"], capture_output=True, text=True).stdout
    quickstart(home, f"unix://{engine_socket}", "down")
    for command in ("ip link", "iptables-save"):
        left = subprocess.run(command.split(), capture_output=True, text=True).stdout
        assert "skb4097" not in left
        assert "0x5a000000" not in left
    assert Nftables().list(LIST) is None
