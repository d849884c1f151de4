"""Devices, GPUs and privileges by a service's labels: what they mean, who may ask, and what the engine gets."""

from __future__ import annotations

import pytest

from skep.agent.executor.host_access import host_access_json
from skep.cli.settings import parse_settings
from skep.manager.orchestrator.updater import rolled_back
from skep.model.access import DEVICES_MAX, Device, HostAccess, access_of, check_allowed, check_constraints
from skep.model.container import ContainerSpec
from skep.model.service import Service, UpdateStatus, first_template, with_template
from skep.model.spec import Placement, ServiceSpec, TaskSpec
from skep.runtime.errors import Denied, Invalid
from tests.api_process import running_api


@pytest.mark.parametrize(
    ("labels", "access"),
    [
        ({}, None),
        ({"a": "b", "skep.other": "x"}, None),
        ({"skep.privileged": "false", "skep.gpus": "0"}, None),
        ({"skep.privileged": "True"}, HostAccess(privileged=True)),
        ({"skep.device": "/dev/fuse"}, HostAccess(devices=(Device("/dev/fuse", "/dev/fuse"),))),
        ({"skep.device": "/dev/a:rw"}, HostAccess(devices=(Device("/dev/a", "/dev/a", "rw"),))),
        ({"skep.device": "/dev/a:/dev/b"}, HostAccess(devices=(Device("/dev/a", "/dev/b"),))),
        (
            {"skep.device": "/dev/a:/dev/b:r, /dev/c", "skep.device.more": "/dev/d"},
            HostAccess(
                devices=(
                    Device("/dev/a", "/dev/b", "r"),
                    Device("/dev/c", "/dev/c"),
                    Device("/dev/d", "/dev/d"),
                )
            ),
        ),
        ({"skep.gpus": "all"}, HostAccess(gpus="all")),
        ({"skep.gpus": "2"}, HostAccess(gpus="2")),
        ({"skep.gpus": "device=GPU-1a,0"}, HostAccess(gpus="device=GPU-1a,0")),
    ],
)
def test_labels_say_what_tasks_may_have(labels: dict[str, str], access: HostAccess | None) -> None:
    assert access_of(labels) == access


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"skep.device": "fuse"}, "label skep.device: 'fuse' is not HOSTPATH"),
        ({"skep.device": ""}, "is not HOSTPATH"),
        ({"skep.device.x": "/dev/a:/dev/b:rwx"}, "label skep.device.x"),
        ({"skep.device": "/dev/a:/dev/b:r:w"}, "is not HOSTPATH"),
        ({"skep.device": "/dev/../etc"}, "is not HOSTPATH"),
        ({"skep.device": "/dev/a:"}, "is not HOSTPATH"),
        ({"skep.device": "/dev/a,/dev/b:/dev/a"}, "two labels skep.device… put a device at /dev/a"),
        ({"skep.device": ",".join(f"/dev/x{n}" for n in range(DEVICES_MAX + 1))}, "at most 64 devices"),
        ({"skep.gpus": "many"}, "label skep.gpus: 'many' is not all"),
        ({"skep.gpus": "device="}, "label skep.gpus"),
        ({"skep.privileged": "maybe"}, "'maybe' is neither true nor false"),
    ],
)
def test_labels_that_make_no_sense_are_refused(labels: dict[str, str], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        access_of(labels)


def test_the_swarm_must_allow_it() -> None:
    device, privileged = access_of({"skep.device": "/dev/a"}), access_of({"skep.privileged": "true"})
    check_allowed(None, devices=False, privileged=False)
    check_allowed(device, devices=True, privileged=False)
    check_allowed(device, devices=False, privileged=True)  # who may have everything may have a device
    check_allowed(privileged, devices=False, privileged=True)
    with pytest.raises(Denied, match=r"setting allow-devices is off.*`skep cluster set allow-devices=on`"):
        check_allowed(device, devices=False, privileged=False)
    with pytest.raises(Denied, match=r"`skep cluster set allow-privileged=on`"):
        check_allowed(privileged, devices=True, privileged=False)
    with pytest.raises(Denied, match="allow-devices"):
        check_allowed(access_of({"skep.gpus": "all"}), devices=False, privileged=False)


def test_a_change_of_it_needs_new_tasks_and_a_rollback_takes_it_back() -> None:
    plain = ServiceSpec(name="web", labels={"a": "1"})
    given = ServiceSpec(name="web", labels={"a": "1", "skep.device": "/dev/a"})
    templates = [first_template(plain)]
    assert with_template(templates, ServiceSpec(name="web", labels={"a": "2"})) == templates
    templates = with_template(templates, given)
    assert [(t.version, t.access is not None) for t in templates] == [(1, False), (2, True)]
    service = Service(
        id="s", spec=given, previous_spec=plain, templates=templates, created_at=0, updated_at=0
    )
    back = rolled_back(service, UpdateStatus(state="rollback_started", started_at=1))
    assert (back.template.version, back.template.access) == (1, None)
    broken = ServiceSpec(name="web", labels={"skep.device": "was only a label"})
    assert first_template(broken).access is None


def test_what_the_engine_gets() -> None:
    access = access_of({"skep.privileged": "1", "skep.device": "/dev/a:/dev/b:r", "skep.gpus": "2"})
    assert access is not None
    assert host_access_json(access) == {
        "Privileged": True,
        "Devices": [{"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"}],
        "DeviceRequests": [
            {"Driver": "", "Count": 2, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}
        ],
    }
    (request,) = host_access_json(HostAccess(gpus="device=a,b"))["DeviceRequests"]
    assert (request["Count"], request["DeviceIDs"]) == (0, ["a", "b"])
    (request,) = host_access_json(HostAccess(gpus="all"))["DeviceRequests"]
    assert (request["Count"], request["DeviceIDs"]) == (-1, None)


def test_settings_are_written_as_names_and_on_or_off() -> None:
    assert parse_settings(("allow-devices=on", "allow-privileged=off", "data-path=ipvs")) == {
        "AllowDevices": True,
        "AllowPrivileged": False,
        "DataPath": "ipvs",
    }
    for text, words in (
        ("allow=on", "there is no setting 'allow'"),
        ("allow-devices=yes", "allow-devices=on or"),
        ("data-path", "data-path=nftables or ipvs"),
    ):
        with pytest.raises(Invalid, match=words):
            parse_settings((text,))


def placed_by(*constraints: str) -> ServiceSpec:
    placement = Placement(constraints=list(constraints))
    return ServiceSpec(
        name="x", task_template=TaskSpec(container_spec=ContainerSpec(image="x"), placement=placement)
    )


def test_nodes_do_not_choose_what_they_get_where_the_swarm_says_so() -> None:
    managers_words = ("node.id==a", "node.role == manager", "node.labels.zone!=b", "node.ip==10.0.0.0/8")
    check_constraints(placed_by(), None)
    check_constraints(placed_by(*managers_words), None)
    own_words = (
        "node.hostname==a",
        "Node.Platform.OS != linux",
        "node.platform.arch==x86_64",
        "engine.labels.a==b",
    )
    for text in own_words:
        with pytest.raises(
            Denied, match=f"as '{text}'.*`skep cluster set allow-self-reported-constraints=on`"
        ):
            check_constraints(placed_by(managers_words[0], text), None)
        check_constraints(placed_by(text), placed_by("node.id==a", text))  # it was there before
        with pytest.raises(Denied):
            check_constraints(placed_by(text), placed_by(text + "b"))


@pytest.mark.real_time  # the API answers at a socket
async def test_a_service_of_before_runs_on_where_constraints_on_nodes_words_are_refused() -> None:
    spec = {
        "Name": "x",
        "TaskTemplate": {"ContainerSpec": {"Image": "x"}, "Placement": {"Constraints": ["node.hostname==a"]}},
    }
    async with running_api() as api:
        assert (await api.ask("POST", "/services/create", spec)).status == 201
        answer = await api.ask("POST", "/skep/v1/cluster/settings", {"AllowSelfReportedConstraints": False})
        assert answer.json == {
            "AllowDevices": False,
            "AllowPrivileged": False,
            "AllowSelfReportedConstraints": False,
            "DataPath": "nftables",
        }
        answer = await api.ask("POST", "/services/create", spec | {"Name": "y"})
        assert (answer.status, "'node.hostname==a'" in answer.message) == (403, True)
        path = f"/services/x/update?version={await api.version_of('/services/x')}"
        assert (await api.ask("POST", path, spec | {"Mode": {"Replicated": {"Replicas": 3}}})).status == 200
        other = {**spec["TaskTemplate"], "Placement": {"Constraints": ["node.hostname==b"]}}  # type: ignore[dict-item]
        path = f"/services/x/update?version={await api.version_of('/services/x')}"
        assert (await api.ask("POST", path, spec | {"TaskTemplate": other})).status == 403
        await api.ask("POST", "/skep/v1/cluster/settings", {"AllowSelfReportedConstraints": True})
        assert (await api.ask("POST", path, spec | {"TaskTemplate": other})).status == 200
