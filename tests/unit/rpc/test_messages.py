"""Messages are encoded as an earlier skep reads them, and its frames mean what they meant."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from skep.model.cluster import TaskDefaults
from skep.model.container import ContainerSpec
from skep.model.host_network import HostNetwork
from skep.model.kernel_net import Bytes, KernelNet
from skep.model.logs import LogOptions
from skep.model.material import MaterialPayload
from skep.model.mesh import MeshEndpoint, MeshPart, MeshPort, MeshService
from skep.model.node import NodeDescription
from skep.model.overlay import OverlayEndpoint, OverlayNetwork, OverlayService
from skep.model.overlay_keys import OverlayKey
from skep.model.spec import TaskSpec
from skep.model.task import TaskAddress, TaskStatus
from skep.model.usage import HostUsage, TaskUsage
from skep.rpc.messages import (
    Assign,
    AssignedTask,
    Attach,
    Attached,
    DataKeys,
    Described,
    FromAgent,
    FromManager,
    Goodbye,
    HasAddresses,
    HasDataKeys,
    HasTls,
    Heartbeat,
    HeartbeatAck,
    HostNetworks,
    Lead,
    Manage,
    Managing,
    MeshApplied,
    MeshLook,
    MeshSeen,
    MeshTold,
    NotAttached,
    NotNow,
    OverlayAnswered,
    OverlayAsk,
    OverlayKeysTold,
    OverlaysHeld,
    OverlayTold,
    ReadLogs,
    Register,
    Registered,
    Renew,
    Renewed,
    Role,
    SayAddresses,
    ServiceTemplate,
    Statuses,
    TaskNetwork,
    UsageAsk,
    UsageSaid,
    WantedTls,
    decode_from_agent,
    decode_from_manager,
    encode,
)

WEB = MeshService("s", "web", (MeshPort("tcp", 8080, 80),), (MeshEndpoint("10.0.0.7", "a"),))

LANDED = [  # each with its frame as skep wrote it before messages had a file per subject
    (
        Register(NodeDescription(hostname="a"), "10.0.0.1:2377", ["logs", "attach"]),
        b"\x84\xa4type\xa8register\xabdescription\x81\xa8Hostname\xa1a\xacmanager_addr\xad10.0.0.1:2377\xa8features\x92\xa4logs\xa6attach",
    ),
    (
        Described(NodeDescription(hostname="a")),
        b"\x82\xa4type\xa9described\xabdescription\x81\xa8Hostname\xa1a",
    ),
    (
        Statuses([("t", TaskStatus(9, 1.5, "started", container_id="c", pid=7))]),
        b"\x82\xa4type\xa8statuses\xa5items\x91\x92\xa1t\x99\t\xcb?\xf8\x00\x00\x00\x00\x00\x00\xa7started\xa0\xa1c\x07\x00\x90\xcb\x00\x00\x00\x00\x00\x00\x00\x00",
    ),
    (Heartbeat(), b"\x81\xa4type\xa2hb"),
    (Renew(b"request"), b"\x82\xa4type\xa5renew\xabrequest_pem\xc4\x07request"),
    (HasTls("i", "t"), b"\x83\xa4type\xa7has-tls\xa6issuer\xa1i\xa5trust\xa1t"),
    (Manage("10.0.0.1:2377"), b"\x82\xa4type\xa6manage\xacmanager_addr\xad10.0.0.1:2377"),
    (
        Attach(7, "net", "10.0.9.2"),
        b"\x84\xa4type\xa6attach\xa6number\x07\xa7network\xa3net\xa7address\xa810.0.9.2",
    ),
    (
        HasAddresses([TaskAddress("n", "10.0.9.2/24", "10.0.9.1/24")]),
        b"\x82\xa4type\xadhas-addresses\xa6in_use\x91\x93\xa1n\xab10.0.9.2/24\xab10.0.9.1/24",
    ),
    (
        Registered(5.0, ["10.0.0.1:2377"], "manager", True, ["attach"]),
        b"\x86\xa4type\xaaregistered\xabheartbeat_s\xcb@\x14\x00\x00\x00\x00\x00\x00\xa8managers\x91\xad10.0.0.1:2377\xa4role\xa7manager\xa9is_member\xc3\xa8features\x91\xa6attach",
    ),
    (
        Assign(
            complete=True,
            templates=[
                ServiceTemplate(
                    "s",
                    3,
                    "web",
                    {"a": "b"},
                    TaskSpec(container_spec=ContainerSpec(image="x")),
                    networks=[TaskNetwork("n", "net", "overlay", "10.0.9.0/24")],
                )
            ],
            tasks=[AssignedTask("t", "s", 3, 1, 9)],
            kept=["k"],
            defaults=TaskDefaults(),
            held=["h"],
        ),
        b"\x87\xa4type\xa6assign\xa8complete\xc3\xa9templates\x91\x99\xa1s\x03\xa3web\x81\xa1a\xa1b\x82\xadContainerSpec\xde\x00\x01\xa5Image\xa1x\xabForceUpdate\x00\x90\xc0\xc0\x91\x9a\xa1n\xa3net\xa7overlay\xab10.0.9.0/24\xc2\xc2\x90\x80\x80\xa0\xa5tasks\x91\x97\xa1t\xa1s\x03\x01\t\x90\x90\xa4kept\x91\xa1k\xa8defaults\x80\xa4held\x91\xa1h",
    ),
    (
        Assign(
            dropped=["d"],
            removing=["r"],
            outdated=[("s", 2)],
            materials=[MaterialPayload("g", b"data")],
            withdrawn=["w"],
        ),
        b"\x86\xa4type\xa6assign\xa7dropped\x91\xa1d\xa8removing\x91\xa1r\xa8outdated\x91\x92\xa1s\x02\xa9materials\x91\x93\xa1g\xc4\x04data\xa0\xa9withdrawn\x91\xa1w",
    ),
    (
        HeartbeatAck(5.0, ["10.0.0.1:2377"]),
        b"\x83\xa4type\xa6hb-ack\xabheartbeat_s\xcb@\x14\x00\x00\x00\x00\x00\x00\xa8managers\x91\xad10.0.0.1:2377",
    ),
    (
        Renewed(b"certificate", b"ca"),
        b"\x83\xa4type\xa7renewed\xafcertificate_pem\xc4\x0bcertificate\xa6ca_pem\xc4\x02ca",
    ),
    (
        WantedTls(b"ca", "i", 7776000.0, 60.0),
        b"\x85\xa4type\xaawanted-tls\xa6ca_pem\xc4\x02ca\xa6issuer\xa1i\xa8expiry_s\xcbA]\xa9\xc0\x00\x00\x00\x00\xa8spread_s\xcb@N\x00\x00\x00\x00\x00\x00",
    ),
    (Role("worker", False), b"\x83\xa4type\xa4role\xa4role\xa6worker\xa9is_member\xc2"),
    (
        Managing({"b": "10.0.0.2:2377"}, b"key", "SWMKEY"),
        b"\x84\xa4type\xa8managing\xa8managers\x81\xa1b\xad10.0.0.2:2377\xa8data_key\xc4\x03key\xaaunlock_key\xa6SWMKEY",
    ),
    (
        DataKeys([b"new", b"old"], "SWMKEY", Lead("i", 7)),
        b"\x84\xa4type\xa9data-keys\xa4keys\x92\xc4\x03new\xc4\x03old\xaaunlock_key\xa6SWMKEY\xa4lead\x92\xa1i\x07",
    ),
    (HasDataKeys([b"d"]), b"\x82\xa4type\xadhas-data-keys\xa7digests\x91\xc4\x01d"),
    (
        NotNow("another manager is joining"),
        b"\x82\xa4type\xa7not-now\xa6reason\xbaanother manager is joining",
    ),
    (
        ReadLogs("id", [("t", "1.000000002")], LogOptions(), 65536),
        b"\x85\xa4type\xa9read-logs\xa2id\xa2id\xa5tasks\x91\x92\xa1t\xab1.000000002\xa7options\x95\xc2\xc3\xc3\xff\xc2\xa6window\xce\x00\x01\x00\x00",
    ),
    (
        Attached(
            7,
            TaskNetwork("n", "net", "overlay", "10.0.9.0/24"),
            TaskAddress("n", "10.0.9.2/24", "10.0.9.1/24"),
        ),
        b"\x84\xa4type\xa8attached\xa6number\x07\xa7network\x9a\xa1n\xa3net\xa7overlay\xab10.0.9.0/24\xc2\xc2\x90\x80\x80\xa0\xa7address\x93\xa1n\xab10.0.9.2/24\xab10.0.9.1/24",
    ),
    (
        NotAttached(7, "Conflict", "no address is free"),
        b"\x84\xa4type\xacnot-attached\xa6number\x07\xa4kind\xa8Conflict\xa6reason\xb2no address is free",
    ),
    (
        MeshTold(
            True,
            OverlayNetwork("n", "10.0.0.0/24", 4097, 4789),
            [("a", "192.0.2.1")],
            ["b"],
            [MeshService("s", "web", (MeshPort("tcp", 8080, 80),), (MeshEndpoint("10.0.0.7", "a"),))],
            ["t"],
        ),
        b"\x87\xa4type\xa4mesh\xa8complete\xc3\xa7network\x94\xa1n\xab10.0.0.0/24\xcd\x10\x01\xcd\x12\xb5\xa5nodes\x91\x92\xa1a\xa9192.0.2.1\xaagone_nodes\x91\xa1b\xa8services\x91\x95\xa1s\xa3web\x91\x93\xa3tcp\xcd\x1f\x90P\x91\x93\xa810.0.0.7\xa1a\xc3\xc3\xadgone_services\x91\xa1t",
    ),
    (
        MeshTold(
            parts=[MeshPart(WEB, 3, 8, (("a", "192.0.2.1"),))],
            own=[WEB],
            returns=b"\xc0\x00\x02\x01",
            gone_returns=b"\xc0\x00\x02\x02",
            returns_whole=True,
        ),
        b"\x86\xa4type\xa4mesh\xa5parts\x91\x94\x96\xa1s\xa3web\x91\x93\xa3tcp\xcd\x1f\x90P\x91\x93\xa810.0.0.7\xa1a\xc3\xc3\xc0\x03\x08\x91\x92\xa1a\xa9192.0.2.1\xa3own\x91\x96\xa1s\xa3web\x91\x93\xa3tcp\xcd\x1f\x90P\x91\x93\xa810.0.0.7\xa1a\xc3\xc3\xc0\xa7returns\xc4\x04\xc0\x00\x02\x01\xacgone_returns\xc4\x04\xc0\x00\x02\x02\xadreturns_whole\xc3",
    ),
    (
        MeshTold(True, data_path="ipvs"),
        b"\x83\xa4type\xa4mesh\xa8complete\xc3\xa9data_path\xa4ipvs",
    ),
    (
        OverlayTold(
            OverlayNetwork("n", "10.0.1.0/24", 4098, 4789, "back", 1400),
            True,
            [("a", "192.0.2.1")],
            ["b"],
            [OverlayService("s", "web", ("www",), "", (OverlayEndpoint("10.0.1.7", "a", "web.1.t"),))],
            ["t"],
        ),
        b"\x87\xa4type\xa7overlay\xa7network\x96\xa1n\xab10.0.1.0/24\xcd\x10\x02\xcd\x12\xb5\xa4back\xcd\x05x\xa8complete\xc3\xa5nodes\x91\x92\xa1a\xa9192.0.2.1\xaagone_nodes\x91\xa1b\xa8services\x91\x95\xa1s\xa3web\x91\xa3www\xa0\x91\x94\xa810.0.1.7\xa1a\xa7web.1.t\xc3\xadgone_services\x91\xa1t",
    ),
    (
        OverlayTold(
            OverlayNetwork("n", "10.0.0.0/16", 4099, 4789, "big", 1450, True),
            nodes=[("a", "192.0.2.1")],
            endpoints=[OverlayEndpoint("10.0.1.7", "a", "web.1.t")],
            gone_endpoints=["10.0.1.8"],
        ),
        b"\x85\xa4type\xa7overlay\xa7network\x97\xa1n\xab10.0.0.0/16\xcd\x10\x03\xcd\x12\xb5\xa3big\xcd\x05\xaa\xc3\xa5nodes\x91\x92\xa1a\xa9192.0.2.1\xa9endpoints\x91\x94\xa810.0.1.7\xa1a\xa7web.1.t\xc3\xaegone_endpoints\x91\xa810.0.1.8",
    ),
    (
        OverlayAsk(7, "n", ["web"], ["10.0.1.9"], ["s"]),
        b"\x86\xa4type\xaboverlay-ask\xa6number\x07\xaanetwork_id\xa1n\xa5names\x91\xa3web\xa9addresses\x91\xa810.0.1.9\xa8services\x91\xa1s",
    ),
    (
        OverlayAnswered(7, ["web"], ["10.0.1.9"], ["s"]),
        b"\x85\xa4type\xb0overlay-answered\xa6number\x07\xadunknown_names\x91\xa3web\xb1unknown_addresses\x91\xa810.0.1.9\xb0unknown_services\x91\xa1s",
    ),
    (
        OverlayKeysTold([OverlayKey(1, b"s")], 1, ["192.0.2.1"]),
        b"\x84\xa4type\xacoverlay-keys\xa4keys\x91\x92\x01\xc4\x01s\xa7sending\x01\xa6behind\x91\xa9192.0.2.1",
    ),
    (
        OverlaysHeld(["n"]),
        b"\x83\xa4type\xadoverlays-held\xabnetwork_ids\x91\xa1n\xa4lead\xc0",
    ),
    (
        MeshApplied(["port 8080 is taken"]),
        b"\x82\xa4type\xacmesh-applied\xa8failures\x91\xb2port 8080 is taken",
    ),
    (MeshLook(3), b"\x82\xa4type\xa9mesh-look\xa6number\x03"),
    (
        MeshSeen(
            3,
            KernelNet(
                {"bridges": 1},
                ["tunnel skv1"],
                1,
                ["chain x"],
                1,
                {"8080/tcp": 7},
                ["it fails"],
                {"8080/tcp": Bytes(5, 6)},
            ),
        ),
        b"\x83\xa4type\xa9mesh-seen\xa6number\x03\xa4seen\x88\xa7Objects\x81\xa7bridges\x01\xa7Missing\x91\xabtunnel skv1\xacMissingCount\x01\xa7Surplus\x91\xa7chain x\xacSurplusCount\x01\xabConnections\x81\xa88080/tcp\x07\xa8Failures\x91\xa8it fails\xa5Bytes\x81\xa88080/tcp\x82\xa8Received\x05\xa4Sent\x06",
    ),
    (
        HostNetworks([HostNetwork("10.0.0.0/24", "eth0")]),
        b"\x82\xa4type\xadhost-networks\xa8networks\x91\x92\xab10.0.0.0/24\xa4eth0",
    ),
    (UsageAsk(3, True), b"\x83\xa4type\xa9usage-ask\xa6number\x03\xa5tasks\xc3"),
    (
        UsageSaid(3, HostUsage(1.5, 7, 0.25), [TaskUsage("t", 0.5, 8, 9)], True),
        b"\x85\xa4type\xaausage-said\xa6number\x03\xa4host\x93\xcb?\xf8\x00\x00\x00\x00\x00\x00\x07\xcb?\xd0\x00\x00\x00\x00\x00\x00\xa5tasks\x91\x94\xa1t\xcb?\xe0\x00\x00\x00\x00\x00\x00\x08\x09\xa4more\xc3",
    ),
    (SayAddresses(), b"\x81\xa4type\xadsay-addresses"),
    (
        Goodbye("not-leader", "this manager does not lead", ["10.0.0.1:2377"], "10.0.0.2:2377"),
        b"\x85\xa4type\xa7goodbye\xa4kind\xaanot-leader\xa7message\xbathis manager does not lead\xa8managers\x91\xad10.0.0.1:2377\xa6leader\xad10.0.0.2:2377",
    ),
]


def has_all(now: Any, landed: Any) -> bool:
    """True where nothing that was said is missing; fields may have come behind."""
    if isinstance(landed, dict):
        return all(key in now and has_all(now[key], value) for key, value in landed.items())
    if isinstance(landed, list):
        return len(now) >= len(landed) and all(map(has_all, now, landed))
    return bool(now == landed)


@pytest.mark.parametrize(("message", "frame"), LANDED, ids=lambda each: type(each).__name__)
def test_a_message_is_what_it_was(message: FromAgent | FromManager, frame: bytes) -> None:
    decode = decode_from_agent if isinstance(message, FromAgent) else decode_from_manager
    assert decode(frame) == message
    assert has_all(msgspec.msgpack.decode(encode(message)), msgspec.msgpack.decode(frame))


def test_no_message_is_left_out() -> None:
    """A new one is added with the frame as it is then."""
    kinds = {type(message) for message, _ in LANDED}
    assert kinds == {*FromAgent.__args__, *FromManager.__args__}


class EarlierHeartbeat(msgspec.Struct, tag="hb"):
    """As it was before engines had a pulse."""


class EarlierRegister(msgspec.Struct, tag="register"):
    description: NodeDescription
    manager_addr: str = ""
    features: list[str] = []


def test_an_earlier_manager_passes_over_what_is_said_of_the_engine() -> None:
    decoder = msgspec.msgpack.Decoder(EarlierHeartbeat | EarlierRegister)
    assert decoder.decode(encode(Heartbeat(engine_is_silent=True))) == EarlierHeartbeat()
    said = Register(NodeDescription(hostname="a"), "", ["logs"], engine_is_silent=True)
    assert decoder.decode(encode(said)) == EarlierRegister(said.description, "", ["logs"])


def test_what_an_engine_that_answers_costs_a_heartbeat_is_nothing() -> None:
    assert encode(Heartbeat()) == b"\x81\xa4type\xa2hb"
