"""The daemon that is fuzzed: requests, what an answer must be, and tidying up."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from typing import Any

from tests.e2e.hosts import Host

# Docker's own 500s (tests/unit/api/test_validation.py), what this node has not, and what skep has not yet.
_MAY_BE: dict[int, str] = {
    500: r"rpc error: code = Unknown desc = update out of sequence|invalid [a-z-]+ filter.*|strconv\..*"
    r"|Bad parameters: you must choose.*|tail value must be.*|could not parse since.*|invalid value for.*",
    501: r".*(not supported|Unimplemented).*",
    503: r"this node has no Docker Engine.*|This node is already part of a swarm\..*",
}

LATE_S = 0.02  # the daemon has read what came before
DISK_S = 15.0  # five times as long as the leader itself is patient with its etcd


class Reply:
    """One answer."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        try:
            return str(self.json()["message"])
        except (ValueError, KeyError, TypeError):
            return self.body.decode(errors="replace")


class Target:
    """`factor` is how many times as long as usual to fuzz."""

    def __init__(self, host: Host, port: int, factor: int) -> None:
        self.host = host
        self.port = port
        self.factor = factor
        self._log_seen = 0
        self.last = ""  # what was asked last, for messages

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        self.last = f"{method} {path[:300]} {(body or b'')[:1000]!r}"
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Reply(answer.status, answer.read())
        finally:
            connection.close()

    def raw(self, data: bytes, late: bytes = b"", end: bool = True, timeout_s: float = 10.0) -> bytes:
        """Sends bytes as they are, `late` a moment after, and returns all that comes back until the daemon
        closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout_s) as line:
            found = b""
            try:
                line.sendall(data)
                if late:
                    time.sleep(LATE_S)
                    line.sendall(late)
                if end:
                    line.shutdown(socket.SHUT_WR)
                while part := line.recv(65536):
                    found += part
            except OSError:  # it was slow, or closed first: what came, came
                pass
            return found

    def tasks(self) -> int:
        return int(self.ask("GET", "/skep/v1/stats").json()["tasks"])

    def stall_s(self) -> float:
        """Returns for how long at most one piece of the daemon's own work held its loop since the last call."""
        found = float(self.ask("GET", "/skep/v1/stats").json()["loop_stall_cpu_max_s"])
        self.ask("POST", "/skep/v1/stats/reset")
        return found

    def tidy(self) -> None:
        for kind in ("services", "secrets", "configs"):
            for each in self.ask("GET", f"/{kind}").json():
                self._delete(f"/{kind}/{each['ID']}")
        found = self.ask("GET", "/networks")
        for network in found.json() if found.status == 200 else ():
            if not network.get("Ingress"):
                self.ask("DELETE", f"/networks/{network['Id']}")

    def _delete(self, path: str) -> None:
        """What is left would be taken for what the fuzzing made; a disk that stands still is waited for."""
        deadline = time.monotonic() + DISK_S
        while (reply := self.ask("DELETE", path)).status == 503 and time.monotonic() < deadline:
            time.sleep(0.5)
        assert reply.status in (200, 204, 404), f"{path}: {reply.status} {reply.message}"

    def new_log(self) -> str:
        """Returns what the daemon logged since the last call."""
        path = self.host._directory / f"{self.host.name}.log"
        text = path.read_text(errors="replace")
        found, self._log_seen = text[self._log_seen :], len(text)
        return found


def check(status: int, message: str, what: object) -> None:
    """An answer is done, a refusal that says why, or one of the faults that are Docker's too."""
    if status < 500:
        return
    pattern = _MAY_BE.get(status, "(?!)")
    assert re.fullmatch(pattern, message.strip(), re.DOTALL), f"{what}: {status} {message!r}"
