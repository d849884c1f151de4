"""Secrets and configs in real containers, through the docker client."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from skep.agent.executor.in_memory import is_in_memory
from skep.agent.executor.task_files import DIRECTORY
from tests.leaks import leaks_below

from .hosts import Swarm, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

ONE, TWO, SHOWN = (
    b"first-secret-8e1f",
    b"second-secret-77aa",
    b"a config for {{.Service.Name}}: {{secret `one`}}",
)
CREATE = ("service", "create", "-d", "--no-resolve-image", "--stop-signal", "KILL")


def copies(data: bytes) -> list[Path]:
    """Returns the files of tasks, of all nodes on this machine, that have the data."""
    return [path for path in DIRECTORY.rglob("*") if path.is_file() and path.read_bytes() == data]


def in_container(swarm: Swarm, service: str, command: str) -> str:
    engine = swarm.manager._engine
    found = subprocess.run(
        ["docker", "-H", engine, "ps", "-q", "--filter", f"label=com.docker.swarm.service.name={service}"],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    if not found:
        return "it does not run"  # an update stops one before it starts the next
    done = subprocess.run(
        ["docker", "-H", engine, "exec", found[0], "sh", "-c", command], capture_output=True, text=True
    )
    return done.stdout + done.stderr


def test_content_owner_mode_and_where_it_is(swarm: Swarm, busybox_image: str) -> None:
    manager = swarm.manager
    manager.docker("secret create one -", data=ONE)
    manager.docker("secret create two -", data=TWO)
    manager.docker("config create --template-driver golang conf -", data=SHOWN)
    manager.docker(
        *CREATE, "--name", "web", "--read-only", "--secret", "one", "--constraint", "node.hostname==w1",
        "--secret", "source=two,target=/opt/here,uid=5,gid=6,mode=0400", "--config", "conf", busybox_image,
        "sleep", "1d",
    )  # fmt: skip
    wait_until("it runs", lambda: len(manager.running("web")) == 1)
    assert in_container(swarm, "web", "cat /run/secrets/one /opt/here") == (ONE + TWO).decode()
    assert in_container(swarm, "web", "cat /conf") == f"a config for web: {ONE.decode()}"
    assert in_container(swarm, "web", "stat -c '%a %u %g' /run/secrets/one /opt/here /conf").splitlines() == [
        "444 0 0",
        "400 5 6",
        "444 0 0",
    ]
    assert "Read-only" in in_container(swarm, "web", "echo x > /run/secrets/one")
    (path,) = copies(ONE)
    assert path.parts[-3] == manager.json("node inspect w1")[0]["ID"]
    assert is_in_memory(path)
    assert path.parent.stat().st_mode & 0o077 == 0

    refused = manager.run("secret rm one", check=False)
    assert "secret 'one' is in use by the following service: web" in refused.stderr

    worker = next(host for host in swarm.workers if host.name == "w1")
    worker.kill()
    worker.start()
    manager.docker("service update -d --no-resolve-image --label-add a=b web")
    wait_until("it runs", lambda: len(manager.running("web")) == 1)
    assert in_container(swarm, "web", "cat /run/secrets/one") == ONE.decode()

    manager.docker("secret create three -", data=ONE + TWO)
    manager.docker(
        ("service update -d --no-resolve-image --secret-rm one"
" --secret-add source=three,target=one web"),
    )  # fmt: skip
    new = (ONE + TWO).decode()
    wait_until("the new one", lambda: in_container(swarm, "web", "cat /run/secrets/one") == new)
    wait_until("the old one is gone from the node", lambda: not copies(ONE))
    manager.docker("secret rm one")
    manager.docker("service rm web")
    wait_until("nothing is left on the node", lambda: not copies(TWO) and not copies(new.encode()))
    manager.docker("secret rm two three")
    manager.docker("config rm conf")


def test_what_is_secret_is_in_no_state_directory_and_no_log(swarm: Swarm, busybox_image: str) -> None:
    manager, data = swarm.manager, b"kept-from-disks-51c9"
    manager.docker("secret create kept -", data=data)
    manager.docker("config create kept -", data=data[::-1])
    manager.docker(
        *CREATE, "--name", "kept", "--replicas", "3", "--secret", "kept", "--config", "kept", busybox_image,
        "sleep", "1d",
    )  # fmt: skip
    wait_until("it runs", lambda: len(manager.running("kept")) == 3)
    assert manager.json("secret inspect kept")[0]["Spec"] == {"Name": "kept", "Labels": {}}
    secrets = {"secret": data, "config": data[::-1]}
    assert leaks_below([manager._directory], secrets) == []
    manager.docker("service rm kept")
    wait_until("nothing is left", lambda: not copies(data) and not copies(data[::-1]))


def test_a_task_whose_secret_cannot_be_made_says_why(swarm: Swarm, busybox_image: str) -> None:
    manager = swarm.manager
    manager.docker("secret create --template-driver golang odd -", data=b"{{secret `no`}}")
    manager.docker(*CREATE, "--name", "odd", "--secret", "odd", busybox_image, "sleep", "1d")
    says = "expanding secret odd failed"
    wait_until("it says so", lambda: any(says in row["Error"] for row in manager.tasks("odd")))
    manager.docker("service rm odd")
