"""The managers' port: whatever decodes may be said by who holds a worker's certificate, or none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from skep.daemon.addresses import parse_address
from skep.manager.dispatcher.refusals import REFUSALS_MAX
from skep.model.node import NodeDescription
from skep.rpc import enrolment_messages, messages
from skep.rpc.certificates import new_key_and_request
from skep.rpc.enrol import Enrolment, enrol
from skep.rpc.interfaces import Connection
from skep.rpc.link import FrameLink, connect
from skep.rpc.tls import client_context, enrolment_context
from skep.runtime.errors import Invalid

from .said import any_of, changed, right, values
from .target import Target

pytestmark = pytest.mark.timeout(600)
EXAMPLES = 150  # of each kind
SAID_MAX = 150  # by one node: who says more at once is cut off for that
REFUSED_MAX = REFUSALS_MAX - 1  # of one node: it gets no session for a while after one more
LOOK_EVERY = 25
ANSWER_S = 5.0


class Line:
    """One connection (fulfils `rpc.interfaces.Handler`). `told` hears of each task that its node is given."""

    def __init__(self, told: Callable[[str], None] = lambda task_id: None) -> None:
        self.closed_by = asyncio.Event()
        self.heard = asyncio.Event()
        self._told = told

    def connected(self, connection: Connection) -> None: ...

    def frame(self, data: bytes) -> None:
        self.heard.set()
        with contextlib.suppress(Invalid):  # it may be an answer to who has no certificate
            message = messages.decode_from_manager(data)
            if isinstance(message, messages.Assign):
                for task in message.tasks:
                    self._told(task.id)

    def closed(self, reason: str) -> None:
        self.closed_by.set()
        self.heard.set()


class Swarm:
    """What is said to the target, and what is there to be said something of."""

    def __init__(self, target: Target, runner: asyncio.Runner) -> None:
        self._target = target
        self._runner = runner
        swarm = target.ask("GET", "/swarm").json()
        self.token = str(swarm["JoinTokens"]["Worker"])
        self._host, self._port = parse_address(self._info()["RemoteManagers"][0]["Addr"])
        self._enrolment: Enrolment | None = None
        self._said = self._refused = 0
        self._link: FrameLink | None = None
        self._line = Line()
        spec = {
            "Name": "f",
            "Driver": "overlay",
            "Attachable": True,
            "IPAM": {"Config": [{"Subnet": "10.11.0.0/24"}]},
        }
        self.network_id = str(self._make("/networks/create", spec)["Id"])
        reserved = {"NanoCPUs": 10**6, "MemoryBytes": 4 << 20}
        self._service_id = str(self._make("/services/create", self._service(reserved))["ID"])
        self.task_id = ""

    def _service(self, reserved: dict[str, int], force: int = 0) -> dict[str, Any]:
        return {
            "Name": "f",
            "Mode": {"Global": {}},
            "TaskTemplate": {
                "ForceUpdate": force,
                "ContainerSpec": {"Image": "i"},
                "Resources": {"Reservations": reserved},
                "Placement": {"Constraints": ["node.role==worker"]},
            },
        }

    def say(self, said: messages.FromAgent) -> None:
        """Says it in a session that stands, if the manager does not end it."""
        self._runner.run(self._say(messages.encode(said)))

    async def _say(self, frame: bytes) -> None:
        if self._link is not None and self._line.closed_by.is_set():
            self._refused, self._link = self._refused + 1, None
        if self._enrolment is None or self._said >= SAID_MAX or self._refused >= REFUSED_MAX:
            if self._enrolment is not None:
                self._target.ask("DELETE", f"/nodes/{self._enrolment.node_id}?force=1")
            described = NodeDescription(hostname="w")
            self._enrolment = await enrol(
                self._host, self._port, self.token, described, "active", time.time()
            )
            self._said, self._refused, self._link = 0, 0, None
        if self._link is None:
            self._line = Line(self._given)
            context = client_context(self._enrolment.keys)
            self._link = await connect(self._host, self._port, context, self._line)
            self._link.send(messages.encode(messages.Register(NodeDescription(hostname="w"))))
            await asyncio.wait_for(self._line.heard.wait(), ANSWER_S)
            self._said += 1
        self._link.send(frame)
        self._link.send(messages.encode(messages.Heartbeat()))
        self._line.heard.clear()
        await asyncio.wait_for(self._line.heard.wait(), ANSWER_S)
        self._said += 1

    def _given(self, task_id: str) -> None:
        self.task_id = task_id

    def say_without_certificate(self, frame: bytes) -> None:
        self._runner.run(self._say_without_certificate(frame))

    async def _say_without_certificate(self, frame: bytes) -> None:
        line = Line()
        link = await connect(self._host, self._port, enrolment_context(), line, expect_role=None)
        link.send(frame)
        await asyncio.wait_for(line.heard.wait(), ANSWER_S)
        link.close()

    def look(self) -> None:
        """Everything can be listed, and tasks are placed by what the nodes are said to be."""
        for path in ("/tasks", "/nodes", "/services", "/networks", "/info"):
            answer = self._target.ask("GET", path)
            assert answer.status == 200, (path, answer.message)
            answer.json()
        if self._said:
            assert self._enrolment is not None
            filters = json.dumps({"node": [self._enrolment.node_id]}).replace('"', "%22").replace(" ", "")
            tasks = self._target.ask("GET", f"/tasks?filters={filters}").json()
            self.task_id = str(tasks[-1]["ID"]) if tasks else self.task_id
            service = self._target.ask("GET", f"/services/{self._service_id}").json()
            version, force = (
                service["Version"]["Index"],
                service["Spec"]["TaskTemplate"].get("ForceUpdate", 0) + 1,
            )
            body = json.dumps(self._service({"NanoCPUs": 10**6}, force)).encode()
            path = f"/services/{self._service_id}/update?version={version}"
            answer = self._target.ask("POST", path, body, {"Content-Type": "application/json"})
            assert answer.status == 200 or "out of sequence" in answer.message, answer.message

    def close(self) -> None:
        self._target.ask("DELETE", f"/services/{self._service_id}")
        if self._link is not None:
            self._runner.run(self._close())
        for node in self._target.ask("GET", "/nodes").json():
            if node["Spec"]["Role"] == "worker":
                answer = self._target.ask("DELETE", f"/nodes/{node['ID']}?force=1")
                assert answer.status == 200, answer.message
        deadline = time.monotonic() + 10
        while self._target.tasks() and time.monotonic() < deadline:
            time.sleep(0.1)

    async def _close(self) -> None:
        assert self._link is not None
        self._link.close()
        await asyncio.sleep(0.1)

    def _info(self) -> Any:
        return self._target.ask("GET", "/info").json()["Swarm"]

    def _make(self, path: str, spec: dict[str, Any]) -> Any:
        answer = self._target.ask(
            "POST", path, json.dumps(spec).encode(), {"Content-Type": "application/json"}
        )
        assert answer.status == 201, answer.message
        return answer.json()


@pytest.fixture
def swarm(target: Target) -> Iterator[Swarm]:
    with asyncio.Runner() as runner:
        made = Swarm(target, runner)
        try:
            yield made
        finally:
            made.close()


def try_all(
    target: Target, swarm: Swarm, strategy: st.SearchStrategy[Any], say: Callable[[Any], None], times: int = 1
) -> None:
    count = 0

    @seed(20)
    @settings(
        max_examples=EXAMPLES * target.factor * times,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(strategy)
    def one(said: Any) -> None:
        nonlocal count
        say(said)
        count += 1
        if count % LOOK_EVERY == 0:
            swarm.look()

    one()
    swarm.look()


def test_any_message_of_a_nodes(target: Target, swarm: Swarm) -> None:
    try_all(target, swarm, any_of(messages.FromAgent), swarm.say)


def test_right_messages_but_for_one_value(target: Target, swarm: Swarm) -> None:
    _, request_pem = new_key_and_request()

    def say(choice: tuple[int, st.DataObject]) -> None:
        kinds = right(swarm.task_id, swarm.network_id, request_pem)
        swarm.say(choice[1].draw(changed(kinds[choice[0]])))

    swarm.say(messages.Heartbeat())
    swarm.look()
    # Half of them are reports: most is done with these.
    kind = st.one_of(st.integers(0, 7), st.just(2))
    try_all(target, swarm, st.tuples(kind, st.data()), say, 3)


def test_any_message_of_who_has_no_certificate(target: Target, swarm: Swarm) -> None:
    joining = any_of(enrolment_messages.Enrol | enrolment_messages.GetCa)
    _, request_pem = new_key_and_request()
    good = enrolment_messages.Enrol(swarm.token, request_pem, "active", NodeDescription(hostname="w"))

    def say(said: Any) -> None:
        swarm.say_without_certificate(enrolment_messages.encode(said))

    anything = st.one_of(joining, changed(good), values(enrolment_messages.Enrol))
    try_all(target, swarm, anything, say)
