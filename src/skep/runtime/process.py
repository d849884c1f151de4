"""What skepd asks of the kernel before it begins: privacy for its memory, and files enough."""

from __future__ import annotations

import ctypes
import os
import resource

_PR_SET_DUMPABLE = 4
_libc = ctypes.CDLL(None, use_errno=True)


def raise_file_limit() -> None:
    """Opens as many files as the machine lets this process: the soft limit is for programs that use
    select(2), usually 1,024, and a manager has a connection per node. Its children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def keep_memory_private() -> None:
    """No core file of this process, ever, and no file of it that others may read.

    Not dumpable: the kernel writes no core (also not to a program that collects cores, which the limit alone
    does not prevent), and no other process of the same user may attach to this one or read its memory; root
    may. The limit of 0 is for children, whose being dumpable `exec` sets again: etcd, which holds the
    store's secrets only sealed.
    """
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
