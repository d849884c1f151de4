"""Files that a command makes for other programs, beside what is somebody else's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from skep.runtime.errors import Conflict, Invalid


def write_files(directory: Path, files: Mapping[str, str], is_own: Callable[[str], bool]) -> None:
    """Writes all of them (text by path below the directory), or none: a file that is there already and for
    which `is_own` is not so stays. Errors: `Conflict`; `Invalid` where one cannot be read or written."""
    try:
        for name in files:
            path = directory / name
            if path.exists() and not is_own(path.read_text(errors="replace")):
                raise Conflict(
                    f"{path} is there already and not of skep's making, so nothing is written: name another"
                    " directory (--out), or take the file away"
                )
        for name, text in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.part")
            part.write_text(text)
            part.replace(path)
    except OSError as error:
        raise Invalid(f"{error.filename}: {error.strerror}") from error
