"""How an engine's command line is, by systemd's unit with its drop-ins or by Debian's init script, and what
ours adds to it. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from msgspec import Struct

from skep.runtime.errors import Conflict, Invalid

DROP_IN = "/etc/systemd/system/docker.service.d/10-skep-machine.conf"
DEFAULT_DOCKER = "/etc/default/docker"
# docker-machine's own, which ours comes after: it is taken over.
MACHINES_DROP_IN = "/etc/systemd/system/docker.service.d/10-machine.conf"
# What of its command line nothing else says: without the driver an engine would not find its images.
_CARRIED = re.compile(r"--(storage-driver|insecure-registry|registry-mirror)[ =](\S+)")
MARK = "# Written by skep machine; what you change here is written over."
_BEGIN, _END = "# skep machine begins", "# skep machine ends"
# Options of dockerd that say where it listens, and to whom.
_LISTENING = re.compile(
    r"(?:^|[\s\"'])(-H|--hosts?|--tls|--tlsverify|--tlscacert|--tlscert|--tlskey)(?=[=\s\"']|$|\w+://)"
)
_BY_SYSTEMD = re.compile(r"\s(?:-H|--host)[ =]?fd://(?=\s|$)")
_ENVIRONMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=[^\n]*")


class CommandLine(Struct, frozen=True):
    """The unit's ExecStart, and the file that has it."""

    text: str
    file: str


def command_line(unit: str) -> CommandLine | None:
    """Returns what counts of `systemctl cat docker.service`; None where no file of it starts anything."""
    file, found, section = "", None, ""
    for line in unit.replace("\\\n", " ").split("\n"):
        if line.startswith("# /"):
            file = line[2:].strip()
        elif line.startswith("["):
            section = line.strip()
        elif section == "[Service]" and (match := re.match(r"ExecStart\s*=\s*(.*)", line)):
            found = CommandLine(match[1].strip(), file) if match[1].strip() else None
    return found


def drop_in(unit: str, environment: tuple[str, ...], options: Iterable[str] = ()) -> str:
    """Returns our drop-in: the unit's own command line without where it listens, which `daemon.json` says; so
    are `options`, by their names.

    Errors: `Conflict` where somebody else's drop-in sets the command line, or it says itself who may connect;
    `Invalid`, for an environment that is none.
    """
    line = _own_line(unit)
    kept = _BY_SYSTEMD.sub("", line.text)
    if option := _LISTENING.search(kept):
        raise Conflict(f"the host's {line.file} starts the engine with {option[1]}: take that out")
    return _with_command(unit, kept, environment, options)


def drop_in_behind_skepd(unit: str, environment: tuple[str, ...], options: Iterable[str] = ()) -> str:
    """Returns our drop-in where the engine listens as its unit says: of docker-machine's own command line,
    which has the port that is skepd's, stays what says nothing of that. Errors: as of `drop_in`."""
    if MACHINES_DROP_IN not in unit:
        return _written([], environment)
    return _with_command(unit, _own_line(unit).text, environment, options)


def _own_line(unit: str) -> CommandLine:
    """Returns the unit's command line, our drop-ins and docker-machine's apart. Errors: `Conflict`."""
    line = command_line(_without(_without(unit, DROP_IN), MACHINES_DROP_IN))
    if line is None:
        raise Conflict("the host's docker.service starts nothing that could be a Docker Engine")
    if ".d/" in line.file:
        raise Conflict(
            f"the host's {line.file} sets the engine's command line (ExecStart): move what it has to"
            " /etc/docker/daemon.json, and take ExecStart out"
        )
    return line


def _with_command(unit: str, text: str, environment: tuple[str, ...], options: Iterable[str]) -> str:
    command = " ".join([text, *_carried(unit, set(options))])
    return _written(["ExecStart=", f"ExecStart={command}"], environment)


def _written(lines: list[str], environment: tuple[str, ...]) -> str:
    settings = [f"Environment={_quoted(each)}" for each in check_environment(environment)]
    return "\n".join([MARK, "[Service]", *lines, *settings, ""])


def _carried(unit: str, options: set[str]) -> list[str]:
    """Returns what docker-machine's drop-in has, where there is one, and our `daemon.json` will not have: an
    engine takes nothing twice."""
    _, is_there, rest = f"\n{unit}".partition(f"\n# {MACHINES_DROP_IN}\n")
    line = command_line(f"# {MACHINES_DROP_IN}\n{rest.partition(chr(10) + '# /')[0]}") if is_there else None
    found = _CARRIED.findall(line.text) if line is not None else []
    return [f"--{name}={value}" for name, value in found if name not in options]


def has(unit: str, file: str, content: str) -> bool:
    """True where `systemctl cat` shows that file with that content."""
    _, is_there, rest = f"\n{unit}".partition(f"\n# {file}\n")
    return bool(is_there) and rest.partition("\n# /")[0].strip() == content.strip()


def is_by_systemd(unit: str) -> bool:
    """True where systemd holds the engine's socket."""
    line = command_line(_without(_without(unit, DROP_IN), MACHINES_DROP_IN))
    return line is not None and _BY_SYSTEMD.search(line.text) is not None


def check_default(text: str | None) -> None:
    """Errors: `Conflict` where DOCKER_OPTS says where the engine listens."""
    for line in (text or "").split("\n"):
        found = re.match(r"\s*(?:export\s+)?DOCKER_OPTS\+?=(.*)", line)
        if found and (option := _LISTENING.search(found[1])):
            raise Conflict(f"the host's {DEFAULT_DOCKER} has {option[1]} in DOCKER_OPTS: take that out")


def default_docker(text: str | None, environment: tuple[str, ...]) -> str | None:
    """Returns the init script's settings with the environment that is wanted, None where nothing changes.
    Errors: `Invalid`."""
    before = text or ""
    kept = re.sub(rf"^{_BEGIN}\n.*?^{_END}\n", "", before, flags=re.DOTALL | re.MULTILINE)
    if kept and not kept.endswith("\n"):
        kept += "\n"
    if environment:
        exports = []
        for each in check_environment(environment):
            name, _, value = each.partition("=")
            exports.append(f"export {name}={shlex.quote(value)}\n")
        kept += f"{_BEGIN}\n{''.join(exports)}{_END}\n"
    return None if kept == before else kept


def check_environment(environment: tuple[str, ...]) -> tuple[str, ...]:
    """Returns it. Errors: `Invalid`."""
    for each in environment:
        if not _ENVIRONMENT.fullmatch(each):
            raise Invalid(f"--engine-env {each.partition('=')[0]}: it is NAME=VALUE, on one line")
    return environment


def _quoted(text: str) -> str:
    """Returns a word as systemd reads it: % and $ are no specifiers and no variables."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _without(unit: str, file: str) -> str:
    """Returns the text of all files but one."""
    kept, is_kept = [], True
    for line in unit.split("\n"):
        if line.startswith("# /"):
            is_kept = line[2:].strip() != file
        if is_kept:
            kept.append(line)
    return "\n".join(kept)
