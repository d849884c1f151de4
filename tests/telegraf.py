"""Telegraf, as `skep telegraf` sees it: a line to its input per interval, what comes out goes to an InfluxDB, as a real
Telegraf 1.40 was seen to do with `inputs.execd`. Debian has none."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.skep_cli import SKEP
from tests.influx_server import InfluxServer
from tests.words import words

BATCH_LINES = 1000  # metric_batch_size


class TelegrafLike:
    """Asks every `interval_s`, whatever came of the gather before; `failed` are writes that went wrong."""

    def __init__(
        self, process: subprocess.Popen[bytes], influx: InfluxServer, database: str, interval_s: float
    ) -> None:
        self._process = process
        self._influx = influx
        self._database = database
        self._interval_s = interval_s
        self._over = threading.Event()
        self.failed: list[str] = []
        self.log: list[str] = []
        self._threads = [
            threading.Thread(target=each, daemon=True) for each in (self._ask, self._write, self._hear)
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        assert self._process.stdin is not None
        while not self._over.is_set():
            # At multiples of the interval, as with `round_interval`.
            time.sleep(self._interval_s - time.time() % self._interval_s)
            with contextlib.suppress(OSError):
                os.write(self._process.stdin.fileno(), b"\n")
        self._process.stdin.close()

    def _write(self) -> None:
        assert self._process.stdout is not None
        rest = b""
        while chunk := os.read(self._process.stdout.fileno(), 1 << 20):
            *lines, rest = (rest + chunk).split(b"\n")
            for at in range(0, len(lines), BATCH_LINES):
                try:
                    self._influx.write(b"\n".join(lines[at : at + BATCH_LINES]), self._database)
                except OSError as error:
                    self.failed.append(str(error))

    def _hear(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.log.append(line.decode().rstrip())

    def end(self) -> None:
        """Closes its input, as Telegraf does, and waits until it has ended."""
        self._over.set()
        assert self._process.wait(20) == 0
        for thread in self._threads:
            thread.join(10)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()


@contextlib.contextmanager
def telegraf(
    influx: InfluxServer, database: str, interval_s: float, line: str, *values: object
) -> Iterator[TelegrafLike]:
    """Runs `skep telegraf` with these options (`tests.words`)."""
    process = subprocess.Popen(
        [Path(SKEP), "telegraf", *words(line, *values)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield TelegrafLike(process, influx, database, interval_s)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(5)
