"""A node that holds a good certificate says what it likes: over TLS, to a leader that has tasks and an API."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from skep.manager.dispatcher.refusals import REFUSALS_MAX
from skep.model.cluster import DispatcherConfig
from skep.model.container import DiscreteGenericResource, GenericResource
from skep.model.node import EngineDescription, NodeDescription, NodeResources
from skep.model.states import RUNNING
from skep.model.task import TaskAddress, TaskStatus
from skep.rpc.messages import (
    Attach,
    Attached,
    Described,
    FromAgent,
    Goodbye,
    HasAddresses,
    HasTls,
    Heartbeat,
    HeartbeatAck,
    Manage,
    NotAttached,
    Register,
    Renew,
    Statuses,
    encode,
)

from .node_port import Node, Port, running_port, until

pytestmark = pytest.mark.timeout(60)

GOOD = NodeDescription(hostname="w", resources=NodeResources(nano_cpus=4 * 10**9, memory_bytes=8 << 30))


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    async with running_port() as made:
        yield made
        await made.check_unharmed()


async def worker_with_task(port: Port) -> tuple[Node, str]:
    """Returns a node, and the id of the task that it is to run."""
    node = await (await port.enrolled()).register(GOOD)
    await port.service("web", Placement={"Constraints": [f"node.id=={node.id}"]})
    await until(lambda: node.task_ids, "it has a task")
    return node, node.task_ids[0]


def having(**resources: object) -> NodeDescription:
    return NodeDescription(hostname="w", resources=NodeResources(**resources))  # type: ignore[arg-type]


STATUSES = {
    "an unknown state": TaskStatus(1000, 1.0),
    "the manager's own state": TaskStatus(832, 1.0),
    "no time": TaskStatus(RUNNING, math.nan),
    "an endless time": TaskStatus(RUNNING, math.inf),
    "a time before time": TaskStatus(RUNNING, -1e300),
    "a time after all calendars": TaskStatus(RUNNING, 1e18),
    "a start that is none": TaskStatus(RUNNING, 1.0, started_at=math.nan),
    "a process of 64 bits": TaskStatus(RUNNING, 1.0, container_id="c", pid=(1 << 64) - 1),
    "an exit code of 64 bits": TaskStatus(704, 1.0, exit_code=(1 << 64) - 1),
    "a port beyond all ports": TaskStatus(RUNNING, 1.0, ports=(("tcp", 1 << 40, -1),)),
}


@pytest.mark.parametrize("what", STATUSES)
async def test_a_status_that_cannot_be_ends_the_session_and_changes_nothing(port: Port, what: str) -> None:
    node, task_id = await worker_with_task(port)
    node.say(Statuses([(task_id, STATUSES[what])]))
    reason = await node.refusal()
    assert f"it reports of task '{task_id}'" in reason
    assert port.api.leader.view.status_of(port.api.leader.view.tasks[task_id]) is None
    assert reason.rpartition("says: ")[2] in await port.message_of(node)
    await port.check_unharmed()

    await node.register(GOOD)  # one that thinks better of it goes on
    node.say(Statuses([(task_id, TaskStatus(RUNNING, 1.0))]))
    await until(lambda: task_id in port.api.leader.view.status, "its report is taken in")


DESCRIPTIONS = {
    "2^63 CPUs": having(nano_cpus=1 << 63),
    "CPUs below none": having(nano_cpus=-(1 << 63)),
    "2^63 bytes": having(memory_bytes=(1 << 64) - 1),
    "2^63 of a kind": having(
        generic_resources=[
            GenericResource(discrete_resource_spec=DiscreteGenericResource(kind="gpu", value=(1 << 63) - 1))
        ]
        * 3
    ),
    "more than all": NodeDescription(hostname="w", engine=EngineDescription(labels={"a": "x" * 110_000})),
}


def labelled(**labels: str) -> NodeDescription:
    return replace(GOOD, engine=EngineDescription(labels=labels))


TRIMMED: dict[str, tuple[NodeDescription, NodeDescription, str]] = {
    "a command for a name": (
        replace(GOOD, hostname="$(reboot)"),
        replace(GOOD, hostname="reboot-"),
        "its host name '$(reboot)' is shown as 'reboot-'",
    ),
    "a name of other letters": (replace(GOOD, hostname="höst"), replace(GOOD, hostname="h-st"), "'h-st'"),
    "a label that clears the screen": (labelled(a="\x1b[2J", b="c"), labelled(b="c"), "engine's label 'a'"),
    "a label of 90 kB": (labelled(a="x" * 90_000, b="c"), labelled(b="c"), "engine's label 'a' has 90000"),
}


@pytest.mark.parametrize("message", [Register, Described])
@pytest.mark.parametrize("what", TRIMMED)
async def test_a_node_is_not_lost_for_a_label(
    port: Port, what: str, message: type[Register | Described], capsys: pytest.CaptureFixture[str]
) -> None:
    said, kept, why = TRIMMED[what]
    node = await (await port.enrolled()).register(GOOD)
    for _ in range(3):
        node.say(message(said))
    view = port.api.leader.view
    await until(lambda: view.nodes[node.id].description == kept, "the rest of it is taken in")
    await until(lambda: why in view.node_state(node.id).sentence, "its status says what was left out")
    assert view.node_state(node.id).state == "ready"
    assert why in await port.message_of(node)
    if message is Described:
        assert not node.is_closed
        assert not any(isinstance(each, Goodbye) for each in node.heard)
    assert capsys.readouterr().out.count("node.description_trimmed") == 1, "the log is not filled"
    await node.register(GOOD)
    await until(lambda: not view.node_state(node.id).left_out, "it has thought better of it")
    assert await port.message_of(node) == ""


async def test_a_node_that_is_refused_again_and_again_goes_down(port: Port) -> None:
    node, task_id = await worker_with_task(port)
    cluster = port.api.leader.view.cluster
    assert cluster is not None
    quick = replace(cluster.spec, dispatcher=DispatcherConfig(heartbeat_period=10**9))
    port.api.leader.view.cluster = replace(cluster, spec=quick)
    for n in range(REFUSALS_MAX):
        if n > 0:
            await node.register(GOOD)
        node.say(Statuses([(task_id, STATUSES["no time"])]))
        await node.refusal()
    view = port.api.leader.view
    deadline = time.monotonic() + 10
    while view.node_state(node.id).state != "down":
        assert time.monotonic() < deadline
        await node.connect()
        node.say(Register(GOOD))
        assert "refused 3 times within 60 s: it gets no session for" in await node.refusal()
        assert node.task_ids == []
        await asyncio.sleep(0.1)
    assert "it reports of task" in await port.message_of(node)


async def test_a_refusal_does_not_hide_that_the_engine_is_silent(port: Port) -> None:
    node = await (await port.enrolled()).register(GOOD)
    view = port.api.leader.view
    node.say(Heartbeat(engine_is_silent=True))
    await until(lambda: view.node_state(node.id).engine_is_silent, "its engine is silent")
    node.say(Manage("nowhere"))
    await node.refusal()
    assert view.node_state(node.id).engine_is_silent
    message = await port.message_of(node)
    assert message.startswith("engine does not answer; what the node said was refused")
    await node.register(GOOD)
    await until(lambda: not view.node_state(node.id).engine_is_silent, "it answers again")
    assert await port.message_of(node) == ""
    port.api.leader._states.held(node.id)
    node.say(Manage("nowhere"))
    await node.refusal()
    assert view.node_state(node.id).is_held


@pytest.mark.parametrize("message", [Register, Described])
@pytest.mark.parametrize("what", DESCRIPTIONS)
async def test_a_machine_that_cannot_be_is_not_believed(
    port: Port, what: str, message: type[Register | Described]
) -> None:
    node = await (await port.enrolled()).register(GOOD)
    # What is looked at when tasks are placed, the node's resources too.
    reservations = {
        "NanoCPUs": 1000000,
        "GenericResources": [{"DiscreteResourceSpec": {"Kind": "gpu", "Value": 1}}],
    }
    await port.service("web", Resources={"Reservations": reservations})
    node.say(message(DESCRIPTIONS[what]))
    await node.refusal()
    await port.service("more", Resources={"Reservations": reservations})
    assert port.api.leader.view.nodes[node.id].description == GOOD
    await port.check_unharmed()


@pytest.mark.parametrize(
    "said",
    [
        Manage("a\nb:2377"),
        Manage("10.0.0.1"),
        Register(GOOD, "10.0.0.1:99999"),
        Register(GOOD, "", ["x" * 1000] * 20),
        HasTls("x" * 1000, ""),
        Renew(b"x" * 20_000),
        Attach(1, "n" * 1000),
        Attach(-1, "n"),
    ],
    ids=lambda said: type(said).__name__,
)
async def test_other_words_that_cannot_be_end_the_session(port: Port, said: FromAgent) -> None:
    node = await (await port.enrolled()).register(GOOD)
    node.say(said)
    await node.refusal()


GARBAGE = {
    "no message": b"\xc1",
    "nothing": b"",
    "text that is not UTF-8": b"\x83\xa4type\xa6attach\xa6number\x01\xa7network\xa1\xff",
    "a report that is cut": encode(Statuses([("t", TaskStatus(RUNNING, 1.0))]))[:-1],
    "a report of lists without end": encode(Statuses([]))[:-1] + b"\x91" * 60_000 + b"\xc0",
    "a report that is not UTF-8": encode(Statuses([("\x7f", TaskStatus(RUNNING, 1.0))])).replace(
        b"\x7f", b"\xff"
    ),
}


@pytest.mark.parametrize("what", GARBAGE)
async def test_what_is_no_message_ends_the_session_and_holds_up_nobody(port: Port, what: str) -> None:
    good, task_id = await worker_with_task(port)
    bad = await (await port.enrolled()).register(GOOD)
    bad.say(GARBAGE[what])
    good.say(Statuses([(task_id, TaskStatus(RUNNING, 1.0))]))
    await bad.refusal()
    await until(lambda: task_id in port.api.leader.view.status, "the other's report is taken in")
    assert not good.is_closed


async def test_lists_without_end_that_nobody_asked_for_hold_up_nobody(port: Port) -> None:
    """In a member that messages do not have; Python 3.14 has room for them and passes them over."""
    good, task_id = await worker_with_task(port)
    bad = await (await port.enrolled()).register(GOOD)
    bad.say(b"\x82\xa4type\xa2hb\xa1x" + b"\x91" * 60_000 + b"\xc0")
    good.say(Statuses([(task_id, TaskStatus(RUNNING, 1.0))]))
    await until(lambda: task_id in port.api.leader.view.status, "the other's report is taken in")
    assert not good.is_closed


async def network(port: Port, name: str, subnet: str, attachable: bool = True) -> str:
    spec = {
        "Name": name,
        "Driver": "overlay",
        "Attachable": attachable,
        "IPAM": {"Config": [{"Subnet": subnet}]},
    }
    answer = await port.api.ask("POST", "/networks/create", spec)
    assert answer.status == 201, answer.message
    return str(answer.json["Id"])


ADDRESSES = {
    "none": ("nowhere", "10.9.1.2/24"),
    "none of the network": ("10.8.0.7/24", "10.9.1.2/24"),
    "the whole network": ("10.9.1.0/24", "10.9.1.2/24"),
    "the network's gateway": ("10.9.1.1/24", "10.9.1.2/24"),
    "of another length": ("10.9.1.7/16", "10.9.1.2/24"),
    "no bridge": ("10.9.1.7/24", "nowhere"),
    "a bridge elsewhere": ("10.9.1.7/24", "10.8.0.2/24"),
}


@pytest.mark.parametrize("what", ADDRESSES)
async def test_an_address_that_no_manager_gave_ends_the_session(port: Port, what: str) -> None:
    network_id = await network(port, "n", "10.9.1.0/24")
    node = await (await port.enrolled()).register(GOOD)
    node.say(HasAddresses([TaskAddress(network_id, *ADDRESSES[what])]))
    await node.refusal()
    assert port.api.leader.view.attached == {}


async def test_an_address_of_a_network_for_services_alone_ends_the_session(port: Port) -> None:
    network_id = await network(port, "n", "10.9.1.0/24", attachable=False)
    node = await (await port.enrolled()).register(GOOD)
    node.say(HasAddresses([TaskAddress(network_id, "10.9.1.7/24", "10.9.1.2/24")]))
    assert "not attachable" in await node.refusal()


async def test_one_node_cannot_have_a_whole_network(port: Port) -> None:
    """By its word or by asking; what another node's bridge has is not its either."""
    network_id = await network(port, "n", "10.9.1.0/24")
    greedy = await (await port.enrolled()).register(GOOD)
    other = await (await port.enrolled()).register(GOOD)
    other.say(Attach(1, "n"))
    await until(lambda: any(isinstance(each, Attached) for each in other.heard), "it has an address")
    (given,) = [each.address for each in other.heard if isinstance(each, Attached)]
    view = port.api.leader.view

    greedy.say(HasAddresses([TaskAddress(network_id, "10.9.1.200/24", given.gateway)]))
    greedy.say(
        HasAddresses([TaskAddress(network_id, f"10.9.1.{n}/24", "10.9.1.254/24") for n in range(2, 254)])
    )
    greedy.say(Attach(1, "n"))
    await until(lambda: any(isinstance(each, NotAttached) for each in greedy.heard), "it is refused")
    book = view.allocations.books[network_id]
    assert len(view.attached[greedy.id]) == int(book.size * 0.75)
    assert book.holders[given.gateway] == other.id
    other.say(Attach(2, "n"))
    await until(lambda: len(view.attached[other.id]) == 2, "others have some yet")


