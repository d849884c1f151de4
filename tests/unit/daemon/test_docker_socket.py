"""Whose socket a container gets that binds Docker's: paths, forms, labels, settings."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from skep.agent.executor.container_config import create_body, place_socket
from skep.agent.executor.interfaces import TaskContext
from skep.api.decode import decode_body
from skep.api.routes.attachments import ContainerCreate, one_of_each, with_socket
from skep.daemon import engine_view
from skep.daemon.given_socket import GivenSocket, given_socket
from skep.daemon.socket_dir import SocketDir
from skep.daemon.state import StateDir
from skep.manager.control.validate import validate_service
from skep.model.access import HostAccess, access_of
from skep.model.container import ContainerSpec, Mount
from skep.model.docker_socket import DockerSocket, wants_engine
from skep.model.spec import ServiceSpec, TaskSpec
from skep.model.states import RUNNING
from skep.rpc.messages import AssignedTask, ServiceTemplate
from skep.runtime.errors import Invalid
from skep.runtime.settings import Settings, load_settings

OURS = DockerSocket("/var/lib/skep/run/docker.sock", frozenset({"/run/skep/skep.sock"}))
SOCKET = "/var/run/docker.sock"


@pytest.mark.parametrize(
    ("source", "is_meant"),
    [
        (SOCKET, True),
        ("/run/docker.sock", True),
        ("//var/run/docker.sock/", True),
        ("/var/run/../run/./docker.sock", True),
        ("/run/skep/skep.sock", True),  # bound itself it would be cut off when skepd restarts
        ("/var/lib/skep/run/docker.sock", True),  # from what `docker inspect` shows of another container
        ("/run/docker-engine.sock", False),
        ("/var/run", False),
        ("/", False),
        ("", False),
        ("docker.sock", False),
        ("var/run/docker.sock", False),  # a volume's name, and none
    ],
)
def test_which_path_means_the_docker_api_of_this_machine(source: str, is_meant: bool) -> None:
    assert OURS.is_meant(source) is is_meant


@pytest.mark.parametrize(
    ("given", "placed"),
    [
        ({"Binds": [f"{SOCKET}:/x"]}, {"Binds": [f"{OURS.path}:/x"]}),
        (
            {"binds": ["/run/docker.sock:/x:ro,z", "/data:/run/docker.sock", "volume:/v"]},
            {"binds": [f"{OURS.path}:/x:ro,z", "/data:/run/docker.sock", "volume:/v"]},
        ),
        (
            {"Mounts": [{"Type": "bind", "Source": SOCKET, "Target": SOCKET, "ReadOnly": True}]},
            {"Mounts": [{"Type": "bind", "Source": OURS.path, "Target": SOCKET, "ReadOnly": True}]},
        ),
        (
            {"mounts": [{"type": "bind", "SOURCE": SOCKET, "target": "/x"}]},
            {"mounts": [{"type": "bind", "SOURCE": OURS.path, "target": "/x"}]},
        ),
    ],
)
def test_all_forms_of_a_bind_are_of_skepds(given: dict[str, Any], placed: dict[str, Any]) -> None:
    assert OURS.put_into(given)
    assert given == placed


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"Binds": None, "Mounts": None},
        {"Binds": [f"/data:{SOCKET}", SOCKET, 7, None]},
        {"Mounts": [{"Type": "volume", "Source": "v", "Target": SOCKET}, None, "x", {"Type": "bind"}]},
        {"Mounts": [{"Type": "volume", "Source": SOCKET, "Target": "/x"}]},
        {"Tmpfs": {SOCKET: ""}},
    ],
)
def test_what_binds_no_socket_of_dockers_is_as_it_was(given: dict[str, Any]) -> None:
    before = {name: list(value) if isinstance(value, list) else value for name, value in given.items()}
    assert not OURS.put_into(given)
    assert given == before


def test_a_container_that_is_made_gets_the_rest_as_it_was_asked() -> None:
    body = b'{"Image":"i","hostconfig":{"Binds":["/run/docker.sock:/s"],"Memory":9007199254740993},"X":[1.5]}'
    wanted = b'{"Image":"i","X":[1.5],"HostConfig":{"Binds":["%s:/s"],"Memory":9007199254740993}}'
    decoded, _ = decode_body(with_socket(body, OURS), ContainerCreate)
    assert decoded == decode_body(wanted % OURS.path.encode(), ContainerCreate)[0]
    assert OURS.path.encode() in with_socket(body, OURS)
    assert b"9007199254740993" in with_socket(body, OURS)
    untouched = b'{ "Image":"i", "HostConfig": {"Binds":["/data:/d"]}}'
    assert with_socket(untouched, OURS) is untouched


def test_a_member_given_in_two_spellings_is_one_as_for_the_engine() -> None:
    body = (
        b'{"HostConfig":{"NetworkMode":"net","Binds":["/run/docker.sock:/s"]},"Labels":{"a":"1"},'
        b'"hostconfig":{"Memory":1,"networkmode":"other"},"labels":{"b":"2"},'
        b'"NetworkingConfig":{"EndpointsConfig":{"x":null},"endpointsconfig":{"y":{}}}}'
    )
    one = one_of_each(body)
    asked, _ = decode_body(one, ContainerCreate)
    assert asked.labels == {"a": "1", "b": "2"}
    assert asked.host_config.network_mode == "other"
    assert set(asked.networking_config.endpoints_config) >= {"y"}
    assert b'"/run/docker.sock:/s' not in with_socket(one, OURS)
    assert OURS.path.encode() in with_socket(one, OURS)
    assert b'"Memory":1' in with_socket(one, OURS)
    alone = b'{ "hostConfig":{"Binds":[]}}'
    assert one_of_each(alone) is alone


def mounts(access: HostAccess | None = None, given: DockerSocket | None = OURS, **labels: str) -> list[Any]:
    spec = ContainerSpec(
        image="i",
        mounts=[Mount(type="bind", source=SOCKET, target=SOCKET)],
        labels={name.replace("_", "."): value for name, value in labels.items()},
    )
    template = ServiceTemplate("svc", 1, "web", {}, TaskSpec(container_spec=spec), access=access)
    context = TaskContext(AssignedTask("t1", "svc", 1, 1, RUNNING), template, "n1", "h")
    body = create_body(context)
    place_socket(body, context, given)
    return [mount["Source"] for mount in body["HostConfig"]["Mounts"]]


def test_a_task_gets_skepds_unless_a_label_or_the_setting_says_otherwise() -> None:
    assert mounts() == [OURS.path]
    assert mounts(given=None) == [SOCKET]
    assert mounts(access=access_of({"skep.docker-socket": "engine"})) == [SOCKET]
    assert mounts(access=access_of({"skep.docker-socket": "swarm"})) == [OURS.path]
    assert mounts(**{"skep.docker-socket": "engine"}) == [SOCKET]


def test_a_label_that_makes_no_sense_is_refused_where_it_is_given() -> None:
    labels = {"skep.docker-socket": "docker"}
    for refuse in (
        lambda: access_of(labels),
        lambda: wants_engine(labels),
        lambda: validate_service(
            ServiceSpec(
                name="web", task_template=TaskSpec(container_spec=ContainerSpec(image="i", labels=labels))
            )
        ),
    ):
        with pytest.raises(Invalid, match=r"label skep\.docker-socket: 'docker' is neither swarm nor engine"):
            refuse()


def test_who_gives_which_socket() -> None:
    assert given_socket(Settings(state_dir="/s")) == DockerSocket(
        "/s/run/docker.sock", frozenset({"/run/skep/skep.sock"})
    )
    assert given_socket(Settings(docker_socket="engine")) is None
    assert given_socket(Settings(engine="simulated")) is None
    assert given_socket(Settings(host=["tcp://127.0.0.1:2375"])) is None


def test_no_volume_is_taken_for_a_socket_whatever_skepd_serves() -> None:
    given = given_socket(Settings(state_dir="/s", host=["unix://skep.sock", "unix:///run/skep.sock"]))
    assert given == DockerSocket("/s/run/docker.sock", frozenset({"/run/skep.sock"}))
    host_config = {
        "Binds": ["pgdata:/data", "./relative:/y", ":/z"],
        "Mounts": [{"Type": "bind", "Source": "", "Target": "/x"}],
    }
    # Also where somebody made one that serves no path at all.
    for each in (given, DockerSocket("/s/run/docker.sock", frozenset({""}))):
        assert not each.put_into(host_config)
        assert host_config["Binds"] == ["pgdata:/data", "./relative:/y", ":/z"]
        assert not each.is_meant("pgdata")


@pytest.mark.parametrize("host", ["unix://skep.sock", "unix://./skep.sock", "unix://"])
def test_a_socket_at_a_relative_path_is_refused(host: str) -> None:
    with pytest.raises(Invalid, match="--host unix://PATH must have an absolute path"):
        load_settings({"host": [host]}, None, {})


@pytest.mark.parametrize("host", ["unix:///var/run/docker.sock", "unix:///run/docker.sock"])
def test_skepd_does_not_take_itself_for_its_engine(host: str) -> None:
    with pytest.raises(Invalid, match="is the socket of --engine, too"):
        load_settings({"host": [host]}, None, {})
    load_settings({"host": [host], "engine": "unix:///run/docker-engine.sock"}, None, {})


def test_the_given_socket_is_there_at_any_moment_and_as_open_as_dockers(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    sockets = SocketDir(tmp_path / "run")
    given = GivenSocket(Settings(state_dir=str(tmp_path), engine=f"unix://{tmp_path}/absent.sock"))
    former = given.bind(sockets)
    assert former is not None
    path = str(tmp_path / "run/docker.sock")
    before = os.stat(path)
    former.close()  # the file stays: the engine finds something to mount while skepd is away
    assert stat.S_ISSOCK(os.stat(path).st_mode)
    bound = given.bind(sockets)
    assert bound is not None
    state.tighten()
    after = os.stat(path)
    assert not os.path.samestat(before, after)
    assert stat.S_IMODE(after.st_mode) == 0o660
    assert stat.S_IMODE(os.stat(tmp_path / "run").st_mode) == 0o700  # by the path, only its owner
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(sockets.path("docker.sock"))  # before anybody accepts
    bound.close()
    sockets.close()
    state.close()


def test_skepd_runs_without_a_socket_to_give_where_none_can_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sockets = SocketDir(tmp_path / "run")
    (tmp_path / "run/docker.sock/kept").mkdir(parents=True)
    given = GivenSocket(Settings(state_dir=str(tmp_path)))
    assert given.bind(sockets) is None
    assert given.current() is None
    said = capsys.readouterr().out
    assert f"no socket can be made at {tmp_path}/run/docker.sock: Directory not empty" in said
    assert "/proc/self/fd" not in said
    sockets.close()


def listening(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen()
    return made


def test_containers_get_the_engines_where_it_is_not_shown_to_see_skepds(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(state_dir=str(short_dir), engine=f"unix://{short_dir}/engine.sock")
    sockets, given = SocketDir(short_dir / "run"), GivenSocket(settings)
    bound = given.bind(sockets)
    assert bound is not None
    assert given.current() is not None  # no engine yet: nothing is decided, nothing said
    with listening(short_dir / "engine.sock"):
        program = os.path.basename(os.readlink("/proc/self/exe"))
        monkeypatch.setattr(engine_view, "ENGINE", program)
        shown = GivenSocket(settings)
        assert shown.current() is not None
        assert "not_given" not in capsys.readouterr().out
        monkeypatch.undo()
        for _ in range(2):
            assert given.current() is None
    said = capsys.readouterr().out
    assert said.count("docker_socket.not_given") == 1
    assert f"{program} listens there, not dockerd" in said
    assert "--docker-socket engine" in said
    assert shown.current() is not None  # once shown, it is not asked again
    bound.close()
    sockets.close()


def test_a_socket_is_bound_only_once(tmp_path: Path) -> None:
    sockets = SocketDir(tmp_path / "run")
    sockets.replace("docker.sock").close()
    sockets.replace("docker.sock").close()
    assert os.listdir(tmp_path / "run") == ["docker.sock"]
    sockets.close()
