"""The image of `mesh_server.py` and `web_server.py`: Debian's own Python and what it loads, nothing else. Nothing is downloaded."""

from __future__ import annotations

import functools
import re
import subprocess
import sysconfig
import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

IMAGE = "skep-test/mesh:latest"
PYTHON = Path("/usr/bin/python3")
SERVER = Path(__file__).with_name("mesh_server.py")
WEB_SERVER = Path(__file__).with_name("web_server.py")
# Run as it will be in a container, it says what it has loaded by then.
LOADED = "import _socket, _thread, sys; print(*(m.__file__ for m in sys.modules.values() if getattr(m, '__file__', 0)))"

LANDMARKS = (
    f"{sysconfig.get_path('stdlib', vars={'installed_base': '/usr'})}/os.py",
)  # by it Python finds its home


def linked(program: Path, environment: Mapping[str, str] | None = None) -> list[str]:
    """Returns the libraries that a program is started with."""
    done = subprocess.run(["ldd", program], check=True, capture_output=True, text=True, env=environment)
    return re.findall(r"(/\S+) \(0x", done.stdout)


@functools.cache
def mesh_tar() -> bytes:
    flags = ["-I", "-S"]
    loaded = subprocess.run([PYTHON, *flags, "-c", LOADED], check=True, capture_output=True, text=True).stdout
    files = {*linked(PYTHON), *loaded.split()}
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as archive:
        archive.add(PYTHON, "usr/bin/python3")
        archive.add(SERVER, "server.py")
        archive.add(WEB_SERVER, "web.py")
        archive.add("/bin/busybox", "bin/sh")
        for file in sorted({*files, *LANDMARKS}):
            archive.add(file, file.lstrip("/"))
    return buffer.getvalue()


def mesh_image_into(engine_socket: str) -> str:
    """Gives an engine the image and returns its tag."""
    command = ["docker", "-H", f"unix://{engine_socket}", "import"]
    command += ["-c", 'ENTRYPOINT ["/usr/bin/python3", "-I", "-S", "/server.py"]', "-", IMAGE]
    done = subprocess.run(command, input=mesh_tar(), capture_output=True)
    assert done.returncode == 0, done.stderr
    return IMAGE