async def test_reservations_of_2_62_are_refused(port: Port) -> None:
    for reserved in (
        {"NanoCPUs": 1 << 62},
        {"MemoryBytes": 1 << 62},
    ):
        spec = {
            "Name": "big",
            "TaskTemplate": {"ContainerSpec": {"Image": "busybox"}, "Resources": {"Reservations": reserved}},
        }
        answer = await port.api.ask("POST", "/services/create", spec)
        assert (answer.status, "at most" in answer.message) == (400, True), answer.message


async def test_a_node_that_stays_away_is_down_and_still_says_why(port: Port) -> None:
    node = await (await port.enrolled()).register(GOOD)
    node.say(Manage("nowhere"))
    await node.refusal()
    assert (await port.message_of(node)).startswith("what the node said was refused, and its session ended: ")
    states = port.api.leader._states
    for _ in range(2):  # a change of the node has it waited for anew
        states.gone(node.id)
        assert (await port.message_of(node)).startswith("heartbeat failure; what the node said was refused")
    await node.register(GOOD)
    assert await port.message_of(node) == ""


async def test_who_says_too_much_is_cut_off_and_heartbeats_are_not_too_much(
    port: Port, capsys: pytest.CaptureFixture[str]
) -> None:
    node = await (await port.enrolled()).register(GOOD)
    for _ in range(1000):
        node.say(Heartbeat())
    await until(lambda: sum(isinstance(each, HeartbeatAck) for each in node.heard) == 1000, "it is answered")
    for _ in range(200):
        node.say(HasTls("a", "b"))
    assert "more than 20 things a second" in await node.refusal()
    await node.connect()
    node.say(Register(GOOD))
    for _ in range(100):
        node.say(HasTls("a", "b"))
    assert "more than 20 things a second" in await node.refusal(), "a new line is no better"
    assert capsys.readouterr().out.count("session.refused") == 2, "the log is not filled either"


async def test_reports_without_end_are_cut_off(port: Port) -> None:
    node, task_id = await worker_with_task(port)
    report = encode(Statuses([(task_id, TaskStatus(RUNNING, 1.0, "x" * 1000))] * 1000))
    for _ in range(40):
        node.say(report)
    assert "more than 2 MB a second" in await node.refusal()


@pytest.mark.parametrize("what", STATUSES)
async def test_what_an_earlier_skep_stored_of_a_node_can_be_shown(port: Port, what: str) -> None:
    _, task_id = await worker_with_task(port)
    view = port.api.leader.view
    view.put_task(replace(view.tasks[task_id], result=STATUSES[what]))
    for path in (
        "/tasks",
        f"/tasks/{task_id}",
        f"/skep/v1/tasks/{task_id}/explain",
        "/skep/v1/services/web/explain",
    ):
        answer = await port.api.ask("GET", path)
        assert answer.status == 200, (path, answer.message)
        assert answer.json
