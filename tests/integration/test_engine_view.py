"""Which engines are shown to see skepd's socket: by processes that see other files, or other processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skep.daemon import engine_view
from skep.daemon.engine_view import why_unseen

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

# What is asked for is who listened, as whom: PATH USER.
LISTEN = """
import os, socket, sys, time
made = socket.socket(socket.AF_UNIX)
made.bind(sys.argv[1])
os.setuid(int(sys.argv[2]))
made.listen()
print(1, flush=True)
time.sleep(60)
"""


@pytest.fixture
def ours(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(engine_view, "ENGINE", "python")
    (short_dir / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(short_dir / "run/docker.sock"))
        yield short_dir / "run/docker.sock"


@pytest.mark.parametrize(
    ("user", "start", "why"),
    [
        ("0", [], ""),
        ("0", ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs t "$0"; exec "$@"'], "it has nothing at {}"),
        (
            "0",
            ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs t "$0"; touch "$0/docker.sock"; exec "$@"'],
            "it has something else at {}",
        ),
        ("12345", [], "it is run by the user 12345"),
    ],
)
def test_what_the_engine_sees_is_looked_at(
    ours: Path, short_dir: Path, user: str, start: list[str], why: str
) -> None:
    engine = short_dir / "engine.sock"
    begin = [*start, str(ours.parent)] if start else []
    program = [os.path.realpath(sys.executable), "-c", LISTEN]
    process = subprocess.Popen([*begin, *program, str(engine), user], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        assert why_unseen(str(engine), str(ours)) == why.format(ours)
    finally:
        process.kill()
        process.communicate()


def test_an_engine_beyond_the_pid_namespace_is_not_shown_to_see_it(ours: Path, short_dir: Path) -> None:
    engine = str(short_dir / "engine.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(engine)
        listening.listen()
        ask = "import sys; from skep.daemon.engine_view import why_unseen; print(why_unseen(*sys.argv[1:]))"
        inside = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", ask, engine, str(ours)]
        said = subprocess.run(inside, capture_output=True, text=True, check=True).stdout
    assert said == "its process is in another pid namespace than skepd\n"
