"""The command `skep` in tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .hosts import Host

SKEP = Path(sys.executable).with_name("skep")


def skep(
    *arguments: str | Path, on: Host | None = None, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs it, with the API of a host; the caller looks at how it ended."""
    host = ["--host", on.url] if on is not None else []
    return subprocess.run(
        [SKEP, *arguments, *host],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **(environment or {})},
    )


def skep_ok(*arguments: str | Path, on: Host | None = None) -> str:
    """Returns what it prints, once it succeeded."""
    done = skep(*arguments, on=on)
    assert done.returncode == 0, f"skep {arguments}: {done.stderr}"
    return done.stdout
