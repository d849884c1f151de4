"""What of their hosts nodes take, as the API says it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from skep.manager.dispatcher.sessions import SessionHandler, Sessions
from skep.model.usage import HostUsage, NodeUsage, TaskUsage
from skep.rpc.interfaces import Identity
from skep.rpc.messages import USAGE, Register, UsageAsk, UsageSaid, decode_from_manager, encode
from tests.api_process import running_api
from tests.unit.builders import add_node, add_service, add_task

pytestmark = pytest.mark.real_time  # the API answers at a socket


class Line:
    """A node's connection: what it answers when it is asked for usage."""

    remote_host = local_host = ""

    def __init__(self, node_id: str, answer: Callable[[UsageAsk], UsageSaid]) -> None:
        self.identity: Identity | None = Identity(node_id, "worker", "c")
        self._answer = answer
        self._handler: SessionHandler | None = None

    def open(self, sessions: Sessions) -> SessionHandler:
        self._handler = sessions.open(self)
        return self._handler

    def send(self, frame: bytes) -> None:
        message = decode_from_manager(frame)
        if isinstance(message, UsageAsk) and self._handler is not None:
            self._handler.frame(encode(self._answer(message)))

    def close(self) -> None:
        """Nothing to close."""


async def test_what_is_known_of_each_node() -> None:
    async with running_api() as api:
        view = api.leader.view
        add_node(view, "a", cpus=4)
        add_node(view, "b", state="down", availability="drain")
        add_service(view, replicas=0)
        add_task(view, "t1", "a", 1)
        api.leader.node_usage.put("a", NodeUsage(1.5, HostUsage(2.25, 1 << 30, 3.5)))
        found = (await api.ask("GET", "/skep/v1/nodes/usage?sample=0")).json
        nodes = {each["ID"]: each for each in found["Nodes"]}
        assert nodes["a"] == {
            "ID": "a",
            "Hostname": "host-a",
            "Role": "worker",
            "State": "ready",
            "Availability": "active",
            "Leader": False,
            "NanoCPUs": 4_000_000_000,
            "MemoryBytes": 8 << 30,
            "TasksRunning": 1,
            "Usage": {
                "At": "1970-01-01T00:00:01.500000000Z",
                "CPUCores": 2.25,
                "MemoryUsedBytes": 1 << 30,
                "Load1": 3.5,
            },
        }
        assert (nodes["b"]["State"], nodes["b"]["Availability"], nodes["b"]["Usage"]) == (
            "down",
            "drain",
            None,
        )
        leader = nodes[api.leader.node_id]
        assert (leader["Leader"], leader["Role"], leader["Usage"]) == (True, "manager", None)


async def test_a_node_that_is_gone_is_not_known() -> None:
    async with running_api() as api:
        add_node(api.leader.view, "a", state="down")
        api.leader.node_usage.put("a", NodeUsage(1.5, HostUsage(2.25, 1 << 30, 3.5)))
        await api.leader.nodes.remove("a", force=True)
        assert api.leader.node_usage.of("a") is None


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nodes/usage?sample=often", "invalid value for sample"),
        ("tasks/usage?sort=name", "cannot sort by 'name': it must be one of cpu, memory, restarts"),
        ("tasks/usage?limit=0", "limit '0' is none"),
        ("tasks/usage?limit=1e3", "limit '1e3' is none"),
        ("tasks/usage?limit=99999999999999999999", "is none: it must be 1 to 10000 rows"),
        ('tasks/usage?filters={"state":["x"]}', "invalid filter 'state'"),
        ('services/usage?filters={"node":["x"]}', "invalid filter 'node'"),
    ],
)
async def test_what_is_asked_for_wrongly(path: str, words: str) -> None:
    async with running_api() as api:
        answer = await api.ask("GET", f"/skep/v1/{path}")
        assert (answer.status, words in answer.message) == (400, True), answer.message


async def test_nodes_that_nobody_hears_of_do_not_answer() -> None:
    async with running_api() as api:
        add_node(api.leader.view, "a")
        add_node(api.leader.view, "b", state="down")
        found = (await api.ask("GET", "/skep/v1/nodes/usage?sample=1")).json
        assert (found["Asked"], found["Answered"]) == (2, 0)  # the leader's own has no session here either
        assert (await api.ask("GET", '/skep/v1/tasks/usage?filters={"node":["nobody"]}')).status == 404


async def test_what_tasks_and_services_take() -> None:
    async with running_api() as api:
        leader, view = api.leader, api.leader.view
        add_node(view, "a")
        add_service(view, replicas=2)
        add_task(view, "t1", "a", 1, attempt=3)
        usages = [TaskUsage("t1", 0.25, 5 << 20)]
        leader.sessions.says(USAGE)
        line = Line("a", lambda asked: UsageSaid(asked.number, HostUsage(1.0, 1, 1.0), usages))
        handler = line.open(leader.sessions)
        handler.frame(encode(Register(view.nodes["a"].description, features=[USAGE])))
        found = (await api.ask("GET", "/skep/v1/tasks/usage")).json
        assert (found["Asked"], found["Answered"], found["Total"]) == (2, 1, 1)
        assert found["Tasks"] == [
            {
                "ID": "t1",
                "Name": "name-s.1",
                "NodeID": "a",
                "Hostname": "host-a",
                "ServiceID": "s",
                "State": "running",
                "CPUCores": 0.25,
                "MemoryBytes": 5 << 20,
                "MemoryLimitBytes": 8 << 30,
                "Restarts": 3,
            }
        ]
        found = (await api.ask("GET", "/skep/v1/services/usage?sort=memory")).json
        assert found["Services"] == [
            {
                "ID": "s",
                "Name": "name-s",
                "Mode": "replicated",
                "TasksRunning": 1,
                "TasksMeasured": 1,
                "CPUCores": 0.25,
                "MemoryBytes": 5 << 20,
                "Restarts": 3,
            }
        ]
