"""InfluxDB 1.6.7, Debian's, as tests start it: on loopback ports, with all it keeps in a directory."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

UP_S = 20.0
CONFIG = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{dir}/meta"
  logging-enabled = false
[data]
  dir = "{dir}/data"
  wal-dir = "{dir}/wal"
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{http}"
  auth-enabled = {auth}
  log-enabled = false
  max-body-size = {body_bytes}
"""


class InfluxServer:
    """`ports`: two that are free. With `admin` (user, password) nobody else may do anything."""

    def __init__(
        self,
        directory: Path,
        ports: tuple[int, int],
        admin: tuple[str, str] | None = None,
        body_bytes: int = 0,
    ) -> None:
        self.directory = directory
        self.url = f"http://127.0.0.1:{ports[0]}"
        self._admin = admin
        self._config = directory / "influxdb.conf"
        self._process: subprocess.Popen[bytes] | None = None
        text = CONFIG.format(
            rpc=ports[1],
            http=ports[0],
            dir=directory,
            auth=str(admin is not None).lower(),
            body_bytes=body_bytes,
        )
        self._config.write_text(text)

    def start(self) -> InfluxServer:
        with (self.directory / "influxd.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["influxd", "-config", str(self._config)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + UP_S
        while not self._answers():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)
        if self._admin is not None:
            name, password = self._admin
            self.query(f"CREATE USER {name} WITH PASSWORD '{password}' WITH ALL PRIVILEGES")
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def kill(self) -> None:
        """It is gone at once; one that is told to end refuses writes for a moment first."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
            self._process = None

    def pause(self) -> None:
        """It hangs: connections are taken by the kernel, and nothing is answered."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def log(self) -> str:
        return (self.directory / "influxd.log").read_text()[-2000:]

    def query(self, text: str, database: str = "") -> list[dict[str, Any]]:
        """Returns the series of the answer to InfluxQL: name, tags, columns, values; times in seconds. Errors:
        `AssertionError`."""
        body = urllib.parse.urlencode({"q": text, "db": database, "epoch": "s"}).encode()
        answer = json.loads(self._ask("/query", body))
        found: list[dict[str, Any]] = []
        for result in answer["results"]:
            assert "error" not in result, result
            found += result.get("series", [])
        return found

    def numbers(self, text: str, database: str) -> list[Any]:
        """Returns the last column of the only series of an answer; empty where there is none."""
        series = self.query(text, database)
        assert len(series) <= 1, series
        return [row[-1] for row in series[0]["values"]] if series else []

    def write(self, lines: bytes, database: str) -> None:
        """Writes lines with times in nanoseconds, as Telegraf does. Errors: `HTTPError`."""
        self._ask(f"/write?{urllib.parse.urlencode({'db': database, 'precision': 'ns'})}", lines)

    def _ask(self, path: str, body: bytes) -> bytes:
        request = urllib.request.Request(self.url + path, data=body)
        if self._admin is not None:
            shown = base64.b64encode(":".join(self._admin).encode()).decode()
            request.add_header("Authorization", f"Basic {shown}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/ping", timeout=5).close()
        except (OSError, urllib.error.URLError):
            return False
        return True
