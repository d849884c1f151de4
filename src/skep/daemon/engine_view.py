"""Whether the engine finds our socket at the path that it is told: it may be in another container, a user's
own (rootless), or on another machine, with something else there or nothing."""

from __future__ import annotations

import os
import socket
import struct

from skep.runtime.errors import Unavailable

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))
# Who listens at an engine's socket: the engine, or the service manager that made it. Another program is a
# forwarder: what it sees says nothing of the engine behind it.
ENGINE, SERVICE_MANAGER = "dockerd", 1


def why_unseen(engine_socket: str, path: str) -> str:
    """Returns why it cannot be shown that the engine sees the file at our `path`; empty where it does.
    Errors: `Unavailable` while no engine listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.setblocking(False)  # a unix socket answers at once, or its backlog is full
        try:
            line.connect(engine_socket)
        except OSError as error:
            raise Unavailable(f"no engine listens at {engine_socket}: {error}") from error
        found = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(found)
    if pid <= 0:
        return "its process is in another pid namespace than skepd"
    if uid not in (0, os.geteuid()):
        return f"it is run by the user {uid}"
    try:
        program = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
        if pid != SERVICE_MANAGER and not program.startswith(ENGINE):
            return f"{program} listens there, not {ENGINE}"
        seen = os.stat(f"/proc/{pid}/root{os.path.realpath(path)}")
        return "" if os.path.samestat(seen, os.stat(path)) else f"it has something else at {path}"
    except FileNotFoundError:
        return f"it has nothing at {path}"
    except OSError as error:
        return f"what it has at {path} cannot be seen: {error.strerror}"
