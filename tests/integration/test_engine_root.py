"""Roots of other engines are made anew when they are old, and not while somebody uses them: `scripts/engine_root.sh`."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
OLD_S = 15 * 86400
FRESH = '#!/bin/bash\nset -e\nmkdir -p "$2/root"\ndate +%N >"$2/root/made"\n'

pytestmark = pytest.mark.root


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """The scripts, of which the one that asks the world for packages makes a small root."""
    made = tmp_path / "scripts"
    made.mkdir()
    for name in ("engine_root.sh", "lib.sh"):
        shutil.copy(SCRIPTS / name, made / name)
    (made / "fresh.sh").write_text(FRESH)
    (made / "fresh.sh").chmod(0o755)
    return made


def _root(scripts: Path) -> Path:
    environment = {**os.environ, "SKEP_FRESH_CACHE": str(scripts.parent / "cache")}
    command = [scripts / "engine_root.sh", "testing"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=30)
    return Path(done.stdout.strip())


def _age(root: Path) -> None:
    then = time.time() - OLD_S
    os.utime(f"{root}.made", (then, then))


def test_one_that_is_old_is_made_anew(scripts: Path) -> None:
    root = _root(scripts)
    first = (root / "made").read_text()
    assert _root(scripts) == root
    assert (root / "made").read_text() == first
    _age(root)
    assert _root(scripts) == root
    assert (root / "made").read_text() != first


def test_one_that_is_in_use_stays_until_it_is_not(scripts: Path) -> None:
    root = _root(scripts)
    first = (root / "made").read_text()
    _age(root)
    users = [os.open(root, os.O_RDONLY) for _ in range(2)]
    for user in users:
        fcntl.flock(user, fcntl.LOCK_SH)
    for user in users:
        assert _root(scripts) == root
        assert (root / "made").read_text() == first
        os.close(user)
    assert _root(scripts) == root
    assert (root / "made").read_text() != first
