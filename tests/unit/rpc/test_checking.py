"""What a node may say: every fault is named, and nothing that our agents say is one."""

from __future__ import annotations

import base64
import contextlib
import math
import typing

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from msgspec.structs import replace

from skep.agent.executor.simulated import SimulatedExecutor, SimulatedSettings
from skep.manager.ca.authority import Authority, new_root
from skep.model.bounds import NODE_DESCRIPTION_MAX_BYTES, NODE_LABELS_MAX_BYTES
from skep.model.container import DiscreteGenericResource, GenericResource, NamedGenericResource
from skep.model.generic import parse_resource
from skep.model.host_network import HostNetwork
from skep.model.node import EngineDescription, EnginePlugin, NodeDescription, NodeResources
from skep.model.spec import Platform
from skep.model.states import ASSIGNED, COMPLETE, FAILED, ORPHANED, REMOVE, RUNNING
from skep.model.task import TaskAddress, TaskStatus
from skep.model.usage import HostUsage, TaskUsage
from skep.rpc import messages
from skep.rpc.certificates import new_key_and_request
from skep.rpc.checking import (
    _CHECKS,
    IN_USE_MAX,
    NAMES_MAX_BYTES,
    REQUEST_MAX_BYTES,
    check,
    check_enrolment,
    check_statuses,
)
from skep.rpc.enrolment_messages import Enrol
from skep.runtime.clock import SystemClock
from skep.runtime.errors import Invalid
from skep.runtime.ids import system_rng
from skep.runtime.settings import load_settings

TOKEN = f"SWMTKN-1-{'0' * 50}-{'1' * 25}"
DESCRIBED = NodeDescription(
    hostname="gpu-7.rack_2.example.org",
    platform=Platform(architecture="x86_64", os="linux"),
    resources=NodeResources(
        nano_cpus=2048 * 10**9,
        memory_bytes=64 << 40,
        generic_resources=[parse_resource("gpu=GPU-4c7b"), parse_resource("ssd=3")],
    ),
    engine=EngineDescription(
        engine_version="24.0.5-0ubuntu1~20.04.1",
        labels={"com.example.zone": "Zürich, Süd\tund mehr", "flag": ""},
        plugins=[
            EnginePlugin(type="Log", name="json-file"),
            EnginePlugin(type="Volume", name="registry:5000/vieux/sshfs:latest"),
        ],
    ),
)


def described(**changes: object) -> messages.Register:
    return messages.Register(replace(DESCRIBED, **changes))


def having(**changes: object) -> messages.Register:
    return described(resources=replace(DESCRIBED.resources, **changes))


def engine(**changes: object) -> messages.Register:
    return described(engine=replace(DESCRIBED.engine, **changes))


def discrete(value: int) -> GenericResource:
    return GenericResource(discrete_resource_spec=DiscreteGenericResource(kind="ssd", value=value))


def named(value: str) -> GenericResource:
    return GenericResource(named_resource_spec=NamedGenericResource(kind="gpu", value=value))


def measured(*tasks: TaskUsage) -> messages.UsageSaid:
    return messages.UsageSaid(1, HostUsage(1.0, 1, 1.0), list(tasks))


def called(*names: str, of: int = 1) -> messages.HasAddresses:
    return messages.HasAddresses([TaskAddress("n", "10.0.1.7/24", "10.0.1.2/24")] * of, [names])


def in_use(address: str, gateway: str = "10.0.1.2/24", network: str = "n") -> messages.HasAddresses:
    return messages.HasAddresses([TaskAddress(network, address, gateway)])


SAID_BY_OURS: list[messages.FromAgent] = [
    messages.Register(DESCRIBED, "192.168.1.7:2377", ["logs", "attach", "of-a-later-agent"]),
    messages.Register(NodeDescription(hostname="n"), "[2001:db8::1]:2377", data_addr="2001:db8::1"),
    messages.Register(NodeDescription()),
    messages.Described(DESCRIBED),
    messages.Heartbeat(),
    messages.HasTls("a1" * 32, "0z" * 25),
    messages.HasDataKeys([b"d" * 32, b"e" * 32]),
    messages.Manage("manager-1.example.org:2377"),
    messages.Attach(1, "a network's name", "10.0.1.7"),
    in_use("10.0.1.7/24"),
    in_use("fd00::7/64", "fd00::2/64"),
    messages.HasAddresses([]),
    messages.OverlayAsk(7, "n", ["web", "web.1.t", "ä b"], ["10.0.1.7", "fd00::7"], ["s"]),
    messages.OverlayAsk(0, "n", [f"name-{n}" for n in range(256)]),
    messages.HostNetworks([]),
    messages.HostNetworks(
        [HostNetwork("10.0.0.0/24", "eth0"), HostNetwork("10.8.0.1/32", "nameserver")] * 32
    ),
    messages.UsageSaid(0, HostUsage(0.0, 0, 0.0)),
    measured(
        TaskUsage("t", 1e6, 1 << 50, 1 << 50), *[TaskUsage("t", 0.1, 1)] * (messages.TASKS_SAID_MAX - 1)
    ),
    called("one", "0123456789ab", "a wéb"),
    called("a" * (NAMES_MAX_BYTES - 1)),
]


