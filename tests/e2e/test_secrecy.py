"""Nothing secret in logs, errors, core files, or files that others may read; on disk, only sealed.

Everything a swarm does with its keys is done once, errors included, and then every byte that was written is
searched for every secret the swarm ever had, as raw bytes, hex and base64.
"""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skep.daemon.keys import sealer_of
from skep.manager.control.autolock import parse_unlock_key
from skep.model.cluster import Cluster
from skep.rpc.certificates import load_keys
from skep.runtime.errors import Corrupt
from skep.store import codec
from skep.store.etcd.client import EtcdStore
from skep.store.interfaces import Put, Txn
from skep.store.seal import Sealer
from skep.store.sealed import SealedStore
from tests.leaks import leaks_below, leaks_in, private_key, readable_by_others

from .hosts import Host, Swarm, free_port, wait_until
from .test_autolock import KEY, http, init, key_of, restart, unlock

pytestmark = pytest.mark.timeout(180)

PASSWORD = "pw-in-an-environment-4711"


@pytest.fixture
def pair(short_dir: Path) -> Iterator[Swarm]:
    """A manager and a worker that say all they have to say."""
    made = Swarm(short_dir, "simulated", workers=0)
    made.manager = Host(short_dir, "mg0", "simulated", "--log-level", "debug")
    made.workers = [Host(short_dir, "w0", "simulated", "--log-level", "debug")]
    try:
        yield made
    finally:
        made.stop()


class Secrets:
    """Every secret the swarm has had, read the way skepd reads them."""

    def __init__(self, manager: Host) -> None:
        self.named: dict[str, bytes] = {"environment": PASSWORD.encode()}
        self._manager = manager
        self._number = 0

    def note(self) -> None:
        """Adds what there is now; the manager runs, unlocked."""
        self._number += 1
        state = self._manager.state_dir
        data_key, sealer, cluster = wait_until("the store opens", lambda: self._opened(state))
        found = {
            "data key": data_key,
            "CA key": private_key(cluster.ca_key_pem),
            "worker token": cluster.worker_token_secret.encode(),
            "manager token": cluster.manager_token_secret.encode(),
        }
        if cluster.unlock_key:
            found["unlock key"] = parse_unlock_key(cluster.unlock_key)
        sealed = load_keys(state / "certificates").key_pem
        if b"SEALED" in sealed:
            body = _decoded(b"".join(sealed.splitlines()[1:-1]).decode())
            pem = sealer.open(body, "certificates/swarm-node.key")
            found["manager's TLS key"] = private_key(pem)
        else:
            found["manager's TLS key"] = private_key(sealed)
        for name, secret in found.items():
            if secret not in self.named.values():
                self.named[f"{name} ({self._number})"] = secret

    def note_another_data_key(self) -> bool:
        before = self.data_keys()
        self.note()
        return self.data_keys() != before

    def data_keys(self) -> list[bytes]:
        return [secret for name, secret in self.named.items() if name.startswith("data key")]

    def _opened(self, state: Path) -> tuple[bytes, Sealer, Cluster] | None:
        """Returns the data key, what opens with it and those of before, and the swarm; None while the data
        key is changed."""
        exported = (state / "keys" / "data-key").read_bytes()
        kept = json.loads(exported)
        key = key_of(self._manager) if kept["is_sealed"] else ""
        data_key = _decoded(kept["key"])
        if kept["is_sealed"]:
            data_key = Sealer(parse_unlock_key(key)).open(data_key, "keys/data-key")
        sealer = sealer_of(exported, key)
        try:
            return data_key, sealer, asyncio.run(read_cluster(state, sealer))
        except Corrupt:
            return None


def _decoded(text: str) -> bytes:
    return base64.b64decode(text)


def etcd_of(state: Path) -> EtcdStore:
    return EtcdStore(f"unix:{state}/etcd/run/c:0")


async def read_cluster(state: Path, sealer: Sealer) -> Cluster:
    store = SealedStore(etcd_of(state), sealer)
    try:
        pairs, _ = await store.load(codec.CLUSTER_KEY)
        return codec.decode_object(Cluster, pairs[0].key, pairs[0].value, pairs[0].revision)
    finally:
        await store.close()


def errors_of(swarm: Swarm, unlock_keys: list[str]) -> bytes:
    """Provokes every error that has to do with a secret, and returns all that is said."""
    manager, (worker,) = swarm.manager, swarm.workers
    said = []
    worker_token = manager.docker("swarm join-token -q worker")
    manager_token = manager.docker("swarm join-token -q manager")
    prefix, number, digest, secret = worker_token.split("-")
    other = Host(worker.state_dir.parent, "other", "simulated", "--log-level", "debug").start()
    try:
        wrong = (
            "-".join((prefix, number, digest[::-1], secret)),  # another swarm's digest, our secret
            "-".join((prefix, number, digest, secret[:-1])),  # too short
            f"{worker_token}x",
            manager_token.replace("-1-", "-2-"),
        )
        join = ("swarm", "join", swarm.address, "--token")
        said += [other.run(*join, token, check=False) for token in wrong]
        nowhere = f"127.0.0.1:{free_port()}"
        said.append(other.run("swarm join --token", worker_token, nowhere, check=False))
    finally:
        other.stop()
    for key in unlock_keys:
        said.append(unlock(manager, key))
        said.append(worker.run("swarm unlock", data=key.encode(), check=False))
    assert all(done.returncode != 0 for done in said)
    texts = [(done.stdout + done.stderr).encode() for done in said]
    texts.append(http(manager, "POST", "/swarm/unlock", f'{{"UnlockKey":"{unlock_keys[-1]}"}}')[1].encode())
    texts.append(http(manager, "POST", "/swarm/unlock", f'{{"UnlockKey":["{unlock_keys[-1]}"]}}')[1].encode())
    texts.append(http(manager, "POST", "/swarm/unlock", f'{{"UnlockKey":"{unlock_keys[-1]}')[1].encode())
    return b"\n".join(texts)


