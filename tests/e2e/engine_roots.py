"""Engines of other releases than this machine's, as options of `scripts/engine.sh`."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts/engine_root.sh"
OLDEST = "20.10"
# ./check --engines: swarms of hosts have an engine of each release, where a test does not say which.
MIXED = "SKEP_TEST_ENGINES"


@functools.cache
def root_of(release: str) -> tuple[str, ...]:
    """Returns what has `engine.sh` start the engine of that Debian. Its root is made where it is not there, for which
    a lane of tests has no network: ./check has made it before. Errors: `AssertionError` with what was said."""
    done = subprocess.run([str(SCRIPT), release], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, f"{SCRIPT.name} {release}: {done.stderr}"
    return ("--root", done.stdout.strip())


def mixed() -> tuple[tuple[str, ...], ...]:
    """Returns the options of engines of Debian 12, 13 and testing: the oldest, newer ones, the newest."""
    own = subprocess.run(["dockerd", "--version"], check=True, capture_output=True, text=True).stdout
    return (() if f" {OLDEST}." in own else root_of("12"), root_of("13"), root_of("testing"))


def wanted() -> tuple[tuple[str, ...], ...]:
    """Returns the options of swarms' engines, in turn, as this run of the tests wants them."""
    return mixed() if os.environ.get(MIXED) == "mixed" else ((),)
