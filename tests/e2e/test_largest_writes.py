"""The largest writes that are accepted harm no manager: all are started again, and lead."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from skep.model.bounds import (
    CONFIG_DATA_MAX_BYTES,
    KIB,
    LABELS_MAX_BYTES,
    NETWORK_MAX_BYTES,
    SERVICE_MAX_BYTES,
    SERVICE_SPEC_MAX_BYTES,
    SWARM_SPEC_MAX_BYTES,
)

from .fixtures import swarm_fixture
from .hosts import Host, UnixConnection, wait_until
from .managers import Managers, create, wait_running
from .skep_cli import skep_ok

pytestmark = pytest.mark.timeout(240)


swarm = swarm_fixture(lambda directory: Managers(directory, managers=3, workers=1), own=True)


def ask(host: Host, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Returns the status, and the answer or its message."""
    connection = UnixConnection(host.socket)
    try:
        data = json.dumps(body).encode() if body is not None else None
        connection.request(method, path, data, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        found = json.loads(answer.read() or b"{}")
    finally:
        connection.close()
    return answer.status, found["message"] if answer.status >= 400 else found


def service(size: int, letter: str = "x") -> dict[str, Any]:
    """A spec with so large a label on its containers: each other one is another template."""
    container = {"Image": "image", "Labels": {"l": letter * size}}
    return {
        "Name": "large",
        "TaskTemplate": {"ContainerSpec": container},
        "Mode": {"Replicated": {"Replicas": 2}},
    }


def config(size: int) -> dict[str, Any]:
    data = base64.b64encode(b"x" * size).decode()
    return {"Name": "large", "Labels": {"l": "x" * (LABELS_MAX_BYTES - KIB)}, "Data": data}


def test_all_managers_come_back_after_the_largest_writes(swarm: Managers, tmp_path: Path) -> None:
    by = swarm.first
    write_services(by)
    write_others(by)
    for manager in swarm.managers:
        manager.kill()
    for manager in swarm.managers:
        manager.start()
    swarm.wait_reachable(3)
    looked_at(swarm, tmp_path / "before")
    leader = swarm.leader()
    leader.kill()
    wait_until("another one leads", lambda: swarm.nodes()[leader.name][1] == "Unreachable", 30)
    looked_at(swarm, tmp_path / "after")


def looked_at(swarm: Managers, backup: Path) -> None:
    by = swarm.leader()
    assert by.docker("service inspect large --format {{.Spec.Name}}") == "large"
    create(by, backup.name, 2)
    wait_running(by, backup.name, 2)
    skep_ok("backup create", backup, on=by)
    assert backup.stat().st_size > CONFIG_DATA_MAX_BYTES + SERVICE_SPEC_MAX_BYTES


def write_services(by: Host) -> None:
    """As large as may be, and again and again with another: versions are kept while tasks run them."""
    most = SERVICE_SPEC_MAX_BYTES - KIB
    status, said = ask(by, "POST", "/services/create", service(SERVICE_SPEC_MAX_BYTES))
    assert status == 400
    assert f"bytes of the store; {SERVICE_SPEC_MAX_BYTES} may be" in said
    assert ask(by, "POST", "/services/create", service(most))[0] == 201
    refused = 0
    for letter in "abcdefghijkl":
        found = ask(by, "GET", "/services/large")[1]
        version = found["Version"]["Index"]
        status, said = ask(by, "POST", f"/services/large/update?version={version}", service(most, letter))
        assert status in (200, 400, 500), said
        if status == 400:
            refused += 1
            assert f"bytes of the store; {SERVICE_MAX_BYTES} may be" in said
    wait_running(by, "large", 2)


def write_others(by: Host) -> None:
    status, said = ask(by, "POST", "/configs/create", config(CONFIG_DATA_MAX_BYTES))
    assert (status, said.endswith(f"less than {CONFIG_DATA_MAX_BYTES} bytes")) == (400, True)
    assert ask(by, "POST", "/configs/create", config(CONFIG_DATA_MAX_BYTES - 1))[0] == 201
    network = {"Name": "large", "Driver": "overlay", "Labels": {"l": "x" * (NETWORK_MAX_BYTES // 2 - KIB)}}
    assert ask(by, "POST", "/networks/create", network)[0] == 201
    network = {**network, "Name": "larger", "Labels": {"l": "x" * NETWORK_MAX_BYTES}}
    assert f"{NETWORK_MAX_BYTES // 2} may be" in ask(by, "POST", "/networks/create", network)[1]
    node = next(n for n in ask(by, "GET", "/nodes")[1] if n["Description"]["Hostname"] == "w0")
    path = f"/nodes/{node['ID']}/update?version={node['Version']['Index']}"
    spec = {**node["Spec"], "Labels": {"l": "x" * LABELS_MAX_BYTES}}
    assert f"{LABELS_MAX_BYTES} may be" in ask(by, "POST", path, spec)[1]
    assert ask(by, "POST", path, {**spec, "Labels": {"l": "x" * (LABELS_MAX_BYTES - KIB)}})[0] == 200
    found = ask(by, "GET", "/swarm")[1]
    path = f"/swarm/update?version={found['Version']['Index']}"
    spec = {**found["Spec"], "Labels": {"l": "x" * SWARM_SPEC_MAX_BYTES}}
    assert f"{SWARM_SPEC_MAX_BYTES} may be" in ask(by, "POST", path, spec)[1]
    assert ask(by, "POST", path, {**spec, "Labels": {"l": "x" * (SWARM_SPEC_MAX_BYTES - KIB)}})[0] == 200
