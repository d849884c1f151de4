"""The image that tests run, made from Debian's busybox-static: nothing is downloaded."""

from __future__ import annotations

import tarfile
from io import BytesIO

IMAGE = "skep-test/busybox:latest"
APPLETS = (
    *("sh", "cat", "sleep", "echo", "ls", "nc", "env", "hostname", "true", "false", "ps", "id", "pwd"),
    *("kill", "mkdir", "touch", "trap", "test", "head", "wc", "yes", "nslookup"),
)


def busybox_tar() -> bytes:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add("/bin/busybox", "bin/busybox")
        for name in APPLETS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
        for directory in ("tmp", "etc", "dev", "proc", "sys"):
            made = tarfile.TarInfo(directory)
            made.type, made.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(made)
    return buffer.getvalue()
