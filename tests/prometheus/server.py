"""A real Prometheus for tests."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.e2e.hosts import free_port, wait_until

# Where it is in a network of its own, it is asked there.
READ = "import sys, urllib.request as r; sys.stdout.buffer.write(r.urlopen(sys.argv[1], timeout=10).read())"
PROMETHEUS, PROMTOOL = "prometheus", "promtool"


def promtool(*arguments: str | Path, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs it; fails where there is none."""
    assert shutil.which(PROMTOOL), (
        "promtool is missing: apt-get install prometheus (in testing: promtool, too)"
    )
    return subprocess.run([PROMTOOL, *map(str, arguments)], input=given, capture_output=True, timeout=60)


class Prometheus:
    """One server that keeps its data in a directory, with a configuration that is there as prometheus.yml;
    `prefix` comes before its command."""

    def __init__(self, directory: Path, prefix: Sequence[str] = ()) -> None:
        self.directory = directory
        self.url = f"http://127.0.0.1:{free_port()}"
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Prometheus:
        assert shutil.which(PROMETHEUS), "Prometheus is missing: apt-get install prometheus"
        command = [*self._prefix, PROMETHEUS, f"--config.file={self.directory}/prometheus.yml"]
        command += [f"--storage.tsdb.path={self.directory}/data", "--log.level=warn"]
        command.append(f"--web.listen-address={self.url.removeprefix('http://')}")
        with (self.directory / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(f"Prometheus is ready: {self.log()}", self._is_ready, 20)
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)

    def log(self) -> str:
        return (self.directory / "prometheus.log").read_text()[-2000:]

    def query(self, query: str) -> dict[str, float]:
        """Returns the values of an instant query, by the labels as JSON with sorted names."""
        data = self._get("/api/v1/query", query=query)
        assert data["resultType"] == "vector"
        return {
            json.dumps(each["metric"], sort_keys=True): float(each["value"][1]) for each in data["result"]
        }

    def value(self, query: str) -> float | None:
        """Returns the one value of an instant query; None where there is none."""
        found = list(self.query(query).values())
        assert len(found) < 2, found
        return found[0] if found else None

    def targets(self, job: str) -> list[dict[str, Any]]:
        """Returns a job's targets, with what was discovered of them."""
        active = self._get("/api/v1/targets", state="active")["activeTargets"]
        return [each for each in active if each["scrapePool"] == job]

    def alerts(self) -> list[dict[str, Any]]:
        """Returns what is pending or firing."""
        return list(self._get("/api/v1/alerts")["alerts"])

    def firing(self, name: str) -> list[dict[str, str]]:
        """Returns the labels of an alert that fires."""
        found = (each for each in self.alerts() if each["state"] == "firing")
        return [each["labels"] for each in found if each["labels"]["alertname"] == name]

    def _is_ready(self) -> bool:
        try:
            return bool(self._read("/-/ready"))
        except (OSError, subprocess.CalledProcessError):
            return False

    def _get(self, path: str, **values: str) -> Any:
        return json.loads(self._read(f"{path}?{urllib.parse.urlencode(values)}"))["data"]

    def _read(self, path: str) -> bytes:
        """Errors: `OSError`, `CalledProcessError`."""
        if not self._prefix:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as said:
                return bytes(said.read())
        command = [*self._prefix, sys.executable, "-I", "-c", READ, f"{self.url}{path}"]
        return subprocess.run(command, check=True, capture_output=True, timeout=30).stdout
