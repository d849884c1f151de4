"""Puts a socket in place of the one that running containers have: `remount.py SOCKET [ID PID TARGET]…`.

A program of its own, run by `socket_mounts`: it goes from one container's mounts to the next's, each in a
process of its own. Prints a line for each: `same`, `renewed`, `ended`, or why not. Touches no mount but one
of SOCKET's path, in the container of that id. Needs root, and Linux 5.12 or later.
"""

from __future__ import annotations

import ctypes
import errno
import os
import posixpath
import re
import select
import signal
import sys
from typing import NamedTuple

# The numbers are the same on every architecture but alpha (asm-generic/unistd.h).
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH = -100, 0x100, 0x1000
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_BENEATH = 4, 0x200
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
MS_PRIVATE = 1 << 18
CLONE_NEWNS = 0x20000
ATTRIBUTES = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8}  # what mountinfo calls them: MOUNT_ATTR_…

# For some milliseconds' work; a container can have a file system of its own that never answers.
PLACE_S = 5
LINE_MAX_BYTES = 1000
OTHER = "there is something else by now"

_libc = ctypes.CDLL(None, use_errno=True)


class MountEntry(NamedTuple):
    """A line of mountinfo: what is mounted (device, path on it), where, its options."""

    device: str
    root: str
    point: str
    options: list[str]


class Socket(NamedTuple):
    """The socket to mount: its path, its inode; its device and path on it as mountinfo has them."""

    path: str
    inode: os.stat_result
    device: str
    root: str


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def main(path: str, *places: str) -> None:
    socket = _socket(path)
    for container, pid, target in zip(places[::3], places[1::3], places[2::3], strict=True):
        print(_apart(socket, container, int(pid), target), flush=True)


def _apart(socket: Socket, container: str, pid: int, target: str) -> str:
    """Returns what became of one container, in a process that ends with it: so does what it has open."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(PLACE_S)
        try:
            said = _renew(socket, container, pid, target)
        except Exception as error:
            said = str(error)
        os.write(writer, " ".join(said.split()).encode(errors="replace")[:LINE_MAX_BYTES])
        os._exit(0)
    os.close(writer)
    said = os.read(reader, LINE_MAX_BYTES).decode(errors="replace")
    os.close(reader)
    os.waitpid(child, 0)
    return said or f"its mounts did not answer within {PLACE_S} s"


def _renew(socket: Socket, container: str, pid: int, target: str) -> str:
    own_files = os.open("/proc/self/fdinfo", os.O_RDONLY | os.O_DIRECTORY)  # /proc is another one in there
    try:
        process = os.pidfd_open(pid)
        namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        groups, mounts = _read(f"/proc/{pid}/cgroup"), _mounts(f"/proc/{pid}/mountinfo")
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH):
            return "ended"  # when it starts again, it finds the present one
        raise
    if select.select([process], [], [], 0)[0]:
        return "ended"  # what was read may be of whoever has its number now
    if container not in groups:
        return f"process {pid} is not the container's: the engine's processes are not to be seen from here"
    if os.path.samestat(os.fstat(namespace), os.stat("/proc/self/ns/mnt")):
        return "it has the host's own mounts"
    fresh = _open_tree(socket.path)
    _check("setns", _libc.setns(namespace, CLONE_NEWNS))
    return _replace(socket, fresh, target, mounts, own_files)


def _replace(socket: Socket, fresh: int, target: str, mounts: dict[str, MountEntry], own_files: int) -> str:
    """Mounts `fresh` at the target of the container whose mounts this process sees by now."""
    directory, name = posixpath.split(os.path.realpath(target))
    os.chdir(directory)  # from here on no name but the last is looked up: what was checked is what is changed
    try:
        found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return OTHER
    mount = mounts.get(_mount_id(own_files, found))
    is_ours = mount is not None and (mount.device, mount.root.removesuffix("//deleted")) == socket[2:]
    if mount is None or not is_ours:
        return OTHER
    if os.path.samestat(os.fstat(found), socket.inode):
        return "same"
    flags = sum(bit for option, bit in ATTRIBUTES.items() if option in mount.options)
    # Private: the host's is shared, and what a container mounts over its own would be mounted there too.
    wanted = _MountAttr(flags, 0, MS_PRIVATE, 0)
    size = ctypes.sizeof(wanted)
    set_up = _libc.syscall(MOUNT_SETATTR, fresh, b"", AT_EMPTY_PATH, ctypes.byref(wanted), size)
    _check("mount_setattr", set_up)
    try:
        # Below the old one, which is taken away only then: a deleted socket can neither be mounted again nor
        # be mounted on.
        _move(fresh, name, MOVE_MOUNT_BENEATH)
        _unmount(name)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # Before Linux 6.5. Should the second fail, nothing is lost that anybody could connect to.
        _unmount(name)
        _move(fresh, name)
    return "renewed"


def _socket(path: str) -> Socket:
    """Returns what mountinfo says of the socket's path where somebody mounts it. Errors: `OSError`."""
    own_files = os.open("/proc/self/fdinfo", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    mount = _mounts("/proc/self/mountinfo")[_mount_id(own_files, opened)]
    inside = os.path.relpath(os.path.realpath(path), mount.point)
    socket = Socket(
        path, os.fstat(opened), mount.device, posixpath.normpath(posixpath.join(mount.root, inside))
    )
    os.close(opened)
    os.close(own_files)
    return socket


def _mounts(path: str) -> dict[str, MountEntry]:
    """Returns the mounts in a mountinfo file by their ids (proc(5))."""
    lines = (line.split(" ") for line in _read(path).splitlines())
    return {f[0]: MountEntry(f[2], _unescaped(f[3]), _unescaped(f[4]), f[5].split(",")) for f in lines}


def _mount_id(own_files: int, opened: int) -> str:
    """Returns the id of the mount that an open file is in."""
    info = os.open(str(opened), os.O_RDONLY | os.O_CLOEXEC, dir_fd=own_files)
    with os.fdopen(info) as stream:
        return next(line.split()[1] for line in stream if line.startswith("mnt_id:"))


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as stream:
        return stream.read()


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _open_tree(path: str) -> int:
    """Returns a mount of the same as is mounted there, nobody's yet. Errors: `OSError`."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW
    return _check("open_tree", _libc.syscall(OPEN_TREE, AT_FDCWD, os.fsencode(path), flags))


def _move(mount: int, name: str, how: int = 0) -> None:
    flags = MOVE_MOUNT_F_EMPTY_PATH | how
    _check("move_mount", _libc.syscall(MOVE_MOUNT, mount, b"", AT_FDCWD, os.fsencode(name), flags))


def _unmount(name: str) -> None:
    _check("umount", _libc.umount2(os.fsencode(name), MNT_DETACH | UMOUNT_NOFOLLOW))


def _check(call: str, result: int) -> int:
    number = ctypes.get_errno()
    if result < 0:
        hint = " (Linux 5.12 or later is needed)" if number == errno.ENOSYS else ""
        raise OSError(number, f"{call}: {os.strerror(number)}{hint}")
    return result


if __name__ == "__main__":
    main(*sys.argv[1:])
