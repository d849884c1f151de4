"""What tests of the fast path between containers share: looking into a host's, and a connection that lasts."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from .mesh_hosts import Namespace
from .overlay_hosts import Member

CONNECTIONS_MAX = 131_072  # of `skep_flows`
# Connects, and asks again over the same connection when it is told to.
TALK = """
import socket, sys
made = socket.create_connection((sys.argv[1], 80), 3)
made.settimeout(3)
for line in sys.stdin:
    try:
        if line.strip() == "ask":
            made.send(b"x")
        print(made.recv(100).decode().strip(), flush=True)
    except OSError as error:
        print("error", type(error).__name__, flush=True)
"""


def fast_path(host: Namespace, *command: str) -> str:
    """Returns what `fast_path_process` says."""
    return host.run(sys.executable, "-m", "tests.integration.fast_path_process", *command)


def devices(host: Namespace) -> list[str]:
    """Returns those that have a program."""
    return fast_path(host, "devices").split()


@contextlib.contextmanager
def talk(client: Member, to: str) -> Iterator[subprocess.Popen[str]]:
    command, pipe = [*client.prefix, sys.executable, "-c", TALK, to], subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait(5)


def said(process: subprocess.Popen[str], what: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{what}\n")
    process.stdin.flush()
    return process.stdout.readline().strip()
