"""A wheel house of what is installed here, for where no package index is."""

from __future__ import annotations

import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement


def make_wheel_house(directory: Path, name: str) -> list[Path]:
    """Returns a wheel of each library that the package needs, and that those need, made of its files here."""
    directory.mkdir()
    return [_wheel(directory, each) for each in _needed(name).values()]


def _needed(name: str) -> dict[str, Distribution]:
    found: dict[str, Distribution] = {}
    left = [Requirement(each) for each in distribution(name).requires or ()]
    while left:
        wanted = left.pop()
        name = wanted.name.lower().replace("_", "-")
        if name in found or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        found[name] = distribution(name)
        left += [Requirement(each) for each in found[name].requires or ()]
    return found


def _wheel(directory: Path, library: Distribution) -> Path:
    tags = [line[5:] for line in (library.read_text("WHEEL") or "").splitlines() if line.startswith("Tag: ")]
    name = library.metadata["Name"].replace("-", "_")
    path = directory / f"{name}-{library.version}-{_joined(tags)}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        record = None
        for file in library.files or ():
            if ".." in file.parts or file.suffix == ".pyc" or file.name in ("INSTALLER", "REQUESTED"):
                continue  # what pip makes of a wheel
            if file.name == "RECORD":
                record = str(file)
                continue
            archive.write(str(file.locate()), str(file))
        assert record is not None
        archive.writestr(record, "".join(f"{each},,\n" for each in (*archive.namelist(), record)))
    return path


def _joined(tags: list[str]) -> str:
    """Returns one tag of all: cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64."""
    parts = zip(*(each.split("-") for each in tags), strict=True)
    return "-".join(".".join(dict.fromkeys(part)) for part in parts)