def test_no_secret_is_anywhere_but_sealed(pair: Swarm) -> None:
    manager, (worker,) = pair.manager.start(), (pair.workers[0].start(),)
    secrets = Secrets(manager)
    said = manager.docker(
        "swarm init --autolock --advertise-addr {} --listen-addr {}", pair.address, pair.address
    )
    keys = KEY.findall(said)
    secrets.note()
    pair.join(worker)
    manager.docker(
        "service create -q -d --no-resolve-image --env PASSWORD={} --name s --replicas 3 image",
        PASSWORD,
    )
    keys += KEY.findall(manager.docker("swarm unlock-key --rotate"))
    secrets.note()
    wait_until("another data key", secrets.note_another_data_key)
    for role in ("worker", "manager"):
        manager.docker("swarm join-token --rotate -q", role)
    secrets.note()
    manager.docker("swarm update --task-history-limit 3 --dispatcher-heartbeat 6s")
    errors = errors_of(pair, keys)

    restart(manager)
    assert manager.docker("info --format {{.Swarm.LocalNodeState}}") == "locked"
    locked = [unlock(manager, keys[0]), unlock(manager, keys[1][:-4]), manager.run("node ls", check=False)]
    errors += "".join(done.stdout + done.stderr for done in locked).encode()
    assert leaks_below([manager.state_dir], secrets.named) == [], "locked: nothing runs"
    assert unlock(manager, keys[1]).returncode == 0
    wait_until("tasks run again", lambda: len(manager.running("s")) == 3)
    manager.kill()
    manager.start(wait_for=("info",))
    assert unlock(manager, keys[1]).returncode == 0
    secrets.note()

    assert len(secrets.named) >= 9, sorted(secrets.named)
    assert leaks_in(errors, secrets.named) == []
    directory = manager.state_dir.parent
    logs = list(directory.glob("*.log"))
    assert len(logs) == 3
    assert leaks_below(logs, secrets.named) == []
    for host in pair.hosts:
        assert leaks_below([host.state_dir], secrets.named) == []
        assert readable_by_others(host.state_dir) == []
    etcd = int((manager.state_dir / "etcd" / "pid").read_text())
    for pid in (manager.process.pid if manager.process else 0, etcd):
        limits = Path(f"/proc/{pid}/limits").read_text()
        (line,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
        assert line.split()[4:6] == ["0", "0"], "no core files"
        command = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        assert leaks_in(command, secrets.named) == []

    # The same search sees an unsealed cluster in etcd's own files: it would have found one.
    found_keys = secrets.data_keys()
    assert len(found_keys) > 1, "the unlock key was rotated"
    cluster = asyncio.run(read_cluster(manager.state_dir, Sealer(found_keys[-1])))
    asyncio.run(plant(manager.state_dir, codec.encode_object(cluster)))
    found = {name.split(" (")[0] for name, _ in leaks_below([manager.state_dir / "etcd"], secrets.named)}
    assert found >= {"CA key", "worker token", "manager token", "unlock key"}


async def plant(state: Path, value: bytes) -> None:
    store = etcd_of(state)
    await store.commit(Txn((Put("/planted", value),)))
    await store.close()


def test_without_autolock_only_the_key_files_are_plain(pair: Swarm) -> None:
    manager = pair.manager.start()
    init(manager)
    manager.docker(
        "service create -q -d --no-resolve-image --env PASSWORD={} --name s image",
        PASSWORD,
    )
    secrets = Secrets(manager)
    secrets.note()
    manager.stop()
    found = {
        (name.split(" (")[0], Path(path).name)
        for name, path in leaks_below([manager.state_dir], secrets.named)
    }
    assert found == {("data key", "data-key"), ("manager's TLS key", "swarm-node.key")}
    assert readable_by_others(manager.state_dir) == []


def test_the_apis_socket_is_for_the_group_although_the_rest_is_private(short_dir: Path) -> None:
    path = short_dir / "new" / "api.sock"
    other = Host(short_dir, "n", "simulated", "--host", f"unix://{path}").start()
    try:
        assert path.parent.stat().st_mode & 0o777 == 0o755
        assert path.stat().st_mode & 0o777 == 0o660
    finally:
        other.stop()


def test_a_killed_daemon_leaves_no_core_file(short_dir: Path) -> None:
    """Asked from inside: whoever can read a core file needs no key."""
    code = (
        "import ctypes, resource; from skep.runtime.process import keep_memory_private as keep; keep();"
        "assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0;"
        "assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0);"
        f"open({str(short_dir / 'made')!r}, 'w').close(); import os; os.abort()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=short_dir, capture_output=True, timeout=30)
    assert done.returncode == -6, done.stderr
    assert [path.name for path in short_dir.iterdir()] == ["made"]
    assert (short_dir / "made").stat().st_mode & 0o077 == 0
