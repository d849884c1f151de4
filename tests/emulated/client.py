"""A client of a published port, in an emulated machine: `client.py tcp|udp ADDRESS PORT COUNT` connects so often, one
after the other, and prints the answers, each with how often it came. Standard library only.

`client.py held ADDRESS PORT SECONDS` has one connection, says something each fifth of a second, and prints how often it
was answered, and by whom; it ends before where there is a file `/run/held.enough`."""

from __future__ import annotations

import socket
import sys
import time
from collections import Counter
from pathlib import Path

WAIT_S = 10.0
STEP_S = 0.2
ENOUGH = Path("/run/held.enough")


def ask(kind: str, address: str, port: int) -> str:
    stream = kind == "tcp"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM) as line:
        line.settimeout(WAIT_S)
        try:
            line.connect((address, port))
            if not stream:
                line.send(b"?")
            return line.recv(4096).decode().strip()
        except OSError as error:
            return f"failed: {error}"


def hold(address: str, port: int, seconds: float) -> Counter[str]:
    answers: Counter[str] = Counter()
    with socket.create_connection((address, port), WAIT_S) as line:
        line.settimeout(WAIT_S)
        answers[line.recv(4096).decode().strip()] += 1
        end = time.monotonic() + seconds
        while time.monotonic() < end and not ENOUGH.exists():
            line.send(b"?")
            data = line.recv(4096)
            if not data:
                answers["ended"] += 1
                break
            answers[data.decode().strip()] += 1
            time.sleep(STEP_S)
    return answers


if __name__ == "__main__":
    what, to, at, much = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    found = hold(to, at, much) if what == "held" else Counter(ask(what, to, at) for _ in range(int(much)))
    for answer, count in sorted(found.items()):
        print(count, answer)
