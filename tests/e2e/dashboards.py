"""`skep dashboard` as its user starts it, and what a browser asks of it, without a browser."""

from __future__ import annotations

import http.client
import json
import queue
import re
import socket
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from skep.runtime.sse import SentEvent, SentEvents

from .hosts import wait_until
from .skep_cli import SKEP

EVENT_MAX_BYTES = 8 << 20


class ShownSwarm:
    """A running `skep dashboard --no-browser`."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.said = directory / "dashboard.out"
        with self.said.open("wb") as output:
            self.process = subprocess.Popen(
                [SKEP, "dashboard", "--no-browser", *options], stdout=output, stderr=subprocess.STDOUT
            )
        wait_until("it prints its link", lambda: self.links or self.process.poll() is not None)
        assert self.links, self.said.read_text()

    @property
    def links(self) -> list[str]:
        """Returns the links that it has printed."""
        return re.findall(r"http://\S+", self.said.read_text())

    def __enter__(self) -> ShownSwarm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        assert self.process.wait(10) == 0, self.said.read_text()


class Page:
    """A browser that has opened a link. `headers` of a request add to what a browser sends."""

    def __init__(self, link: str) -> None:
        self.address = re.sub(r"http://(.*?)/.*", r"\1", link)
        self.cookie = ""
        self.csrf = ""
        path = link.partition(self.address)[2]
        status, content, headers = self.request("GET", path)
        self.opened = status == 200
        if self.opened:
            self.cookie = headers["Set-Cookie"].partition(";")[0]
            self.csrf = self.get("/session")["csrf"]
        else:
            self.why = content.decode()

    def request(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection(self.address, timeout=30)
        given = {"Cookie": self.cookie, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if method == "POST":
            given = {"Origin": f"http://{self.address}", "X-Skep-CSRF": self.csrf, **given}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), given)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        status, content, _ = self.request("GET", path)
        assert status == 200, content
        return json.loads(content)

    def post(self, path: str, body: object, **headers: str) -> tuple[int, str]:
        """Returns the status, and what the swarm says where it refuses."""
        status, content, _ = self.request("POST", path, body, **headers)
        return status, str(json.loads(content).get("message", "")) if content.strip() else ""

    def stream(self, after: str = "") -> Followed:
        return Followed(self, after)


class Followed:
    """The board's stream, read in the background until it is closed."""

    def __init__(self, page: Page, after: str) -> None:
        self._events: queue.Queue[SentEvent | None] = queue.Queue()
        self.seen: list[SentEvent] = []
        self._connection = http.client.HTTPConnection(page.address, timeout=60)
        self._connection.request("GET", f"/board/stream?after={after}", headers={"Cookie": page.cookie})
        answer = self._connection.getresponse()
        assert answer.status == 200
        self._socket = self._connection.sock
        threading.Thread(target=self._read, args=(answer,), daemon=True).start()

    def _read(self, answer: http.client.HTTPResponse) -> None:
        reader = SentEvents(EVENT_MAX_BYTES)
        try:
            while piece := answer.read1():
                for event in reader.feed(piece):
                    self._events.put(event)
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            pass  # it was closed
        self._events.put(None)

    def next(self, name: str, timeout_s: float = 30.0) -> Any:
        """Returns what the next event of that name says."""
        while True:
            event = self._events.get(timeout=timeout_s)
            assert event is not None, "the stream ended"
            self.seen.append(event)
            if event.event == name:
                return json.loads(event.data)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._connection.close()
