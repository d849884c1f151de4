"""Containers that bind Docker's socket speak with the swarm, also after skepd was restarted; and skepd at
Docker's own path."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.words import words

from .hosts import Host, Swarm, free_port, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.root, pytest.mark.timeout(180)]

SOCKET = "/var/run/docker.sock"
SINGLE = ("plain", "mounted", "own", "labelled")
# The machine's own docker client, with what it may be linked to.
CLIENT = ("/usr:/usr:ro", "/usr/lib:/lib:ro", "/usr/lib64:/lib64:ro")


@pytest.fixture
def pair(short_dir: Path, engine_socket: str, busybox_image: str) -> Iterator[Swarm]:
    made = Swarm(short_dir, f"unix://{engine_socket}", workers=1)
    try:
        yield made.start()
    finally:
        subprocess.run(["docker", "-H", f"unix://{engine_socket}", "rm", "-f", *SINGLE], capture_output=True)
        made.stop()


def nodes_seen_in(container: str, host: Host) -> list[str]:
    """Returns what `docker node ls` prints in a container; nothing where it fails."""
    done = host.run("exec {} docker node ls --format {{.Hostname}}", container, check=False)
    return sorted(done.stdout.split()) if done.returncode == 0 else []


def wait_for_nodes(container: str, host: Host, *names: str) -> None:
    wait_until(f"{container} sees {names} ({host.log()})", lambda: nodes_seen_in(container, host) == [*names])


def started(name: str, host: Host, image: str, *options: str) -> str:
    volumes = [part for each in CLIENT for part in ("-v", each)]
    host.docker("run -d --name", name, *volumes, *options, image, "sleep", "1d")
    return name


def task_of(service: str, host: Host) -> str:
    """Returns the service's only container, once it runs."""
    label = f"label=com.docker.swarm.service.name={service}"
    return str(wait_until(f"{service} runs", lambda: host.docker("ps -q --filter", label)))


def test_a_service_lists_nodes_through_the_socket_also_after_skepd_was_restarted(
    pair: Swarm, busybox_image: str, engine_socket: str
) -> None:
    manager, worker = pair.manager, pair.workers[0]
    binds = [f"type=bind,source={s},target={t},readonly" for s, t, _ in (v.split(":") for v in CLIENT)]
    mounts = [part for each in binds for part in ("--mount", each)]
    for name, role in (("ui", "manager"), ("agent", "worker")):
        manager.docker(
            "service create -d --name {} --no-resolve-image --constraint node.role=={}",
            name,
            role,
            *mounts,
            "--mount",
            f"type=bind,source={SOCKET},target={SOCKET}",
            "--mount",
            "type=tmpfs,target=/t",
            busybox_image,
            "sleep",
            "1d",
        )
    ui, agent = task_of("ui", manager), task_of("agent", worker)
    wait_for_nodes(ui, manager, "mg0", "w0")
    # Each node's own: a worker's says that it is one.
    assert "Worker nodes can't be used" in manager.run("exec {} docker node ls", agent, check=False).stderr
    spec = manager.json("service inspect ui")[0]["Spec"]
    sources = [each.get("Source") for each in spec["TaskTemplate"]["ContainerSpec"]["Mounts"]]
    assert SOCKET in sources  # as it was given

    for end in (manager.stop, manager.kill):
        end()
        manager.start(wait_for=("node", "ls"))
        wait_for_nodes(ui, manager, "mg0", "w0")
    assert task_of("ui", manager) == ui  # the same container all the time


def test_single_containers_have_it_too_in_all_forms(
    pair: Swarm, busybox_image: str, engine_socket: str
) -> None:
    manager = pair.manager
    plain = started("plain", manager, busybox_image, "--read-only", "-v", f"{SOCKET}:{SOCKET}:ro")
    mounted = started(
        "mounted", manager, busybox_image, "--mount", f"type=bind,source=/run/docker.sock,target={SOCKET}"
    )
    own = started("own", manager, busybox_image, "-v", f"{manager.socket}:{SOCKET}")
    for name in (plain, mounted, own):
        wait_for_nodes(name, manager, "mg0", "w0")

    # An engine that restarts a container while skepd is away finds something to mount.
    manager.kill()
    subprocess.run(["docker", "-H", f"unix://{engine_socket}", "restart", "-t0", plain], check=True)
    manager.start(wait_for=("node", "ls"))
    for name in (plain, mounted, own):
        wait_for_nodes(name, manager, "mg0", "w0")
    subprocess.run(["docker", "-H", f"unix://{engine_socket}", "restart", "-t0", plain], check=True)
    wait_for_nodes(plain, manager, "mg0", "w0")
    # One mount each, however often skepd is started.
    pid = manager.docker("inspect --format {{.State.Pid}}", mounted)
    assert Path(f"/proc/{pid}/mountinfo").read_text().count("/run/docker.sock /") == 1

    manager.docker(
        "create --name labelled --label skep.docker-socket=engine -v {}:/s {} sh",
        SOCKET,
        busybox_image,
    )
    assert manager.json("inspect labelled")[0]["HostConfig"]["Binds"] == [f"{SOCKET}:/s"]
    refused = manager.run(
        "create --label skep.docker-socket=x -v {}:/s {}", SOCKET, busybox_image, check=False
    )
    assert "label skep.docker-socket: 'x' is neither swarm nor engine" in refused.stderr


class HostAtDockersPath(Host):
    """A skepd at Docker's own path, the engine elsewhere: on a machine whose /run is its alone."""

    @property
    def url(self) -> str:
        return f"unix://{SOCKET}"

    @property
    def prefix(self) -> list[str]:
        own_run = 'mount --make-rprivate / && mount -t tmpfs tmpfs /run && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", own_run, "sh"]

    def run(self, line: str, *values: object, **options: object) -> subprocess.CompletedProcess[str]:  # type: ignore[override]
        assert self.process is not None
        inside = ["nsenter", f"--mount=/proc/{self.process.pid}/ns/mnt", self.client]
        return subprocess.run(
            [*inside, *words(line, *values)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=90,
        )

    def _listens(self) -> bool:
        return True  # it is not seen from outside


def test_skepd_serves_dockers_own_path(short_dir: Path, engine_socket: str, busybox_image: str) -> None:
    """Clients need no DOCKER_HOST then, containers that bind /run have it too, and both outlive a restart."""
    host = HostAtDockersPath(short_dir, "mg0", f"unix://{engine_socket}").start()
    try:
        address = f"127.0.0.1:{free_port()}"
        made = host.run("swarm init --advertise-addr {} --listen-addr {}", address, address)
        assert made.returncode == 0, made.stderr
        started("bound", host, busybox_image, "-v", f"{SOCKET}:{SOCKET}")
        wait_for_nodes("bound", host, "mg0")
        host.kill()
        host.start(wait_for=("node", "ls"))
        wait_for_nodes("bound", host, "mg0")
        assert host.run("rm -f bound").returncode == 0
        host.run("swarm leave --force")
    finally:
        host.stop()
