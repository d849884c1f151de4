"""How the user's clients speak TLS to machines: by one certificate, which is loaded once for thousands."""

from __future__ import annotations

import asyncio.sslproto
import functools
import ssl
from pathlib import Path

from skep.machine.store import read_file
from skep.runtime.errors import Invalid
from skep.runtime.tls_files import client_context

KEPT_MAX = 16  # while an authority is renewed there are two, and imported machines have their owners'
_FILES = ("ca.pem", "cert.pem", "key.pem")

# asyncio has a buffer of 256 KiB for each connection: to write zeros there was a seventh of what a machine
# costs `ls`. A record of TLS has 16 KiB.
asyncio.sslproto.SSLProtocol.max_size = 32 * 1024


def machine_context(directory: Path) -> ssl.SSLContext:
    """Returns it for the machine of that directory. Errors: `Invalid`, which names the file."""
    try:
        contents = tuple(read_file(directory / each) for each in _FILES)
    except FileNotFoundError as error:
        raise Invalid(f"{error.filename} cannot be read: {error.strerror}") from error
    return _Loaded(directory, contents).context


class _Loaded:
    """Files that are the same wherever they are have one context. `lru_cache` compares contents alone."""

    def __init__(self, directory: Path, contents: tuple[bytes, ...]) -> None:
        self.directory, self.contents = directory, contents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Loaded) and self.contents == other.contents

    def __hash__(self) -> int:
        return hash(self.contents)

    @property
    def context(self) -> ssl.SSLContext:
        return _load(self)


@functools.lru_cache(maxsize=KEPT_MAX)
def _load(files: _Loaded) -> ssl.SSLContext:
    return client_context(*(files.directory / each for each in _FILES))
