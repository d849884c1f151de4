"""What is wrong with a request is said, with its place, and nothing is changed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .fixtures import swarm_fixture
from .hosts import Swarm, UnixConnection

pytestmark = pytest.mark.timeout(60)


lone = swarm_fixture(lambda directory: Swarm(directory, "simulated", workers=0))


def ask(swarm: Swarm, method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
    """Returns status and message."""
    connection = UnixConnection(swarm.manager.socket)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    try:
        found: Any = json.loads(content)
    except json.JSONDecodeError:
        return answer.status, content.decode()
    return answer.status, found.get("message", "") if isinstance(found, dict) else str(found)


CONTAINER = {"TaskTemplate": {"ContainerSpec": {"Image": "i"}}}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"Name": "x", ', "invalid JSON"),
        (b"[]", "must be a JSON object"),
        (b'{"Name": 3}', "`$.Name`"),
        (b'{"TaskTemplate": {"ContainerSpec": {"Image": ["i"]}}}', "$.TaskTemplate.ContainerSpec.Image"),
        (b"{}", "mismatched Runtime and *Spec fields"),
        (json.dumps({**CONTAINER, "Name": "no good!"}).encode(), "name must be valid"),
        (json.dumps({**CONTAINER, "Mode": {"Replicated": {"Replicas": -1}}}).encode(), "Replicas"),
        (b'{"Name": "' + b"x" * (9 << 20) + b'"}', "larger than"),
    ],
    ids=["cut", "list", "number", "nested", "empty", "name", "negative", "huge"],
)
def test_a_bad_body_is_a_400_that_says_where(lone: Swarm, body: bytes, says: str) -> None:
    status, message = ask(lone, "POST", "/services/create", body)
    assert status == 400, message
    assert says in message
    assert lone.manager.docker("service ls -q") == ""


def test_bad_versions_paths_and_filters(lone: Swarm) -> None:
    assert ask(lone, "GET", "/v1.999/services")[0] == 400
    assert ask(lone, "GET", "/v1.1/services")[0] == 400
    assert ask(lone, "GET", '/services?filters={"nmae":["x"]}')[0] == 400
    status, message = ask(lone, "GET", "/services?filters=%7Bbroken")
    assert (status, "filter" in message.lower()) == (400, True)
    assert ask(lone, "GET", "/services/nothing-like-it") == (404, "service nothing-like-it not found")
    assert ask(lone, "GET", "/nodes/nothing-like-it") == (404, "node nothing-like-it not found")


def test_updates_need_the_objects_version(lone: Swarm) -> None:
    body = json.dumps({**CONTAINER, "Name": "v"}).encode()
    assert ask(lone, "POST", "/services/create", body)[0] == 201
    try:
        assert "version" in ask(lone, "POST", "/services/v/update?version=x", body)[1]
        assert ask(lone, "POST", "/services/v/update?version=1", body) == (
            500,
            "rpc error: code = Unknown desc = update out of sequence",
        )
        status, message = ask(lone, "POST", "/services/create", body)
        assert status == 409
        assert "already exists" in message
    finally:
        lone.manager.docker("service rm v")


def test_unknown_fields_are_named_in_the_warnings(lone: Swarm) -> None:
    body = json.dumps({**CONTAINER, "Name": "w", "Sise": 3}).encode()
    created = json.loads(answer(lone, "POST", "/services/create", body))
    lone.manager.docker("service rm w")
    assert any("Sise" in warning for warning in created["Warnings"])


def test_what_clients_put_beside_a_spec_is_no_typo(lone: Swarm) -> None:
    """dockerode sends its own arguments, and tools post back the whole service that they have read."""
    beside = {"version": 7, "authconfig": None, "registryAuthFrom": "spec", "abortSignal": {}}
    created = json.loads(
        answer(lone, "POST", "/services/create", json.dumps({**CONTAINER, "Name": "w", **beside}).encode())
    )
    try:
        assert created.get("Warnings") is None
        service = json.loads(answer(lone, "GET", f"/services/{created['ID']}"))
        back = {**service, "PreviousSpec": {}, "UpdateStatus": {}, "ServiceStatus": {}, "JobStatus": {}}
        spec = back.pop("Spec")
        path = f"/services/w/update?version={service['Version']['Index']}"
        body = json.dumps({**back, **spec, **beside, "authconfig": {"username": "u"}, "Modee": None}).encode()
        assert json.loads(answer(lone, "POST", path, body)) == {"Warnings": None}
        version = json.loads(answer(lone, "GET", "/services/w"))["Version"]["Index"]
        path = f"/services/w/update?version={version}"
        body = json.dumps({**spec, "TaskTemplate": {**spec["TaskTemplate"], "version": 1}}).encode()
        [warning] = json.loads(answer(lone, "POST", path, body))["Warnings"]
        assert warning.startswith("TaskTemplate.version: ")  # there it would be a typo
    finally:
        lone.manager.docker("service rm w")


def answer(swarm: Swarm, method: str, path: str, body: bytes | None = None) -> bytes:
    connection = UnixConnection(swarm.manager.socket)
    connection.request(method, path, body)
    return connection.getresponse().read()
