#!/usr/bin/env python3
"""Makes the files of images out of what is installed here, and downloads nothing. `monitor_images.py DIR` has
DIR/prometheus and, where InfluxDB is installed, DIR/influxdb and DIR/skep: roots for `docker import`."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import requires
from pathlib import Path

import skep
from skep.machine.own_libraries import own_libraries

# What `skep monitor influx` never loads, and which is most of what there is.
UNNEEDED = re.compile(r"(aetcd|asyncssh|numpy|pyroute2|dnspython)\b")
NOT_OF_PYTHON = shutil.ignore_patterns(
    "__pycache__", "test", "tests", "idlelib", "tkinter", "dist-packages", "config-*"
)
START = "#!{python}\nimport sys\nsys.path.insert(0, '/opt/skep')\nfrom skep.cli.main import main\nmain()\n"
INFLUX = """reporting-disabled = true
[meta]
  dir = "/var/lib/influxdb/meta"
[data]
  dir = "/var/lib/influxdb/data"
  wal-dir = "/var/lib/influxdb/wal"
[http]
  log-enabled = false
"""


def libraries_of(program: Path) -> list[Path]:
    """Returns the shared libraries that a program, or library, is loaded with: none for a static one."""
    done = subprocess.run(["ldd", program], check=False, capture_output=True, text=True)
    return [Path(each) for each in re.findall(r"(/\S+) \(0x", done.stdout)]


def put(root: Path, file: Path) -> None:
    """Has a file where it is here, too."""
    to = root / str(file).lstrip("/")
    if not to.exists():
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, to)


def program_root(root: Path, name: str) -> None:
    """Makes a root that holds one of this machine's programs."""
    found = shutil.which(name)
    if found is None:
        sys.exit(f"error: {name} is not installed here")
    for file in (Path(found), *libraries_of(Path(found))):
        put(root, file)
    for directory in ("tmp", "etc", "var/lib"):
        (root / directory).mkdir(parents=True, exist_ok=True)


def put_pages(root: Path) -> None:
    """Has Prometheus' web pages, which in Debian are files; of the scripts that they load, no sources."""
    pages = Path("/usr/share/prometheus")
    if pages.is_dir():
        shutil.copytree(pages, root / str(pages).lstrip("/"), ignore=_skipped_pages)


def _skipped_pages(directory: str, names: list[str]) -> set[str]:
    unneeded = shutil.ignore_patterns("data", "builds", "locale", "src", "*.map")(directory, names)
    # What links lead to belongs to packages that Debian only recommends.
    return {*unneeded, *(name for name in names if not Path(directory, name).exists())}


def skep_root(root: Path) -> None:
    """Makes a root that holds this Python and skep with its libraries."""
    python = Path(os.path.realpath(sys.executable))
    standard = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(standard, root / str(standard).lstrip("/"), ignore=NOT_OF_PYTHON, symlinks=False)
    put(root, python)
    version = "{}.{}".format(*sys.version_info[:2])
    wanted = [each for each in requires("skep") or () if "extra ==" not in each and not UNNEEDED.match(each)]
    found = own_libraries(version, platform.machine(), wanted)
    if found is None:
        sys.exit("error: skep's libraries run on this machine only, so no image can have them")
    at = root / "opt/skep"
    for name, file in found.files.items():
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, at / name)
    shutil.copytree(Path(skep.__file__).parent, at / "skep", ignore=shutil.ignore_patterns("__pycache__"))
    for binary in [python, *root.rglob("*.so"), *root.rglob("*.so.*")]:
        for library in libraries_of(binary):
            if not library.is_relative_to(root):  # those that wheels bring are there already
                put(root, library)
    command = root / "usr/local/bin/skep"
    command.parent.mkdir(parents=True, exist_ok=True)
    command.write_text(START.format(python=python))
    command.chmod(0o755)
    for directory in ("tmp", "etc", "run"):
        (root / directory).mkdir(exist_ok=True)


def main(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    program_root(directory / "prometheus", "prometheus")
    put_pages(directory / "prometheus")
    if shutil.which("influxd"):
        program_root(directory / "influxdb", "influxd")
        (directory / "influxdb/etc/influxdb.conf").write_text(INFLUX)
        skep_root(directory / "skep")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