@pytest.mark.parametrize("said", SAID_BY_OURS)
def test_what_our_agents_say_may_be_said(said: messages.FromAgent) -> None:
    check(said)


def test_what_our_agents_make_of_their_machine_may_be_said() -> None:
    simulated = SimulatedExecutor("n", SimulatedSettings(), system_rng(), SystemClock())
    check(messages.Register(simulated.description))
    _, request_pem = new_key_and_request()
    check(messages.Renew(request_pem))
    check_enrolment(Enrol(TOKEN, request_pem, "active", DESCRIBED))


WRONG: dict[str, tuple[messages.FromAgent, str]] = {
    "2^63 CPUs": (having(nano_cpus=1 << 63), "CPUs: there may be 0 to 1000000"),
    "CPUs below none": (having(nano_cpus=-1), "CPUs"),
    "2^63 bytes of memory": (having(memory_bytes=1 << 63), "bytes of memory"),
    "memory below none": (having(memory_bytes=-1), "bytes of memory"),
    "2^62 of a kind": (having(generic_resources=[discrete(1 << 62)]), "'ssd': there may be 0 to"),
    "less than none of a kind": (having(generic_resources=[discrete(-1)]), "-1 'ssd'"),
    "a kind without end": (having(generic_resources=[named("x" * 300)]), "a generic resource's name"),
    "a resource without a name": (having(generic_resources=[named("")]), "has no name"),
    "an option for a host name": (described(hostname="-oProxyCommand=x"), "host name '-oProxyCommand=x'"),
    "a command for a host name": (described(hostname="$(reboot)"), "host name"),
    "a host name of two lines": (described(hostname="a\nb"), r"host name 'a\\nb'"),
    "a long host name": (described(hostname="a" * 256), "host name"),
    "an odd platform": (described(platform=Platform(os="lin\x1b[2J")), "OS"),
    "an endless version": (engine(engine_version="1" * 200), "engine's version has 200 bytes, 128"),
    "a plugin of two words": (engine(plugins=[EnginePlugin(type="Log", name="a b")]), "plugin's name"),
    "many plugins": (engine(plugins=[EnginePlugin(type="Log", name="a")] * 300), "300 plugins"),
    "a label that clears the screen": (engine(labels={"a": "\x1b[2J"}), "label 'a' holds control"),
    "a label that turns the text": (engine(labels={"a\u202e": "b"}), "name of a label"),
    "a long label": (engine(labels={"a": "b" * NODE_LABELS_MAX_BYTES}), "labels have 16385 bytes"),
    "all too much": (
        having(generic_resources=[named(f"gpu-{n:0100}") for n in range(1000)]),
        f"{NODE_DESCRIPTION_MAX_BYTES} may be",
    ),
    "a manager at no port": (messages.Manage("10.0.0.1:0"), "manager's address '10.0.0.1:0'"),
    "a manager at no host": (messages.Register(DESCRIBED, ":2377"), "manager's address"),
    "a manager of two lines": (messages.Manage("a\nb:2377"), "manager's address"),
    "an endless manager": (messages.Manage("a" * 400 + ":2377"), "manager's address"),
    "tunnels that end nowhere": (messages.Register(data_addr="0.0.0.0", description=DESCRIBED), "data path"),
    "tunnels that end at all": (messages.Register(data_addr="224.0.0.1", description=DESCRIBED), "data path"),
    "a scope of this node's": (messages.Register(data_addr="fe80::1%eth0", description=DESCRIBED), "data path"),
    "a long scope": (messages.Register(data_addr=f"fe80::1%{'x' * 99_999}", description=DESCRIBED), "data path"),
    "many features": (messages.Register(DESCRIBED, "", ["x"] * 65), "65 features"),
    "a long feature": (messages.Register(DESCRIBED, "", ["x" * 65]), "a feature is"),
    "a digest that is none": (messages.HasTls("a b", ""), "digest"),
    "a data key's digest that is none": (messages.HasDataKeys([b"d" * 31]), "1 data keys"),
    "many data keys": (messages.HasDataKeys([b"d" * 32] * 9), "9 data keys"),
    "a large request": (messages.Renew(b"x" * (REQUEST_MAX_BYTES + 1)), "request for a certificate"),
    "a question before the first": (messages.Attach(-1, "n"), "number -1"),
    "a question after the last": (messages.Attach(1 << 63, "n"), "number"),
    "a network of two lines": (messages.Attach(1, "a\nb"), "network it asks for"),
    "an endless network": (messages.Attach(1, "a" * 300), "network it asks for has 300 bytes"),
    "an endless address": (messages.Attach(1, "n", "1" * 400), "address it asks for"),
    "a question before the first of a network": (messages.OverlayAsk(-1, "n"), "number -1"),
    "a question about an odd network": (messages.OverlayAsk(1, "a b"), "a network's id"),
    "a question for too much": (
        messages.OverlayAsk(1, "n", ["a"] * 100, ["10.0.0.1"] * 100, ["s"] * 57),
        "257 things of a network at once, 256 may be",
    ),
    "a question for an endless name": (messages.OverlayAsk(1, "n", ["a" * 256]), "name that it asks for"),
    "a question for a name of two lines": (messages.OverlayAsk(1, "n", ["a\nb"]), "control characters"),
    "a question for no address": (messages.OverlayAsk(1, "n", [], ["10.0.0.1/24"]), "'10.0.0.1/24', which"),
    "a question for an odd service": (messages.OverlayAsk(1, "n", [], [], ["a b"]), "the id of a service"),
    "an answer before the first question": (messages.UsageSaid(-1, HostUsage(0.0, 0, 0.0)), "number -1"),
    "a host that uses no number": (messages.UsageSaid(1, HostUsage(math.nan, 0, 0.0)), "its host uses nan CPUs"),
    "a host with less than nothing": (messages.UsageSaid(1, HostUsage(0.0, -1, 0.0)), "-1 bytes of memory"),
    "a host that stands still": (messages.UsageSaid(1, HostUsage(0.0, 0, math.inf)), "load of inf"),
    "a task of no time": (measured(TaskUsage("t", -0.1, 0)), "task 't' takes -0.1 CPUs"),
    "a task of all times": (measured(TaskUsage("t", math.inf, 0)), "task 't' takes inf CPUs"),
    "a task of all memory": (measured(TaskUsage("t", 0.0, 1 << 51)), "and 2251799813685248 of 0 bytes"),
    "a task with less than no limit": (measured(TaskUsage("t", 0.0, 0, -1)), "0 of -1 bytes"),
    "very many tasks": (measured(*[TaskUsage("t", 0.1, 1)] * 1001), "1001 tasks take, 1000 may be"),
    "many networks of a host": (messages.HostNetworks([HostNetwork("10.0.0.0/24", "")] * 65), "65 networks"),
    "a host's network of two lines": (
        messages.HostNetworks([HostNetwork("10.0.0.0/24", "a\nb")]),
        "control characters",
    ),
    **{
        f"a host's network {text!r}": (messages.HostNetworks([HostNetwork(text, "")]), "is none of IPv4")
        for text in ("", "10.0.0.1/24", "10.0.0.0", "0.0.0.0/0", "128.0.0.0/1", "10.0.0.0/33", "fd00::/8")
    },
    "a name of two lines": (called("a\nb"), "a name of a single container holds control characters"),
    "names without end": (called(*["a" * 63] * 9), "a single container has names of 576 bytes, 512 may be"),
    "names of others": (called("a", of=2), "it says names of 1 single containers, and has 2"),
    "an address that is none": (in_use("nowhere/24"), "'nowhere/24' is in use, which is none"),
    "an address without its length": (in_use("10.0.1.7"), "is in use, which is none"),
    "an address of too many bits": (in_use("10.0.1.7/33"), "is in use, which is none"),
    "a length of other digits": (in_use("10.0.1.7/\u0664"), "is in use, which is none"),
    "an address of an interface": (in_use("fe80::1%eth0/64"), "is in use, which is none"),
    "a bridge's that is none": (in_use("10.0.1.7/24", ""), "is in use, which is none"),
    "a network's id of two lines": (in_use("10.0.1.7/24", network="a\nb"), "a network's id"),
    "a thousand and one": (
        messages.HasAddresses([TaskAddress("n", "10.0.1.7/24", "10.0.1.2/24")] * (IN_USE_MAX + 1)),
        "1001 single containers",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_named(name: str) -> None:
    said, why = WRONG[name]
    with pytest.raises(Invalid, match=why.replace("$", r"\$").replace("(", r"\(")) as refused:
        check(said)
    assert len(str(refused.value)) < 300
    assert str(refused.value).isprintable()


def test_a_node_that_joins_is_checked_alike() -> None:
    _, request_pem = new_key_and_request()
    good = Enrol(TOKEN, request_pem, "active", DESCRIBED)
    for bad in (
        replace(good, token="x" * 1000),
        replace(good, availability="a\nb"),
        replace(good, request_pem=b"x" * 10_000),
        replace(good, description=replace(DESCRIBED, hostname="$(reboot)")),
    ):
        with pytest.raises(Invalid):
            check_enrolment(bad)


def test_statuses_of_our_agents_may_be_reported() -> None:
    ports = (("tcp", 80, 30000), ("udp", 53, 0))
    whole = TaskStatus(RUNNING, 1.7e9, "started", "", "sim-" + "a" * 25, 4711, 0, ports, 1.7e9)
    ended = TaskStatus(FAILED, 1.7e9, "started", "line\nline \x1b[1m", "f" * 64, 0, 0xC0000005)
    check_statuses([("t1", whole), ("t2", ended), ("t3", TaskStatus(COMPLETE, 0.0, exit_code=-1))])


WRONG_STATUS = {
    "state 1000, which no task can be in": TaskStatus(1000, 1.0),
    f"state {ASSIGNED}": TaskStatus(ASSIGNED, 1.0),
    f"state {REMOVE}": TaskStatus(REMOVE, 1.0),
    f"state {ORPHANED}": TaskStatus(ORPHANED, 1.0),
    "the time nan": TaskStatus(RUNNING, math.nan),
    "the time inf": TaskStatus(RUNNING, math.inf),
    "the time -1.0": TaskStatus(RUNNING, -1.0),
    r"the time 1e\+20": TaskStatus(RUNNING, 1e20),
    "the start at nan": TaskStatus(RUNNING, 1.0, started_at=math.nan),
    "process -1": TaskStatus(RUNNING, 1.0, pid=-1),
    "process 18446744073709551615": TaskStatus(RUNNING, 1.0, pid=(1 << 64) - 1),
    "exit code 18446744073709551615": TaskStatus(FAILED, 1.0, exit_code=(1 << 64) - 1),
    r"port \('tcp', 80, 65536\)": TaskStatus(RUNNING, 1.0, ports=(("tcp", 80, 65536),)),
    r"port \('a b', 80, 1\)": TaskStatus(RUNNING, 1.0, ports=(("a b", 80, 1),)),
    r"container 'a\\nb'": TaskStatus(RUNNING, 1.0, container_id="a\nb"),
}


@pytest.mark.parametrize("why", WRONG_STATUS)
def test_a_status_that_cannot_be_is_named(why: str) -> None:
    good = TaskStatus(RUNNING, 1.0)
    with pytest.raises(Invalid, match=f"of task 't2' {why}"):
        check_statuses([("t1", good), ("t2", WRONG_STATUS[why]), ("t3", good)])


def test_a_new_message_is_checked_or_needs_no_check() -> None:
    """Whoever adds one says which."""
    unchecked = {messages.Heartbeat, messages.Statuses}  # it says nothing; when it is taken in
    assert set(_CHECKS) | unchecked == set(typing.get_args(messages.FromAgent))


def request_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)


def test_only_requests_of_our_kind_are_signed() -> None:
    """What others cost to check is for who sends them to say."""
    authority = Authority(*new_root(0.0))
    elliptic, largest = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
    good = request_of(elliptic)
    assert authority.sign(good, "n", "worker", "c", 0.0, 60.0)
    body = base64.b64decode(b"".join(good.splitlines()[1:-1]))
    broken = (
        body[:n] + bytes([body[n] ^ flip]) + body[n + 1 :] for n in range(len(body)) for flip in (1, 0x80)
    )
    pems = (b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(each) for each in broken)
    ends = b"-----END CERTIFICATE REQUEST-----\n"
    for pem in pems:
        with contextlib.suppress(Invalid):  # nothing else; a bit that says nothing may be any
            authority.sign(pem + ends, "n", "worker", "c", 0.0, 60.0)
    for request in (request_of(largest), request_of(ed25519.Ed25519PrivateKey.generate()), b"", b"x" * 100):
        with pytest.raises(Invalid, match="the certificate request"):
            authority.sign(request, "n", "worker", "c", 0.0, 60.0)


def test_a_daemon_whose_node_would_be_refused_does_not_start() -> None:
    assert load_settings({"name": "gpu-7.rack_2"}, None, {}).hostname == "gpu-7.rack_2"
    for name in ("-n", "a b", "$(reboot)", "ä", "a" * 256):
        with pytest.raises(Invalid, match=r"cannot be a node's host name.*--name"):
            load_settings({"name": name}, None, {})
