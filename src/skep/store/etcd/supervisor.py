"""etcd as a child of skepd: started, watched, restarted, ended with its parent.

Clients reach it through a unix socket in a directory that only the owner may enter, and so do its peers:
skepd carries what they say to each other (`rpc.streams`), so that etcd needs no port and no certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from skep.model.bounds import ETCD_QUOTA_BYTES, ETCD_REQUEST_MAX_BYTES
from skep.runtime.errors import Invalid, Unavailable
from skep.store.etcd.members import peer_socket, peer_url
from skep.store.etcd.version import HOW, check_version

log = structlog.get_logger()

SOCKET_PATH_MAX = 100  # bytes; the kernel's limit is 107, etcd appends a port
START_S = 30.0  # a member with a large write-ahead log needs some seconds; more means that it hangs
ALONE_S = 3.0  # a member with peers: what goes wrong by itself goes wrong by then
STOP_S = 5.0  # etcd closes its database within a second
RESTART_MIN_S, RESTART_MAX_S = 0.1, 5.0  # a crashed etcd is soon back; a broken one is not hammered
LOG_MAX_BYTES = 8 << 20
STEADY_S = 10.0  # an etcd that lived as long is started again at once
FRESH_S = 15.0  # how long the reason of a death explains why etcd does not answer
LAST_WORDS_BYTES = 16 << 10  # a fatal line carries a stack trace of some kB
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

# A transaction has at most 1,024 ops (compares count, too); how large it may be: `model.bounds`. Compaction
# keeps an hour of revisions at most.
_TUNING = (
    "--max-txn-ops=2048",
    f"--max-request-bytes={ETCD_REQUEST_MAX_BYTES}",
    "--auto-compaction-mode=revision",
    "--auto-compaction-retention=10000",
    "--snapshot-count=10000",
    "--pre-vote=true",  # a member that was cut off and returns must not force an election
    "--heartbeat-interval=100",
    "--election-timeout=1000",
    "--logger=zap",
    "--log-level=warn",
)


def die_with_parent() -> None:
    """Runs in the child before exec: the kernel kills it when the parent's thread ends (prctl(2))."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class EtcdProcess:
    """One etcd member with its data under `state_dir`/etcd."""

    def __init__(
        self,
        state_dir: Path,
        binary: str = "etcd",
        node_id: str = "skep",
        quota_bytes: int = ETCD_QUOTA_BYTES,
    ) -> None:
        self._dir = state_dir / "etcd"
        self.quota_bytes = quota_bytes
        self._binary = binary
        self._node_id = node_id
        self._peers: tuple[str, ...] = ()  # of the cluster that is joined
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stopping = False
        self.restarts = 0
        self._last_words = ""
        self._died_at = -FRESH_S

    @property
    def pid(self) -> int:
        """The child's process id; 0 while it is not running."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    def trouble(self) -> str:
        """Returns why etcd died a moment ago, in its own words; an empty text where it did not."""
        fresh = asyncio.get_running_loop().time() - self._died_at < FRESH_S
        return self._last_words if fresh else ""

    @property
    def target(self) -> str:
        """Where clients connect, as gRPC names it."""
        return f"unix:{self._dir / 'run' / 'c:0'}"

    @property
    def run_dir(self) -> Path:
        """Where etcd works and looks for the sockets of its peers."""
        return self._dir / "run"

    @property
    def has_data(self) -> bool:
        return (self._dir / "data" / "member" / "wal").is_dir()

    def prepare(self) -> None:
        """Makes the directories. Errors: `Invalid`."""
        self._prepare()

    async def start(self, peers: Sequence[str] = (), force_new_cluster: bool = False) -> None:
        """Starts etcd and returns when it answers, or runs and has peers to wait for.

        `peers` are node ids: of the cluster to join where there is no data yet, of the known ones where
        there is. `force_new_cluster` makes this member the only one, with all the data it has.
        Errors: `Invalid` (missing, bad version, bad directory), `Unavailable` (does not come up; with the
        end of its log).
        """
        self._peers = tuple(peers)
        binary = shutil.which(self._binary)
        if binary is None:
            raise Invalid(f"etcd was not found ({self._binary}): {HOW}")
        check_version(await _version_text(binary))
        self._prepare()
        await asyncio.to_thread(_end_leftover, self._dir / "pid", str(self._dir))
        try:
            await self._spawn(binary, force_new_cluster)  # when it is started again, without
        except Unavailable as error:
            if not self._peers:
                raise
            log.error("etcd.down", error=str(error))  # the others may be waiting for it: it is tried again
        self._watch = asyncio.ensure_future(self._keep(binary))

    async def stop(self) -> None:
        """Ends the child; SIGKILL after some seconds."""
        self._stopping = True
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        process = self._process
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        (self._dir / "pid").unlink(missing_ok=True)

    def _prepare(self) -> None:
        run = self._dir / "run"
        try:
            for each in (self._dir, run):
                each.mkdir(mode=0o700, parents=True, exist_ok=True)
                each.chmod(0o700)
            (run / "c:0").unlink(missing_ok=True)
        except OSError as error:
            raise Invalid(f"the state directory cannot be used: {error}") from error
        if len(os.fsencode(run / "c:0")) > SOCKET_PATH_MAX:  # gRPC has no other way to name it
            raise Invalid(
                f"the state directory's path is too long for a unix socket ({run}): choose one of at most"
                f" {SOCKET_PATH_MAX - len('/etcd/run/c:0')} bytes"
            )

    async def _spawn(self, binary: str, force_new_cluster: bool = False) -> None:
        """Errors: `Unavailable`."""
        log_path = self._dir / "log"
        try:
            self._process = await self._exec(binary, log_path, force_new_cluster)
        except OSError as error:  # no memory, no process or file left, a disk that fails
            self._process = None
            where = f"{error.filename}: " if error.filename else ""
            raise Unavailable(f"etcd cannot be started: {where}{error.strerror or error}") from error
        try:
            (self._dir / "pid").write_text(str(self._process.pid))
        except OSError as error:  # it ends with us anyway, unless the kernel forgets to
            log.warning("etcd.pid_unwritten", error=str(error))
        await self._until_up(log_path)

    async def _exec(self, binary: str, log_path: Path, force_new_cluster: bool) -> asyncio.subprocess.Process:
        """Errors: `OSError`."""
        own = peer_url(self._node_id)
        cluster = ",".join(f"{node}={peer_url(node)}" for node in sorted({self._node_id, *self._peers}))
        if log_path.exists() and log_path.stat().st_size > LOG_MAX_BYTES:
            log_path.replace(self._dir / "log.1")
        for name in ("c:0", peer_socket(self._node_id)):
            (self.run_dir / name).unlink(missing_ok=True)
        with log_path.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                binary,
                f"--name={self._node_id}",
                f"--data-dir={self._dir / 'data'}",
                "--listen-client-urls=unix://c:0",
                "--advertise-client-urls=unix://c:0",
                f"--listen-peer-urls={own}",
                f"--initial-advertise-peer-urls={own}",
                f"--initial-cluster={cluster}",
                f"--initial-cluster-state={'existing' if self._peers else 'new'}",
                *(["--force-new-cluster"] if force_new_cluster else []),
                f"--quota-backend-bytes={self.quota_bytes}",
                *_TUNING,
                cwd=self._dir / "run",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent,
            )

    async def _until_up(self, log_path: Path) -> None:
        loop = asyncio.get_running_loop()
        deadline, alone_until = loop.time() + START_S, loop.time() + ALONE_S
        assert self._process is not None
        while loop.time() < deadline:
            if self._process.returncode is not None:
                raise Unavailable(
                    f"etcd ended with status {self._process.returncode}: "
                    + (_last_words(log_path) or f"its log ends: {_tail(log_path)}")
                )
            if await asyncio.to_thread(_accepts, str(self._dir / "run" / "c:0")):
                return
            if self._peers and loop.time() > alone_until:
                return  # it waits for a quorum, which is not ours to wait for
            await asyncio.sleep(0.02)
        raise Unavailable(f"etcd did not come up within {START_S:.0f} s; its log ends: {_tail(log_path)}")

    async def _keep(self, binary: str) -> None:
        """Starts the child again whenever it ends."""
        loop, wait_s = asyncio.get_running_loop(), RESTART_MIN_S
        while not self._stopping:
            began = loop.time()
            if self._process is not None:  # else it could not be started
                status = await self._process.wait()
                if self._stopping:
                    return
                self._ended(_last_words(self._dir / "log") or f"it ended with status {status}")
                log.warning("etcd.died", status=status, restart_in_s=wait_s, reason=self._last_words)
            await asyncio.sleep(wait_s)
            wait_s = RESTART_MIN_S if loop.time() - began > STEADY_S else min(wait_s * 2, RESTART_MAX_S)
            try:
                await self._spawn(binary)
            except Unavailable as error:
                log.error("etcd.down", error=str(error))
                if self._process is None:
                    self._ended(str(error))

    def _ended(self, reason: str) -> None:
        self.restarts += 1
        self._died_at, self._last_words = asyncio.get_running_loop().time(), reason


async def _version_text(binary: str) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            binary, "--version", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        output, _ = await asyncio.wait_for(process.communicate(), 10)
    except (OSError, TimeoutError) as error:
        raise Invalid(f"{binary} cannot be run ({error}): {HOW}") from error
    return output.decode(errors="replace")


def _end_leftover(pid_file: Path, own_path: str) -> None:
    """Ends the etcd of a skepd that was killed; only one that runs on our own directory."""
    try:
        pid = int(pid_file.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except (OSError, ValueError):
        return
    if f"--data-dir={own_path}" not in command:
        return
    log.info("etcd.leftover", pid=pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.02)  # in a thread of its own


def _accepts(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


def _last_words(path: Path) -> str:
    """Returns the error of the last line that etcd logged as fatal (JSON lines), or an empty text."""
    for line in reversed(_tail(path, LAST_WORDS_BYTES).splitlines()):
        try:
            said = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue
        if isinstance(said, dict) and said.get("level") in ("fatal", "panic"):
            return f"{said.get('msg', '')}: {said.get('error', '')}".strip(": ")
    return ""


def _tail(path: Path, size: int = 600) -> str:
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - size))
            return stream.read().decode(errors="replace").strip()
    except OSError:
        return "(no log)"
