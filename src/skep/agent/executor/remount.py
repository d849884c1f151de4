"""Puts a socket in place of the one that running containers have: `remount.py SOCKET [PID TARGET]…`.

A program of its own, run by `socket_mounts`: it goes from one container's mounts to the next's. Prints a line
for each: `same`, `renewed`, or why not. Needs root, and Linux 5.2 or later.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys

# The numbers are the same on every architecture but alpha (asm-generic/unistd.h).
OPEN_TREE, MOVE_MOUNT = 428, 429
AT_FDCWD = -100
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 4
MNT_DETACH = 2
CLONE_NEWNS = 0x20000

_libc = ctypes.CDLL(None, use_errno=True)


def main(socket: str, *places: str) -> None:
    wanted = os.stat(socket)
    own = os.stat("/proc/self/ns/mnt")
    # All of it while the host's paths can be seen: what follows happens in the containers' own.
    prepared = [_prepare(socket, int(pid)) for pid in places[::2]]
    for (namespace, mount), target in zip(prepared, places[1::2], strict=True):
        try:
            print(_renew(namespace, mount, target, wanted, own), flush=True)
        except OSError as error:
            print(" ".join(str(error).split()), flush=True)


def _prepare(socket: str, pid: int) -> tuple[int, int]:
    """Returns a process's mounts, and the socket as a mount of nobody's yet; -1 for what there is not."""
    try:
        namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1, -1
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC
    return namespace, _libc.syscall(OPEN_TREE, AT_FDCWD, os.fsencode(socket), flags)


def _renew(namespace: int, mount: int, target: str, wanted: os.stat_result, own: os.stat_result) -> str:
    if namespace < 0:
        return "same"  # it has ended: when it starts again, it finds the present one
    if os.path.samestat(os.fstat(namespace), own):
        return "it has the host's own mounts"  # not a container's, or the process has gone meanwhile
    if mount < 0:
        return "the kernel makes no mount that can be moved (Linux 5.2 or later, as root)"
    _check(_libc.setns(namespace, CLONE_NEWNS))
    found = os.stat(target)
    if os.path.samestat(found, wanted):
        return "same"
    if not stat.S_ISSOCK(found.st_mode):
        return "there is something else by now"
    # In this order: another on top would hide the old one for ever, and be one more with each start.
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH))
    _check(_libc.syscall(MOVE_MOUNT, mount, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH))
    return "renewed"


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main(*sys.argv[1:])
