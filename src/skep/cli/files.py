"""How many files a process may have open."""

from __future__ import annotations

import resource

FILES_WANTED = 65536  # one connection per node


def raise_file_limit() -> None:
    """Thousands of connections need as many files; the hard limit is the machine's word."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, FILES_WANTED)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
