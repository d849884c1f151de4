"""What a host's fast path has, and what becomes of it where somebody meddles, by commands: run in its network
namespace.

    devices                 those with a program
    detach DEVICE …         takes it away
    flows, homes            what is known: a line each
    another                 has another skep's program in its place, with its maps
    forget                  forgets all connections, as where very many others came
    fill N S                makes so many known that nobody has, quiet for S seconds, until no more fit
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Iterator
from importlib import resources
from ipaddress import IPv4Address

from skep.network.bpf import Bpf, BpfMap, BpfProgram
from skep.network.fast_path_kernel import CAME, SENT
from skep.runtime.errors import Unavailable

_bpf = Bpf()
# What a program has of `LED_NS`: the lower half of its nanoseconds, in an instruction.
MINUTE, SECONDS_61 = ((seconds * 10**9 & 0xFFFFFFFF).to_bytes(4, "little") for seconds in (60, 61))


def attached() -> Iterator[tuple[str, BpfProgram]]:
    for index, name in socket.if_nameindex():
        number = _bpf.attached(index)
        if number is not None and (program := _bpf.program(number)) is not None:
            yield name, program


def map_of(name: str) -> BpfMap:
    return next(each.maps[name] for _, each in attached() if each.name in (SENT, CAME) and name in each.maps)


def main(command: str, *arguments: str) -> None:
    match command:
        case "devices":
            print(*sorted(name for name, _ in attached()), sep="\n")
        case "detach":
            for name in arguments:
                _bpf.detach(socket.if_nametoindex(name))
        case "flows":
            for key in _bpf.keys(map_of("skep_flows")):
                near, far, near_port, far_port = struct.unpack("!IIHH", key)
                print(f"{IPv4Address(near)}:{near_port} {IPv4Address(far)}:{far_port}")
        case "homes":
            print(*(IPv4Address(key) for key in _bpf.keys(map_of("skep_homes"))), sep="\n")
        case "another":
            found = list(attached())
            maps = next(each.maps for _, each in found if each.name == SENT)
            image = resources.files("skep.network").joinpath("fast_path.bpf.o").read_bytes()
            made = _bpf.load(image.replace(MINUTE, SECONDS_61), (SENT, CAME), maps)
            assert made[SENT].tag != next(each.tag for _, each in found if each.name == SENT)
            for name, each in found:
                _bpf.attach(socket.if_nametoindex(name), made[each.name])
        case "forget":
            flows = map_of("skep_flows")
            for key in list(_bpf.keys(flows)):
                _bpf.drop(flows, key)
        case "fill":
            flows = map_of("skep_flows")
            quiet_ns = time.monotonic_ns() - int(arguments[1]) * 10**9
            value = struct.pack("=Qq", 0, quiet_ns).ljust(flows.value_size, b"\0")
            for number in range(int(arguments[0])):
                key = struct.pack("!IIHH", 0x0A010001, 0x0A010002, number >> 16, number & 0xFFFF)
                try:
                    _bpf.put(flows, key, value)
                except Unavailable:
                    return
            raise SystemExit("they all fit")


if __name__ == "__main__":
    main(*sys.argv[1:])
