"""`skep backup`: taken of a swarm at work, restored on another machine; what is no backup is refused."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skep.api.interfaces import InitRequest
from skep.daemon.founding import found_swarm
from skep.store import codec
from skep.store.backup import header_of, read, write
from skep.store.interfaces import KeyValue, Put
from tests.certificates import make_certificates
from tests.leaks import leaks_in

from .fixtures import starting, swarm_fixture
from .hosts import Host, UnixConnection, free_port, wait_until
from .managers import Managers, create
from .skep_cli import skep, skep_ok

pytestmark = pytest.mark.timeout(180)

ON_WORKER = ("--constraint", "node.hostname==w0")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managers]:
    """A swarm of two managers and a worker, with a service that runs."""
    with starting(Managers(tmp_path_factory.mktemp("b"), 2, 1)) as made:
        manager = made.managers[0]
        create(manager, "web", 30, *ON_WORKER)
        wait_until("it runs", lambda: len(manager.running("web")) == 30)
        yield made


fresh = swarm_fixture(lambda directory: Host(directory, "fresh", "simulated"), own=True)


def restore(host: Host, file: Path, *options: str) -> str:
    """Returns the address of the restored swarm's manager."""
    address = f"127.0.0.1:{free_port()}"
    where = ("--advertise-addr", address, "--listen-addr", address)
    skep_ok("backup restore", file, *where, *options, on=host)
    return address


def send(host: Host, data: bytes) -> str:
    """Sends a body to the daemon itself, past what the command checks; returns the answer."""
    connection = UnixConnection(host.socket)
    # A machine with several addresses does not choose one.
    query = "advertise_addr=127.0.0.1:1&listen_addr=127.0.0.1:1"
    connection.request("POST", f"/skep/v1/restore?{query}", body=data)
    try:
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def test_what_is_no_whole_backup_is_refused_and_the_daemon_stays_usable(
    two: Managers, fresh: Host, tmp_path: Path
) -> None:
    file = tmp_path / "swarm.backup"
    skep_ok("backup create", file, on=two.managers[0])
    data = file.read_bytes()
    middle = len(data) // 2
    cases = {
        "it ends too early": data[:middle],
        "its checksum is another": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "this is not a backup of skep's": b"PK\x03\x04" + data,
        "the backup is of format 2, this skep knows formats up to 1": data.replace(
            b'"format":1', b'"format":2'
        ),
        "Install a newer skep": data.replace(b'"schema":', b'"schema":9'),
    }
    bad = tmp_path / "bad"
    for text, content in cases.items():
        assert content != data
        bad.write_bytes(content)
        if text != "Install a newer skep":  # a right backup but for its header would need its own checksum
            assert text in skep("backup inspect", bad).stderr
            assert text in skep("backup restore", bad, on=fresh).stderr
            assert text in send(fresh, content)
        assert "message" in send(fresh, content)
        assert fresh.docker("info --format {{.Swarm.LocalNodeState}}") == "inactive"
        assert sorted(path.name for path in fresh.state_dir.iterdir()) == ["lock", "run"]
    assert "part of a swarm already" in skep("backup restore", file, on=two.workers[0]).stderr
    assert "already part of a swarm" in send(two.managers[0], data)
    address = restore(fresh, file)
    assert fresh.docker("service ls --format {{.Name}}") == "web"
    stranger = skep("cluster reconnect", address, on=two.managers[0])
    assert "none of the managers that this one knows" in stranger.stderr, "a manager keeps its own swarm"
    two.wait_reachable(2)


def test_one_of_an_earlier_skep_is_restored_without_what_is_too_large(fresh: Host, tmp_path: Path) -> None:
    """One value of more than 2 MiB kept the whole swarm from coming back."""
    ids = iter(("cluster", "first", "history"))
    here, now = ("127.0.0.1", 1), time.time()
    _, _, puts = found_swarm(InitRequest(), "first", here, here, now, lambda: next(ids))
    large = (Put(codec.service_key("s"), bytes(3 << 20)), Put(codec.service_name_key("web"), b"s"))
    pairs = [KeyValue(put.key, put.value, 1) for put in (*puts, *large)]
    file = tmp_path / "swarm.backup"
    file.write_bytes(b"".join(write(header_of(pairs, "0.1", "cluster", now), pairs)))
    address = f"127.0.0.1:{free_port()}"
    done = skep("backup restore {} --advertise-addr {} --listen-addr {}", file, address, address, on=fresh)
    assert done.returncode == 0, done.stderr
    for put in large:
        assert f"Warning: {put.key} was left out: this, or what it belongs to, is larger" in done.stderr
    assert fresh.docker("node ls --format {{.Hostname}}").splitlines() != []
    assert fresh.docker("service ls -q") == ""


