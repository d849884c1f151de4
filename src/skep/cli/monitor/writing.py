"""Files that a command makes for other programs, beside what is somebody else's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

from skep.runtime.errors import Conflict, Invalid


def write_files(directory: Path, files: Mapping[str, str], is_own: Callable[[str], bool]) -> None:
    """Writes all of them (text by path below the directory), or none: a file that is there already and for
    which `is_own` is not so stays, and all are written beside before the first takes its place. Errors:
    `Conflict`; `Invalid` where one cannot be read or written."""
    parts: dict[Path, Path] = {}
    path = directory
    try:
        for path in (directory / name for name in files):
            if path.exists() and not is_own(path.read_text(errors="replace")):
                raise Conflict(
                    f"{path} is there already and not of skep's making, so nothing is written: name another"
                    " directory (--out), or take the file away"
                )
        for path, text in ((directory / name, text) for name, text in files.items()):
            path.parent.mkdir(parents=True, exist_ok=True)
            part = parts[path] = path.with_name(f".{path.name}.part")
            part.unlink(missing_ok=True)
            with part.open("x") as opened:  # never through a link that somebody has put there
                opened.write(text)
        for path, part in parts.items():
            part.replace(path)
    except OSError as error:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        raise Invalid(f"{error.filename or path}: {error.strerror}") from error
