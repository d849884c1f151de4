"""Real InfluxDB and Prometheus, of Debian's packages, asked as Grafana asks them."""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .hosts import free_port, wait_until

Numbers = dict[str, float]  # by what a series is called
START_S = 30.0
SCRAPED_S = 30.0


class Database:
    """A program with a directory and a port of its own."""

    program = ""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        command = self.command()
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory)
        wait_until(f"{command[0]} answers", self.answers, START_S)

    def answers(self) -> bool:
        raise NotImplementedError

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)

    def get(self, path: str, **query: str) -> Any:
        """Errors: `AssertionError` with what it says where it refuses."""
        url = f"{self.url}{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query}: {error.read().decode()}") from error


class InfluxDatabase(Database):
    """InfluxDB 1.6.7, with a database `telegraf`."""

    def command(self) -> list[str]:
        home = self.directory
        (home / "conf").write_text(
            f'reporting-disabled = true\nbind-address = "127.0.0.1:{free_port()}"\n'
            f'[meta]\ndir = "{home}/meta"\n[data]\ndir = "{home}/data"\nwal-dir = "{home}/wal"\n'
            f'[http]\nbind-address = "127.0.0.1:{self.port}"\nlog-enabled = false\n'
        )
        return ["influxd", "run", "-config", str(home / "conf")]

    def answers(self) -> bool:
        try:
            self.post("/query", q="CREATE DATABASE telegraf")
        except OSError:
            return False
        return True

    def post(self, path: str, data: bytes = b"", **query: str) -> None:
        request = urllib.request.Request(f"{self.url}{path}?{urllib.parse.urlencode(query)}", data)
        urllib.request.urlopen(request, timeout=60).close()

    def write(self, lines: bytes) -> None:
        self.post("/write", lines, db="telegraf")

    def rows(self, query: str, variables: Mapping[str, str]) -> list[dict[str, Any]]:
        """Returns the series of a board's query: tags, columns, values."""
        text = filled(query, {"timeFilter": "time >= now() - 5m", "__interval": "10s", **variables})
        (said,) = self.get("/query", db="telegraf", q=text)["results"]
        assert "error" not in said, (text, said)
        return list(said.get("series", []))

    def last(self, query: str, name: str, variables: Mapping[str, str]) -> Numbers:
        """Returns the last number of each series, by its name as Grafana makes it."""
        found: Numbers = {}
        for series in self.rows(query, variables):
            tags = {f"tag_{tag}": value for tag, value in series.get("tags", {}).items()}
            values = [row[1] for row in series["values"] if row[1] is not None]
            if values:
                found[filled(name, tags)] = values[-1]
        return found


class PrometheusDatabase(Database):
    """Prometheus that scrapes `targets`, by job: a path and addresses."""

    def __init__(self, directory: Path, jobs: Mapping[str, tuple[str, list[str]]]) -> None:
        super().__init__(directory)
        self._jobs = jobs

    def command(self) -> list[str]:
        lines = ["global: {scrape_interval: 2s, scrape_timeout: 2s}", "scrape_configs:"]
        for job, (path, targets) in self._jobs.items():
            lines += [f"- job_name: {job}", f"  metrics_path: {path}"]
            lines += [f"  static_configs: [{{targets: {json.dumps(targets)}}}]"]
        (self.directory / "prometheus.yml").write_text("\n".join(lines) + "\n")
        return [
            *("prometheus", f"--config.file={self.directory}/prometheus.yml"),
            *(f"--storage.tsdb.path={self.directory}/data", f"--web.listen-address=127.0.0.1:{self.port}"),
        ]

    def answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/-/ready", timeout=5).close()
        except OSError:
            return False
        return True

    def wait_scraped(self) -> None:
        """Waits until all targets have been asked, and have answered, since now."""
        since = datetime.datetime.now(datetime.UTC)

        def done() -> bool:
            targets = self.get("/api/v1/targets")["data"]["activeTargets"]
            # The beginning of a scrape is said, to the nanosecond.
            begun = [datetime.datetime.fromisoformat(each["lastScrape"]) for each in targets]
            return bool(begun) and all(each["health"] == "up" for each in targets) and min(begun) > since

        wait_until("all is scraped", done, SCRAPED_S)

    def vector(self, query: str, variables: Mapping[str, str]) -> list[tuple[dict[str, str], float]]:
        """Returns labels and value of each series at the moment."""
        text = filled(query, {"__rate_interval": "30s", **variables})
        said = self.get("/api/v1/query", query=text)
        return [(each["metric"], float(each["value"][1])) for each in said["data"]["result"]]

    def last(self, query: str, name: str, variables: Mapping[str, str]) -> Numbers:
        found: Numbers = {}
        for labels, value in self.vector(query, variables):
            called = name
            for label in re.findall(r"\{\{(\w+)\}\}", name):
                called = called.replace("{{" + label + "}}", labels.get(label, ""))
            assert called not in found, f"{query}: two series are called {called}"
            found[called] = value
        return found


def filled(text: str, variables: Mapping[str, str]) -> str:
    """Returns a text with Grafana's variables in it put in."""
    made = re.sub(r"\$(\w+)", lambda match: variables[match[1]], text)
    assert "$" not in made, made
    return made
