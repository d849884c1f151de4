"""What a swarm may leave behind on a machine, listed: containers, networks and their links, rules, volumes,
mounts, files, processes, sockets. A test takes one list before and one after, and nothing may be new.

It looks at names and numbers only, never at an engine's wording: what is listed differs between versions, what
is new does not.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
from pathlib import Path

from .hosts import Host

TASK_FILES = Path("/run/skep-tasks")
LISTENS = 0x10000  # a flag in /proc/net/unix: __SO_ACCEPTCON
TABLES = ("filter", "nat", "mangle")

Remains = dict[str, set[str]]


def remains(engine_socket: str, hosts: list[Host]) -> Remains:
    """Returns what is there now, of the engine and of the hosts, by kind."""
    return {
        "containers": _docker(engine_socket, "ps", "-aq", "--no-trunc"),
        "networks": _docker(engine_socket, "network", "ls", "-q", "--no-trunc"),
        "volumes": _docker(engine_socket, "volume", "ls", "-q"),
        "links": _links(engine_socket),
        "rules": _rules(engine_socket),
        "mounts": {each for each in _mounts() if _is_of(each, hosts)},
        "files": {str(path) for host in hosts for path in _files(host)},
        "processes": {each for host in hosts for each in processes(host)},
        "sockets": {each for host in hosts for each in _sockets(host)},
    }


def task_files(node_id: str) -> list[str]:
    """Returns what there is of a node's secrets and configs. Other swarms may have some."""
    node = TASK_FILES / node_id
    return [str(path) for path in [node, *node.rglob("*")] if path.exists()]


def new_in(after: Remains, before: Remains) -> Remains:
    """Returns what has come, by kind; empty where nothing has."""
    found = {kind: now - before[kind] for kind, now in after.items()}
    return {kind: new for kind, new in found.items() if new}


def _docker(engine_socket: str, *arguments: str) -> set[str]:
    return _lines(["docker", "-H", f"unix://{engine_socket}", *arguments])


def _lines(command: list[str]) -> set[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


def _in_network_of(engine_socket: str) -> list[str]:
    """Returns what comes before a command that is to see the links and rules of the engine: it may be in a
    network of its own."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(engine_socket)
        credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, _, _ = struct.unpack("3i", credentials)
    return ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]


def _links(engine_socket: str) -> set[str]:
    command = [*_in_network_of(engine_socket), "ip", "-o", "link"]
    return {line.split(": ")[1].partition("@")[0] for line in _lines(command)}


def _rules(engine_socket: str) -> set[str]:
    inside = _in_network_of(engine_socket)
    return {
        f"{table} {rule}"
        for table in TABLES
        for rule in _lines([*inside, "iptables", "-t", table, "-S"])
        if rule.startswith("-A")
    }


def _mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines]


def _is_of(path: str, hosts: list[Host]) -> bool:
    return any(path.startswith(str(host.state_dir)) for host in hosts)


def _files(host: Host) -> list[Path]:
    return [path for path in host.state_dir.rglob("*") if path.is_socket() or not path.is_dir()]


def processes(host: Host) -> list[str]:
    """Returns the processes that have to do with the host's directory, but for its daemon."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        pid = int(path.parent.name)
        if host.process is not None and pid == host.process.pid:
            continue
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            if pid != os.getpid() and any(word.startswith(str(host.state_dir)) for word in words):
                found.append(" ".join(words[:3]))
    return found


def _sockets(host: Host) -> list[str]:
    """Returns on what the host's daemon listens: ports, and sockets by name. Where they are is no sign of them:
    the daemon binds through a handle of the directory."""
    if host.process is None:
        return []
    found = []
    inodes = set()
    for handle in Path(f"/proc/{host.process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(handle))
    for line in Path(f"/proc/{host.process.pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
            found.append(f"tcp {fields[1]}")
    names: list[str] = []
    for line in Path(f"/proc/{host.process.pid}/net/unix").read_text().splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if int(fields[3], 16) & LISTENS and f"socket:[{fields[6]}]" in inodes:
            names.append(Path(fields[7]).name if len(fields) > 7 else "unnamed")
            found.append(f"unix {names[-1]} {names.count(names[-1])}")
    return found