def test_it_is_whole_or_not_there(two: Managers, tmp_path: Path) -> None:
    file = tmp_path / "swarm.backup"
    assert "not a swarm manager" in skep("backup create", file, on=two.workers[0]).stderr
    file.write_text("kept")
    assert "exists already" in skep("backup create", file, on=two.managers[0]).stderr
    assert file.read_text() == "kept"
    skep_ok("backup create --force", file, on=two.managers[0])
    assert file.stat().st_mode & 0o777 == 0o600
    with BrokenManager(tmp_path / "s", file.read_bytes()[:-10]) as url:
        done = skep("backup create {} --host {}", tmp_path / "other", url)
        assert "ended too early" in done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["swarm.backup"]


class BrokenManager:
    """A manager that is lost while it sends a backup."""

    def __init__(self, path: Path, content: bytes) -> None:
        self._url, self._content = f"unix://{path}", content
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._work = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> str:
        self._work.start()
        return self._url

    def __exit__(self, *error: object) -> None:
        self._work.join(5)
        self._server.close()

    def _serve(self) -> None:
        connection, _ = self._server.accept()
        with connection:
            connection.recv(10_000)
            size = len(self._content) + 10
            connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode() + self._content)


def test_one_of_a_swarm_that_locks_tells_nobody_anything(two: Managers, fresh: Host, tmp_path: Path) -> None:
    file = tmp_path / "swarm.backup"
    manager = two.first
    skep_ok("backup create", file, on=manager)
    assert "opens with  no other key" in skep_ok("backup inspect", file)
    key = json.loads(keys_of(file))["key"]
    manager.docker("swarm update --autolock=true")
    unlock_key = manager.docker("swarm unlock-key -q")
    secrets = {
        "data key": base64.b64decode(key),
        "unlock key": unlock_key.removeprefix("SWMKEY-1-").encode(),
        "join token": manager.docker("swarm join-token -q manager").split("-")[-1].encode(),
        "environment": b"a-password-in-a-service",
        "secret": b"what-only-tasks-may-know",
    }
    assert leaks_in(file.read_bytes(), secrets) == ["data key"], "what is looked for is found"
    manager.docker("secret create known -", data=secrets["secret"])
    create(manager, "secretive", 1, "--secret", "known", "--env", "P=a-password-in-a-service", *ON_WORKER)
    skep_ok("backup create --force", file, on=manager)
    assert leaks_in(file.read_bytes(), secrets) == []
    assert "opens with  the swarm's unlock key" in skep_ok("backup inspect", file)
    assert "it takes its unlock key" in send(fresh, file.read_bytes())
    where = ("--advertise-addr", "127.0.0.1:1", "--listen-addr", "127.0.0.1:1")
    wrong = skep("backup restore", file, *where, "--unlock-key", "SWMKEY-1-" + "A" * 43, on=fresh)
    assert "invalid key provided" in wrong.stderr
    assert fresh.docker("info --format {{.Swarm.LocalNodeState}}") == "inactive"
    restore(fresh, file, "--unlock-key", unlock_key)
    assert fresh.docker("swarm unlock-key -q") == unlock_key
    fresh.stop()
    fresh.start()
    assert fresh.docker("info --format {{.Swarm.LocalNodeState}}") == "locked"
    fresh.run("swarm unlock", data=unlock_key.encode())
    assert "secretive" in fresh.docker("service ls --format {{.Name}}").split()
    manager.docker("service rm secretive")
    manager.docker("secret rm known")
    manager.docker("swarm update --autolock=false")


