"""The example of docs/drivers.md, as its reader has it: a package beside skep."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs/drivers.md"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def install_example(directory: Path) -> Path:
    """Returns a directory to be put on `sys.path`, with what pip makes of the example."""
    (source,), (project,) = blocks("python"), blocks("toml")
    said = tomllib.loads(project)
    (module,) = said["tool"]["setuptools"]["py-modules"]
    install(directory, said["project"]["name"], f"{module}.py", source, said["project"]["entry-points"])
    return directory


def install(directory: Path, name: str, file: str, source: str, points: dict[str, dict[str, str]]) -> None:
    """Puts a package of one module there."""
    (directory / file).write_text(source)
    info = directory / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in of.items()) for group, of in points.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
