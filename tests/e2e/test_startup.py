"""Starting skepd with something wrong: it says what, where, and what to do, and ends with status 1."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from .hosts import SKEPD, Host, free_port

pytestmark = pytest.mark.timeout(60)


def skepd(directory: Path, *options: str, environment: dict[str, str] | None = None) -> str:
    """Starts a daemon that must not come up; returns what it says."""
    command: list[str | Path] = [SKEPD, *options]
    if "--state-dir" not in options:
        command += ["--state-dir", directory / "state"]
    if "--host" not in options:
        command += ["--host", f"unix://{directory}/s.sock"]
    if "--engine" not in options:
        command += ["--engine", "simulated"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=40, env={**os.environ, **(environment or {})}
    )
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def initialised(directory: Path) -> Host:
    """A manager that was stopped."""
    host = Host(directory, "m", "simulated")
    host.start()
    address = f"127.0.0.1:{free_port()}"
    host.docker("swarm init --advertise-addr {} --listen-addr {}", address, address)
    host.stop()
    return host


def test_settings_from_file_and_environment(short_dir: Path) -> None:
    file = short_dir / "skepd.toml"
    file.write_text(f'name = "by-file"\nstate_dir = "{short_dir}/s1"\nengine = "simulated"\n')
    host = Host(short_dir, "x", "simulated", "--config", str(file))
    try:
        host.start(environment={"SKEPD_LOG_FORMAT": "json"})
        assert host.docker("info --format {{.Name}}") == "x", "a flag wins over the file"
        assert json.loads(host.log().splitlines()[-1])["event"] == "skepd.started"
    finally:
        host.stop()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nmae = 'x'", "unknown setting 'nmae'"),
        ("name = 3", "Expected `str`"),
        ("name = ", "is not valid TOML"),
    ],
)
def test_a_bad_file_is_named(short_dir: Path, text: str, says: str) -> None:
    file = short_dir / "skepd.toml"
    file.write_text(text)
    said = skepd(short_dir, "--config", str(file))
    assert says in said
    assert str(file) in said


def test_bad_flags(short_dir: Path) -> None:
    assert "--engine must be unix://PATH" in skepd(short_dir, "--engine", "tcp://1.2.3.4")
    assert "--host must be unix://PATH" in skepd(short_dir, "--host", "/run/x.sock")
    assert "--tlsverify needs --tlscacert" in skepd(short_dir, "--tlsverify")
    assert "absolute path" in skepd(short_dir, "--state-dir", "here")
    assert "too long" in skepd(short_dir, "--host", "unix:///" + "x" * 120)
    assert "without --tlsverify" in skepd(short_dir, "--host", "tcp://0.0.0.0:2375")


def test_missing_or_broken_tls_files_are_named(short_dir: Path) -> None:
    options = ["--host", f"tcp://127.0.0.1:{free_port()}", "--tlsverify"]
    for name in ("tlscacert", "tlscert", "tlskey"):
        options += [f"--{name}", f"{short_dir}/{name}.pem"]
    assert f"{short_dir}/tlscacert.pem" in skepd(short_dir, *options)
    for name in ("tlscacert", "tlscert", "tlskey"):
        (short_dir / f"{name}.pem").write_text("-----BEGIN CERTIFICATE-----\ntrunca")
    assert f"{short_dir}/tls" in skepd(short_dir, *options)


def test_a_port_in_use_is_named_and_the_daemon_stays_usable(short_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert address in skepd(short_dir, "--host", f"tcp://{address}")
        host = Host(short_dir, "m", "simulated").start()
        try:
            done = host.run("swarm init --advertise-addr {} --listen-addr {}", address, address, check=False)
            assert address in done.stderr
            assert "in use" in done.stderr
            other = f"127.0.0.1:{free_port()}"
            host.docker("swarm init --advertise-addr {} --listen-addr {}", other, other)
        finally:
            host.stop()


def test_two_daemons_do_not_share_a_state_directory_or_a_socket(short_dir: Path) -> None:
    host = Host(short_dir, "m", "simulated").start()
    try:
        assert "another skepd runs on the state directory" in skepd(
            short_dir, "--state-dir", str(host.state_dir)
        )
        assert "another daemon listens on" in skepd(short_dir, "--host", host.url)
    finally:
        host.stop()


def test_a_state_directory_mixed_up_with_another_nodes(short_dir: Path) -> None:
    host = initialised(short_dir)
    file = host.state_dir / "swarm.json"
    membership = json.loads(file.read_text())
    file.write_text(json.dumps({**membership, "node_id": "x" * 25}))
    assert "the directory was mixed up with another node's" in skepd(
        short_dir, "--state-dir", str(host.state_dir)
    )


def test_a_state_directory_of_another_version(short_dir: Path) -> None:
    host = initialised(short_dir)
    file = host.state_dir / "swarm.json"
    membership = json.loads(file.read_text())
    file.write_text(json.dumps({**membership, "version": 99}))
    assert "is of layout 99" in skepd(short_dir, "--state-dir", str(host.state_dir))


@pytest.mark.parametrize("file", ["swarm.json", "certificates/swarm-node.crt", "certificates/swarm-node.key"])
def test_a_truncated_file_is_named_and_nothing_is_lost(short_dir: Path, file: str) -> None:
    host = initialised(short_dir)
    (path,) = [p for p in host.state_dir.rglob("*") if str(p).endswith(file)] or [None]
    assert path is not None, sorted(host.state_dir.rglob("*"))[:20]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert str(path) in skepd(short_dir, "--state-dir", str(host.state_dir))
    path.write_bytes(whole)
    host.start()
    assert host.docker("node ls -q")
    host.stop()


def test_no_etcd_says_how_to_get_one(short_dir: Path) -> None:
    host = Host(short_dir, "m", "simulated", "--etcd", "/nowhere/etcd").start()
    try:
        done = host.run("swarm init --advertise-addr 127.0.0.1:{}", free_port(), check=False)
        assert "/nowhere/etcd" in done.stderr
        assert "apt-get install etcd-server" in done.stderr
        assert host.docker("info --format {{.Swarm.LocalNodeState}}") == "inactive"
    finally:
        host.stop()


def test_an_unsafe_etcd_is_refused_by_its_version(short_dir: Path) -> None:
    fake = short_dir / "etcd"
    fake.write_text("#!/bin/sh\necho 'etcd Version: 3.5.1'\n")
    fake.chmod(0o755)
    host = Host(short_dir, "m", "simulated", "--etcd", str(fake)).start()
    try:
        done = host.run("swarm init --advertise-addr 127.0.0.1:{}", free_port(), check=False)
        assert "3.5.1" in done.stderr
    finally:
        host.stop()


def test_no_engine_says_so_and_the_swarm_answers(short_dir: Path) -> None:
    host = Host(short_dir, "m", f"unix://{short_dir}/nothing.sock").start(wait_for=("info",))
    try:
        done = host.run("ps", check=False)
        assert f"{short_dir}/nothing.sock" in done.stderr
        address = f"127.0.0.1:{free_port()}"
        host.run("swarm init --advertise-addr {} --listen-addr {}", address, address, check=False)
        assert host.docker("node ls -q")
    finally:
        host.stop()
