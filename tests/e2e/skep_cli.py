"""The command `skep` in tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.words import words

from .hosts import Host

SKEP = Path(sys.executable).with_name("skep")


def skep(
    line: str, *values: object, on: Host | None = None, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs it (`tests.words`), with the API of a host; the caller looks at how it ended."""
    host = ["--host", on.url] if on is not None else []
    return subprocess.run(
        [SKEP, *words(line, *values), *host],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **(environment or {})},
    )


def skep_ok(line: str, *values: object, on: Host | None = None) -> str:
    """Returns what it prints, once it succeeded."""
    done = skep(line, *values, on=on)
    assert done.returncode == 0, f"{' '.join(map(str, done.args))}: {done.stderr}"
    return done.stdout
