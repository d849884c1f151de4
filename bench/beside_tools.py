"""What `beside_docker.py` measures with: wrk, iperf3 and nginx of Debian, in a folder that goes with it."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from collections.abc import Mapping
from functools import cached_property
from io import BytesIO
from pathlib import Path

from tests.mesh_image import linked

# Of two names the first that this release has. nginx reads no package of its own but the program.
PACKAGES = ("wrk", "iperf3", "libiperf0", "libsctp1", "nginx", ("libluajit-5.1-2", "libluajit2-5.1-2"))
IMAGE = "skep-bench/web:latest"
IPERF_PORT = 5201
# One worker, as the machine has two cores and the client wants one; what is answered is small and in memory.
NGINX_CONF = """
daemon off; master_process off; user root root; error_log /dev/null; pid /dev/null;
events { worker_connections 1024; }
http {
    access_log off; keepalive_requests 1000000000;
    client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f;
    uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
    server { listen 80; location / { return 200 "ok"; } }
}
"""
ROOT_USER = {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n"}


class Tools:
    """Programs that were unpacked below a directory, nothing of which is installed."""

    def __init__(self, directory: Path) -> None:
        self.root = directory
        self.directory = directory / "unpacked"
        self.conf = directory / "nginx.conf"

    def fetch(self) -> Tools:
        """Downloads and unpacks; a machine that never asked for packages asks once."""
        downloads = self.root / "packages"
        downloads.mkdir(mode=0o755)
        names = [_first_known(each) if isinstance(each, tuple) else each for each in PACKAGES]
        _run("apt-get", "-q", "download", *names, cwd=downloads)
        for package in sorted(downloads.glob("*.deb")):
            _run("dpkg", "-x", str(package), str(self.directory))
        self.conf.write_text(NGINX_CONF)
        return self

    @cached_property
    def environment(self) -> Mapping[str, str]:
        libraries = {str(each.parent) for each in self.directory.rglob("lib*.so*")}
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(sorted(libraries))}

    def program(self, name: str) -> Path:
        return next(path for path in self.directory.rglob(f"*bin/{name}") if path.is_file())

    @property
    def serve_web(self) -> list[str]:
        """Returns the command of the web server where there is no container."""
        return [str(self.program("nginx")), "-p", "/tmp", "-e", "/dev/null", "-c", str(self.conf)]

    @property
    def serve_bytes(self) -> list[str]:
        return [str(self.program("iperf3")), "-s", "-p", str(IPERF_PORT)]

    def image_into(self, engine_socket: Path) -> None:
        """Gives an engine the image whose containers serve both."""
        both = (
            f"/usr/bin/iperf3 -s -p {IPERF_PORT} & exec /usr/sbin/nginx -p /tmp -e /dev/null -c /nginx.conf"
        )
        entry = f'ENTRYPOINT ["/bin/sh", "-c", "{both}"]'
        command = ["docker", "-H", f"unix://{engine_socket}", "import", "-c", entry, "-", IMAGE]
        subprocess.run(command, input=self._image, check=True, capture_output=True)

    @cached_property
    def _image(self) -> bytes:
        buffer = BytesIO()
        nginx, iperf3 = self.program("nginx"), self.program("iperf3")
        with tarfile.open(fileobj=buffer, mode="w", dereference=True) as archive:
            archive.add(nginx, "usr/sbin/nginx")
            archive.add(iperf3, "usr/bin/iperf3")
            archive.add("/bin/busybox", "bin/sh")
            archive.add(self.conf, "nginx.conf")
            for library in {
                *linked(nginx, self.environment),
                *linked(iperf3, self.environment),
            }:
                name = library.removeprefix(str(self.directory))
                archive.add(library, name.lstrip("/"))
            for name, text in ROOT_USER.items():
                made = tarfile.TarInfo(name)
                made.size = len(text)
                archive.addfile(made, BytesIO(text.encode()))
            made = tarfile.TarInfo("tmp")
            made.type, made.mode = tarfile.DIRTYPE, 0o777
            archive.addfile(made)
        return buffer.getvalue()

    def versions(self) -> dict[str, str]:
        """Returns what was measured with, for the table's caption."""
        nginx = (str(self.program("nginx")), "-v", "-e", "/dev/null")
        return {
            "kernel": os.uname().release,
            "engine": self._version("dockerd", "--version"),
            "iperf3": self._version(str(self.program("iperf3")), "--version"),
            "nginx": self._version(*nginx),
            "wrk": self._version(str(self.program("wrk")), "-v"),
        }

    def _version(self, *command: str) -> str:
        """Returns the first number with a dot that a program says; wrk ends with 1 after it."""
        done = subprocess.run(command, check=False, env=self.environment, capture_output=True, text=True)
        found = re.search(r"\d+\.\d[\w.+]*", done.stdout + done.stderr)
        return found[0] if found else "unknown"


def _first_known(names: tuple[str, ...]) -> str:
    known = (name for name in names if "Candidate:" in _run("apt-cache", "policy", name))
    return next(known, names[-1])


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, check=False, cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
