"""Our bridges in a zone of firewalld's that lets all in, by its own program. Blocking.

Docker's engine does the same with its bridges, where firewalld runs when it starts. What is done lasts until
firewalld is loaded again; the next look finds that out. Nothing of firewalld's own files is changed.
"""

from __future__ import annotations

import shutil
import subprocess

from skep.model.mesh import BRIDGE_PREFIX
from skep.network.objects import Trusted
from skep.runtime.errors import Unavailable

PROGRAM, ZONE = "firewall-cmd", "trusted"  # firewalld does not start without a zone of that name
TYPED = f"{PROGRAM} --zone={ZONE} --add-interface={BRIDGE_PREFIX}+"  # what a user may type as well
# A second, and longer where firewalld has just been told to load all of it anew: it goes on with what it was
# asked for. The next change of rules waits as long.
_WAIT_S = 5


def put(each: Trusted) -> None:
    """Errors: `Unavailable`, with what to type."""
    if said := _failure("--add-interface"):
        raise Unavailable(
            "firewalld keeps containers from each other, from names and from published ports, for it does"
            f" not know their bridges: {said}. Type: {TYPED}; and once more with --permanent"
        )


def drop(each: Trusted) -> None:
    """That another zone has them, or firewalld has ended, is no failure."""
    _failure("--remove-interface")


def _failure(what: str) -> str:
    """Returns why it cannot be done; empty where it is."""
    if shutil.which(PROGRAM) is None:
        return f"skepd does not find {PROGRAM}"
    command = [PROGRAM, f"--zone={ZONE}", f"{what}={BRIDGE_PREFIX}+"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_WAIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"it does not answer: {error}"
    return "" if done.returncode == 0 else done.stderr.strip() or f"it ended with {done.returncode}"
