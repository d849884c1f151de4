"""The libraries that this skep runs with, for hosts of the same kind: nothing is fetched for them, and they
are what was tried here."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9._-]+")
# Wheels that run on any Linux with a glibc as old as they say, and those without machine code. What a
# compiler made here may want what only this machine has.
_PORTABLE = re.compile(r"-(?:any|manylinux\w+)$")
LIBRARIES_MAX = 200  # skep has some 30, with theirs


class OwnLibraries:
    """`versions`, like `name 1.0`, sorted; `files` by the paths that they have beside each other."""

    def __init__(self, found: Sequence[Distribution]) -> None:
        self.versions = sorted(f"{each.metadata['Name']} {each.version}" for each in found)
        self.files: dict[str, Path] = {}
        for each in found:
            for file in each.files or ():
                path = Path(str(each.locate_file(file)))
                # What somebody has removed since is not what this skep runs by.
                if ".." not in file.parts and "__pycache__" not in file.parts and path.is_file():
                    self.files[str(file)] = path


def own_libraries(python: str, architecture: str, requirements: Sequence[str]) -> OwnLibraries | None:
    """Returns them; None for hosts of another kind, and where they run on this machine only."""
    if (python, architecture) != ("{}.{}".format(*sys.version_info[:2]), platform.machine()):
        return None
    found: dict[str, Distribution] = {}
    wanted = list(requirements)
    while wanted:
        requirement = wanted.pop()
        match = _NAME.match(requirement)
        if match is None or "extra ==" in requirement or match[0].lower() in found:
            continue
        try:
            one = distribution(match[0])
        except PackageNotFoundError:
            if ";" in requirement:
                continue  # for another Python or system than this
            return None
        if not _is_portable(one) or len(found) == LIBRARIES_MAX:
            return None
        found[match[0].lower()] = one
        wanted += one.requires or ()
    return OwnLibraries(list(found.values()))


def _is_portable(one: Distribution) -> bool:
    tags = re.findall(r"^Tag: (\S+)$", one.read_text("WHEEL") or "", re.MULTILINE)
    return bool(tags and one.files) and all(_PORTABLE.search(each) for each in tags)
