"""The library of nftables where it would end the process that uses it."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, resource
from skep.network.nftables import Nftables
from skep.runtime.errors import Unavailable
Nftables()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
try:
    while True:
        os.dup(0)
except OSError:
    pass
try:
    Nftables()
except Unavailable as error:
    print(error)
"""


def test_without_a_free_descriptor_it_is_said_and_the_process_goes_on() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "nftables cannot be reached: [Errno 24] Too many open files" in done.stdout
