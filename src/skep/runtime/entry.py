"""How a program of ours ends where something goes wrong: one line on stderr and a status, never a traceback.

`skep` and `skepd` are commands of this kind; what click knows itself (usage, Ctrl-C, a closed pipe) stays so.
With SKEP_TRACEBACK=1 the traceback is printed, too.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from typing import Any

import click

from skep.runtime.errors import SkepError
from skep.runtime.texts import harmless

# What packages are called that an extra of ours brings; others are always there.
EXTRAS = {"matplotlib": "plot"}
TRACEBACK = "SKEP_TRACEBACK"


class Program(click.Command):
    """A command that is a program."""

    def main(self, *args: Any, **options: Any) -> Any:
        if not options.get("standalone_mode", True):
            return super().main(*args, **options)
        try:
            super().main(*args, **options)
        except Exception as error:
            if os.environ.get(TRACEBACK):
                traceback.print_exc()
            _say(f"Error: {reason_of(error)}")
            _leave(1)
        except SystemExit as end:
            _leave(end.code)


class ProgramGroup(Program, click.Group):
    """The same with commands below it."""


def reason_of(error: BaseException) -> str:
    """Returns in one line what went wrong, for whoever has typed the command."""
    if isinstance(error, SkepError):
        return _one_line(str(error)) or type(error).__name__
    if isinstance(error, ImportError):
        package = (error.name or "").partition(".")[0]
        if package in EXTRAS:
            return f"this needs {package}: pip install 'skep[{EXTRAS[package]}]'"
        return f"a package is missing or broken: {_one_line(str(error))}"
    if isinstance(error, OSError) and error.strerror:
        name = error.filename if isinstance(error.filename, str) else ""
        return f"{name}: {error.strerror}" if name else error.strerror
    text = _one_line(str(error))
    return f"{type(error).__name__}{': ' if text else ''}{text} ({TRACEBACK}=1 shows where)"


def _one_line(text: str) -> str:
    return " ".join(harmless(text).split())


def _say(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody is there to read it
        click.echo(line, err=True)


def _leave(code: Any) -> None:
    """Ends the program; what could not be written to its output is not tried again, and complained of, by
    the interpreter."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            code = code or 1
    sys.exit(code)
