"""No field of a container's spec is taken, stored and shown, and then forgotten on the way to the engine."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import fields, replace

from skep.agent.executor.container_config import create_body
from skep.agent.executor.interfaces import TaskContext
from skep.model.container import (
    ContainerSpec,
    DNSConfig,
    HealthConfig,
    Mount,
    Privileges,
    Ulimit,
)
from skep.model.spec import Platform, TaskSpec
from skep.model.states import RUNNING
from skep.rpc.messages import AssignedTask, ServiceTemplate

SET: dict[str, Any] = {
    "image": "other",
    "labels": {"a": "b"},
    "command": ["x"],
    "args": ["x"],
    "hostname": "h",
    "env": ["A=b"],
    "dir": "/d",
    "user": "u",
    "groups": ["g"],
    "privileges": Privileges(no_new_privileges=True),
    "init": True,
    "stop_signal": "INT",
    "tty": True,
    "open_stdin": True,
    "read_only": True,
    "mounts": [Mount(type="tmpfs", target="/t")],
    "stop_grace_period": 1_000_000_000,
    "healthcheck": HealthConfig(test=["NONE"]),
    "hosts": ["10.0.0.1 a"],
    "dns_config": DNSConfig(search=["s"]),
    "isolation": "process",
    "sysctls": {"a": "b"},
    "capability_add": ["CAP_X"],
    "capability_drop": ["CAP_X"],
    "ulimits": [Ulimit(name="core", hard=1)],
    "oom_score_adj": 1,
}
AS_FILES = {"secrets", "configs"}  # `executor.task_files` writes these, beside the request


def _body(container: ContainerSpec) -> dict[str, Any]:
    template = ServiceTemplate("svc", 1, "web", {}, TaskSpec(container_spec=container))
    context = TaskContext(AssignedTask("t1", "svc", 1, 1, RUNNING), template, "n1", "host-1", None)
    return create_body(context, Platform(os="windows"))  # only there an isolation is taken


def test_each_field_is_tried() -> None:
    assert set(SET) | AS_FILES == {field.name for field in fields(ContainerSpec)}


@pytest.mark.parametrize("name", SET)
def test_the_engine_is_told_of_it(name: str) -> None:
    spec = ContainerSpec(image="image")
    assert _body(replace(spec, **{name: SET[name]})) != _body(spec)