def without_version(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A restored store counts its versions anew."""
    return [{key: value for key, value in each.items() if key != "Version"} for each in found]


def keys_of(file: Path) -> bytes:
    with file.open("rb") as stream:
        return read(stream).keys


def test_a_manager_is_asked_over_tls_as_the_docker_client_asks(short_dir: Path, tmp_path: Path) -> None:
    keys, address = short_dir / "c", f"127.0.0.1:{free_port()}"
    make_certificates(keys)
    tls = ["--host", f"tcp://{address}", "--tlsverify", "--tlscacert", f"{keys}/ca.pem"]
    tls += ["--tlscert", f"{keys}/server-cert.pem", "--tlskey", f"{keys}/server-key.pem"]
    host = Host(short_dir, "tls", "simulated", *tls)
    try:
        at = f"127.0.0.1:{free_port()}"
        host.start().docker("swarm init --advertise-addr {} --listen-addr {}", at, at)
        environment = {"DOCKER_HOST": f"tcp://{address}", "DOCKER_TLS_VERIFY": "1"}
        file = tmp_path / "swarm.backup"
        done = skep("backup create", file, environment={**environment, "DOCKER_CERT_PATH": str(keys)})
        assert done.returncode == 0, done.stderr
        assert "nodes: 1" in done.stdout
        none = skep("backup create", tmp_path / "b", environment={**environment, "DOCKER_CERT_PATH": "/none"})
        assert "the certificates in /none (DOCKER_CERT_PATH) cannot be used" in none.stderr
    finally:
        host.stop()


def test_a_swarm_comes_back_on_another_machine(two: Managers, fresh: Host, tmp_path: Path) -> None:
    """The last test of its swarm: the managers are lost."""
    file = tmp_path / "swarm.backup"
    manager, follower = two.managers
    manager.docker("secret create pass -", data=b"word")
    manager.docker("config create conf -", data=b"a = 1")
    manager.docker("network create -d overlay net")
    create(manager, "with", 1, "--secret", "pass", "--config", "conf", "--network", "net", *ON_WORKER)
    wait_until("it runs", lambda: manager.running("with"))
    objects = [("secret", "pass"), ("config", "conf"), ("network", "net")]
    were = {kind: without_version(manager.json(kind, "inspect", name)) for kind, name in objects}
    ended = threading.Event()
    acknowledged: list[str] = []

    def write_all_the_time() -> None:
        while not ended.is_set():
            name = f"s{len(acknowledged)}"
            create(manager, name, 1, *ON_WORKER)
            acknowledged.append(name)

    load = threading.Thread(target=write_all_the_time)
    load.start()
    try:
        wait_until("it is written", lambda: len(acknowledged) > 3)
        before = list(acknowledged)
        printed = skep_ok("backup create", file, on=follower)
        after = list(acknowledged)
    finally:
        ended.set()
        load.join()
    with file.open("rb") as stream:
        header = read(stream).header
    assert f"services: {header.services}, tasks: {header.tasks}, nodes: 3" in printed
    assert skep_ok("backup inspect", file) == printed
    assert len(before) < header.services <= len(after) + 3  # with `web` and `with`, and one under way
    running = sorted(row["ID"] for row in manager.running("web"))
    for lost in two.managers:
        lost.kill()
    address = restore(fresh, file)
    (worker,) = two.workers
    assert skep("cluster reconnect 127.0.0.1:{}", free_port(), on=worker).returncode == 1
    skep_ok("cluster reconnect", address, on=worker)
    form = "{{.Hostname}} {{.Status}} {{.ManagerStatus}}."
    nodes = fresh.docker("node ls --format", form).splitlines()
    assert sorted(nodes) == ["fresh Ready Leader.", "m0 Unknown .", "m1 Unknown .", "w0 Ready ."]
    wait_until("all is said again", lambda: len(fresh.running("web")) == 30)
    assert sorted(row["ID"] for row in fresh.running("web")) == running, "what runs was kept"
    listed = set(fresh.docker("service ls --format {{.Name}}").split())
    assert set(before) < listed
    assert {kind: without_version(fresh.json(kind, "inspect", name)) for kind, name in objects} == were
    fresh.docker("service scale -d with=2")
    wait_until("secrets are given out as before", lambda: len(fresh.running("with")) == 2)
    fresh.docker("node rm --force m0 m1")
    fresh.docker("service scale -d web=31")
    wait_until("it is a swarm as before", lambda: len(fresh.running("web")) == 31)
    fresh.stop()
    fresh.start()
    wait_until("and after a restart", lambda: len(fresh.running("web")) == 31)
