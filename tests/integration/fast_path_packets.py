"""The fast path's program and single packets, in a network namespace of its own: JSON lines on stdin, what
became of each on stdout. Run by `unshare --net`.

All is on one device (the loopback, number 1): it is the container's port as well as the tunnel.
"""

from __future__ import annotations

import ctypes
import json
import socket
import struct
import subprocess
import sys
import time
from importlib import resources
from ipaddress import IPv4Address

from skep.network.bpf import Bpf, BpfProgram
from skep.network.fast_path import packed, packed_service, unpacked_counts
from skep.network.fast_path_kernel import CAME, SENT
from skep.network.objects import FastPort, FastService
from skep.network.ways import mac_of

BRIDGE, OWN_MAC, FAR_MAC = "skb1", mac_of("192.0.2.1"), mac_of("192.0.2.2")
NEAR_MAC, HERE_MAC = "02:00:00:00:00:aa", "02:42:0a:01:00:0d"
PORT = 1  # the loopback device
HERE, UNANSWERED, OTHER = (
    "10.1.0.13",
    "10.1.0.14",
    "10.1.0.15",
)  # of this host, without a MAC address, FAR's node's
PORT = 1  # the loopback device
LOCAL, UNANSWERED = "10.1.0.13", "10.1.0.14"  # a container of this host, and one that has no MAC address
_OUT_MAX = 256
HOUR_NS = 3600 * 10**9  # less than 0 where this machine has just started: programs count modulo 2^64, too


class _Run(ctypes.Structure):
    """`struct bpf_test_run_opts` of libbpf."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_char_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


def ran(program: BpfProgram, packet: bytes) -> tuple[int, bytes]:
    out = ctypes.create_string_buffer(_OUT_MAX)
    run = _Run(ctypes.sizeof(_Run), packet, ctypes.addressof(out), len(packet), _OUT_MAX, repeat=1)
    library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    failed = library.bpf_prog_test_run_opts(program.fd, ctypes.byref(run))
    assert failed == 0, ctypes.get_errno()
    return ctypes.c_int32(run.retval).value, out.raw[: run.data_size_out]


def host() -> None:
    """A bridge with an address, and a neighbour at another node."""
    for line in (
        f"link add {BRIDGE} address {OWN_MAC} type bridge",
        f"addr add 10.1.0.3/24 dev {BRIDGE}",
        f"link set {BRIDGE} up",
        "link set lo up",
        f"neigh add 10.1.0.12 lladdr {FAR_MAC} dev {BRIDGE} nud permanent",
        f"neigh add {OTHER} lladdr {FAR_MAC} dev {BRIDGE} nud permanent",
        f"neigh add {HERE} lladdr {HERE_MAC} dev {BRIDGE} nud permanent",
        f"neigh add {UNANSWERED} lladdr 00:00:00:00:00:00 dev {BRIDGE} nud permanent",
    ):
        subprocess.run(["ip", *line.split()], check=True)
    with open("/proc/sys/net/ipv4/ip_forward", "w") as setting:
        setting.write("1")


def main() -> None:
    host()
    bpf = Bpf()
    image = resources.files("skep.network").joinpath("fast_path.bpf.o").read_bytes()
    programs = bpf.load(image, (SENT, CAME))
    maps = programs[SENT].maps
    numbers = {BRIDGE: socket.if_nametoindex(BRIDGE), "lo": PORT}
    port = packed(FastPort("lo", BRIDGE, "lo", OWN_MAC, "10.1.0.0/24", "10.1.0.3"), numbers.__getitem__)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["do"] == "fresh":
            for each in maps.values():
                for key in list(bpf.keys(each)):
                    bpf.drop(each, key)  # an array keeps its own
            for number in asked["ports"]:
                bpf.put(maps["skep_ports"], number.to_bytes(4, sys.byteorder), port)
            answer: object = numbers[BRIDGE]
        elif asked["do"] == "home":
            home = asked["port"].to_bytes(4, sys.byteorder) + bytes.fromhex(asked["mac"]) + bytes(2)
            bpf.put(maps["skep_homes"], IPv4Address(asked["address"]).packed, home)
            answer = None
        elif asked["do"] == "serve":
            vip = IPv4Address(asked["vip"]).packed
            bpf.put(
                maps["skep_services"], vip, packed_service(FastService(asked["vip"], tuple(asked["tasks"])))
            )
            bpf.put(maps["skep_counts"], vip, bytes(24))
            answer = None
        elif asked["do"] == "counts":
            counted = bpf.get(maps["skep_counts"], IPv4Address(asked["vip"]).packed)
            assert counted is not None
            answer = unpacked_counts(counted)
        elif asked["do"] == "flow":
            macs = bytes.fromhex((NEAR_MAC + FAR_MAC).replace(":", ""))
            flow = struct.pack("=QqQIII", 0, time.monotonic_ns() - HOUR_NS, 0, asked["port"], 0, 0) + macs
            flow = flow.ljust(maps["skep_flows"].value_size, b"\0")
            bpf.put(maps["skep_flows"], bytes.fromhex(asked["key"]), flow)
            answer = None
        elif asked["do"] == "led":
            # Less than 0 where this machine has just started: the program counts modulo 2^64, too.
            bpf.put(maps["skep_led"], bytes.fromhex(asked["key"]), struct.pack("=q", asked["since_ns"]))
            answer = None
        else:
            verdict, packet = ran(programs[asked["do"]], bytes.fromhex(asked["packet"]))
            counts = {name.removeprefix("skep_"): len(list(bpf.keys(each))) for name, each in maps.items()}
            answer = {"verdict": verdict, "packet": packet.hex(), **counts}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
