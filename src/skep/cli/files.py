"""How many files a process may have open, and whether those it is to write can be written."""

from __future__ import annotations

import resource
from pathlib import Path

from skep.runtime.errors import Invalid

FILES_WANTED = 65536  # one connection per node


def raise_file_limit() -> None:
    """Thousands of connections need as many files; the hard limit is the machine's word."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, FILES_WANTED)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def check_writable(*files: Path | None) -> None:
    """Looks before long work whether files can be written, and leaves them as they are. Errors: `Invalid`."""
    for file in files:
        if file is None:
            continue
        was_there = file.exists()
        try:
            file.open("ab").close()
        except OSError as error:
            raise Invalid(f"{file} cannot be written: {error.strerror}") from error
        if not was_there:
            file.unlink(missing_ok=True)
