"""What a host's shell is given, and what it says. Pure."""

from __future__ import annotations

from msgspec import Struct

from skep.runtime.texts import printable

SAID_BYTES_MAX = 600  # of what a host says, in an error's text
# What quotes do not keep from every login shell: csh takes lines one by one, and `!` for one of before; fish
# takes backslashes in pairs. printf makes it of numbers again.
_CODES = str.maketrans({"\\": r"\0134", "\n": r"\n", "\r": r"\0015", "!": r"\0041", "'": r"\0047"})


def by_any_shell(script: str) -> str:
    """Returns a command line, of one line, that has sh run the script, whatever the user's login shell is:
    one like sh, csh, or fish."""
    return f"""sh -c 'eval "$(printf %b "$1")"' sh '{script.translate(_CODES)}'"""


class Output(Struct, frozen=True):
    """How a command ended. `status` is -1 where a signal ended it."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace")

    @property
    def said(self) -> str:
        """Returns the last lines that it printed, for who is told that it failed."""
        return last_lines((self.stderr or self.stdout).decode(errors="replace"))


def last_lines(text: str) -> str:
    """Returns the last lines of what a host says, as they may be shown."""
    lines = [line.strip() for line in text.split("\n") if line.strip()][-3:]
    return printable(" / ".join(lines)[-SAID_BYTES_MAX:], SAID_BYTES_MAX)
