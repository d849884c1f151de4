"""`skep monitor influx` in tests: as a process, with what it says."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.words import words

from .hosts import wait_until
from .skep_cli import SKEP


class Feed:
    """A process that runs; its log is a file."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    def said(self) -> list[str]:
        """Returns the sentences of its log so far."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        return [line["said"] for line in lines if "said" in line]

    def wait_said(self, text: str, timeout_s: float = 30.0) -> str:
        return str(
            wait_until(text, lambda: next((line for line in self.said() if text in line), ""), timeout_s)
        )

    def end(self) -> str:
        """Returns the last thing it says."""
        self.process.terminate()
        assert self.process.wait(15) == 0
        return self.said()[-1]


@contextlib.contextmanager
def feeding(directory: Path, line: str, *values: object, **environment: str) -> Iterator[Feed]:
    """Runs it (`tests.words`) every second, which comes to an end."""
    log = directory / "feed.log"
    with log.open("wb") as opened:
        process = subprocess.Popen(
            [SKEP, "monitor", "influx", "--interval", "1s", "--log-format", "json", *words(line, *values)],
            stderr=opened,
            env={**os.environ, **environment},
        )
    try:
        yield Feed(process, log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(5)
