"""No command of ours ends in a traceback, whatever goes wrong in it: all commands, one rule."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from skep.cli.files import check_writable
from skep.cli.main import main as skep
from skep.daemon.main import main as skepd
from skep.runtime.entry import ProgramGroup, reason_of
from skep.runtime.errors import Invalid, Unavailable

FAILURES = [
    (Unavailable("the daemon cannot be reached"), "the daemon cannot be reached"),
    (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/x/y"), "/x/y: Permission denied"),
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
    (ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib"), "pip install 'skep[plot]'"),
    (ImportError("cannot import name 'x'"), "a package is missing or broken: cannot import name 'x'"),
    (RuntimeError("two\nlines"), "RuntimeError: two lines (SKEP_TRACEBACK=1 shows where)"),
    (RecursionError(), "RecursionError (SKEP_TRACEBACK=1 shows where)"),
    (TimeoutError(), "TimeoutError"),
]


CONTEXT = click.Context(skep)


def commands(group: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    """Yields the words of every command that does something."""
    if not isinstance(group, click.Group):
        yield path
        return
    for name in group.list_commands(CONTEXT):
        yield from commands(command_of(group, name), *path, name)


def command_of(group: click.Command, name: str) -> click.Command:
    assert isinstance(group, click.Group)
    command = group.get_command(CONTEXT, name)
    assert command is not None
    return command


COMMANDS = list(commands(skep))
# What each must be told for it to begin at all.
NEEDED = {
    "simulate": ("-n", "1", "--join", "127.0.0.1:1", "--token", "x"),
    "explain": ("web",),
    "trace": ("web:80", "--from", "w"),
    "upgrade-managers": ("--run", "true"),
    "set": ("allow-devices=on",),
    "create": ("FILE",),
    "inspect": ("FILE",),
    "restore": ("FILE",),
    "completion": ("bash",),
    "get": ("KEY",),
    "resize": ("mg0", "--size", "x"),
    "rm": ("KEY",),
    "scp": ("mg0:a", "b"),
}
WHOLE = {
    "machine export": ("mg0", "FILE"),
    "monitor influx": ("--url", "http://127.0.0.1:1", "--v1", "d"),
    "monitor grafana": ("--out", "DIRECTORY"),
    "monitor rm": (),
    "machine import": ("FILE",),
    "machine adopt": ("DIRECTORY",),
    "cluster create": ("demo", "--managers", "mg0"),
    "cluster stats": ("demo",),
    "machine join": ("--workers", "w0", "--to", "mg0"),
    "machine cloud-init": ("--to", "mg0"),
}
# upgrade-managers is none: it waits a minute for a manager to come.
HOSTED = ("explain", "trace", "reconnect", "settings", "set", "create", "restore")


def needed(words: tuple[str, ...]) -> tuple[str, ...]:
    """Returns what a command must be told; those about machines want the name of one."""
    if " ".join(words) in WHOLE:
        return WHOLE[" ".join(words)]
    of_machines = ("mg0",) if words[0] == "machine" and words[-1] not in ("ls", "active") else ()
    return NEEDED.get(words[-1], of_machines)


def leaf(words: tuple[str, ...]) -> click.Command:
    found: click.Command = skep
    for word in words:
        found = command_of(found, word)
    return found


def test_there_are_commands_and_all_begin_in_one_place() -> None:
    assert isinstance(skep, ProgramGroup)
    assert len(COMMANDS) >= 12
    assert {words[-1] for words in COMMANDS} >= set(NEEDED)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(("failure", "line"), FAILURES, ids=lambda each: type(each).__name__)
def test_what_fails_in_a_command_is_one_line(
    words: tuple[str, ...],
    failure: Exception,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(**_: Any) -> None:
        raise failure

    monkeypatch.setattr(leaf(words), "callback", fail)
    with pytest.raises(SystemExit) as ended:
        skep.main([*words, *needed(words)])
    said = capsys.readouterr()
    assert ended.value.code == 1
    assert said.err.count("\n") == 1
    assert said.err.startswith("Error: ")
    assert line in said.err
    assert said.out == ""


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_ctrl_c_ends_a_command_quietly(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(**_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(leaf(words), "callback", interrupted)
    with pytest.raises(SystemExit) as ended:
        skep.main([*words, *needed(words)])
    assert ended.value.code == 1
    assert capsys.readouterr().err.strip() == "Aborted!"


def run(*arguments: str, code: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs `skep` as a program of its own; `code` is done before."""
    program = f"{code}\nfrom skep.cli.main import main\nmain(prog_name='skep')"
    options.setdefault("stdout", subprocess.PIPE)
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
        env={key: value for key, value in os.environ.items() if key != "DOCKER_HOST"},
        **options,
    )


@pytest.mark.parametrize(
    "words",
    [
        each
        for each in COMMANDS
        if each[-1] in HOSTED and each[0] != "machine" and " ".join(each) not in WHOLE
    ],
    ids=" ".join,
)
def test_a_daemon_that_is_not_there_is_one_line(words: tuple[str, ...], tmp_path: Path) -> None:
    arguments = [each.replace("FILE", str(tmp_path / "b")) for each in needed(words)]
    done = run(*words, *arguments, "-H", f"unix://{tmp_path}/nobody.sock")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_full_disk_and_a_closed_pipe_are_no_traceback() -> None:
    with Path("/dev/full").open("w") as full:
        for arguments in (["--help"], ["--version"], ["completion", "bash"], ["cluster", "set", "--help"]):
            done = run(*arguments, stdout=full)
            assert (done.returncode, done.stderr.strip()) == (1, "Error: No space left on device")
    reader, writer = os.pipe()
    os.close(reader)
    done = run("completion", "bash", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_backup_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"\x00" * 5000)
    for name in ("junk", "missing", "junk/below"):
        done = run("backup", "inspect", str(tmp_path / name))
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--plot", "{dir}/x.png"], "Error: --plot needs matplotlib: pip install 'skep[plot]'"),
        (
            ["--json", "{dir}/none/x.json"],
            "Error: {dir}/none/x.json cannot be written: No such file or directory",
        ),
        (["--json", "{dir}"], "Error: {dir} cannot be written: Is a directory"),
    ],
)
def test_a_bench_that_could_not_say_what_it_found_does_not_begin(
    options: list[str], words: str, tmp_path: Path
) -> None:
    given = [each.format(dir=tmp_path) for each in options]
    done = run("bench", "swarm2k", *given, code="import sys; sys.modules['matplotlib'] = None")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip() == words.format(dir=tmp_path)


def test_a_look_at_a_file_leaves_it_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    check_writable(tmp_path / "old", tmp_path / "new", None)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("old", "old")]
    with pytest.raises(Invalid, match="Not a directory"):
        check_writable(tmp_path / "old/below")


def test_skepd_is_a_program_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("skep.daemon.main.load_settings", lambda *_: 1 // 0)
    with pytest.raises(SystemExit) as ended:
        skepd.main([])
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("Error: ZeroDivisionError")
    assert reason_of(PermissionError(13, "Permission denied", "/s")) == "/s: Permission denied"
