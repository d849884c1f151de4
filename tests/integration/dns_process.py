"""One node's name server in a process of its own, so that it can be in a network namespace: commands as JSON on
stdin, one per line, answered with what it says of failures."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import msgspec
import structlog

from skep.agent import naming
from skep.agent.naming import Naming
from skep.model.overlay import Overlay
from skep.network import dns_forward
from skep.network.dns_server import DnsServer
from skep.network.names import Names


async def main(resolv_conf: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    naming.AGAIN_S, dns_forward.LOOK_S = 0.3, 0.0  # tests do not wait
    names = Names()
    made = Naming(DnsServer(names, Path(resolv_conf)), names)
    made.start()
    reader = asyncio.StreamReader(limit=1 << 20)
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while line := await reader.readline():
        command: list[Any] = msgspec.json.decode(line)
        match command:
            case ["told", overlays]:
                made.told(msgspec.convert(overlays, dict[str, Overlay]), frozenset())
            case ["serve", network_id, gateway, is_internal]:
                made.serve(network_id, gateway, is_internal)
            case ["stop", network_id]:
                made.stop(network_id)
            case ["clear"]:
                assert await made.clear() == []
            case ["ask_for", address, nameservers]:
                made.ask_for(address, nameservers)
        print(msgspec.json.encode(made.failures).decode(), flush=True)
    await made.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
