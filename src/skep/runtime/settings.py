"""Every setting of skepd, in one place. A flag wins over the environment, that over the TOML file.

`--state-dir` is SKEPD_STATE_DIR in the environment and `state_dir` in the file; lists are separated by
commas in the environment.
"""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from skep.runtime.errors import Invalid
from skep.runtime.ids import as_hostname, is_hostname

PREFIX = "SKEPD_"
DEFAULT_HOST = "unix:///run/skep/skep.sock"
DEFAULT_ENGINE = "unix:///var/run/docker.sock"
PORT_MAX = 65535
_LISTS = frozenset({"host"})
_BOOLS = frozenset({"tlsverify", "safe_mode"})


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See each field's comment; `skepd --help` shows the same."""

    name: str = ""  # the node's host name in the swarm; the machine's own by default
    state_dir: str = "/var/lib/skep"  # certificates, etcd's data, which swarm this node is in
    host: list[str] = field(default_factory=lambda: [DEFAULT_HOST])  # where the Docker API is served
    tlsverify: bool = False  # serve tcp:// hosts with mutual TLS
    tlscacert: str = ""  # clients must hold a certificate of this CA
    tlscert: str = ""  # the API's certificate
    tlskey: str = ""  # and its key
    engine: str = DEFAULT_ENGINE  # the Docker Engine's socket, or `simulated`
    docker_socket: str = (
        "swarm"  # what containers get that bind /var/run/docker.sock: skepd's, or the engine's
    )
    etcd: str = "etcd"  # the etcd to run on managers
    safe_mode: bool = False  # the API is up, nothing is decided: to remove what keeps managers from leading
    metrics_addr: str = ""  # HOST:PORT where metrics are served in plain HTTP; empty: nowhere
    log_level: str = "info"  # debug, info, warning, error
    log_format: str = "auto"  # auto, text, json

    @property
    def hostname(self) -> str:
        return self.name or as_hostname(socket.gethostname())

    @property
    def unix_hosts(self) -> list[str]:
        """The paths of the sockets where the Docker API is served."""
        return [host.removeprefix("unix://") for host in self.host if host.startswith("unix://")]

    @property
    def engine_socket(self) -> str | None:
        """The engine's socket path; None where it is simulated."""
        return None if self.engine == "simulated" else self.engine.removeprefix("unix://")


def load_settings(flags: Mapping[str, Any], file: str | None, environment: Mapping[str, str]) -> Settings:
    """Returns the settings in force. Errors: `Invalid`, which says where the bad value came from."""
    values: dict[str, Any] = {}
    if file is not None:
        values.update(_from_file(Path(file)))
    values.update(_from_environment(environment))
    values.update({k: v for k, v in flags.items() if v is not None})
    try:
        settings = msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        raise Invalid(f"bad setting: {error}") from error
    _check(settings)
    return settings


def _from_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            found = tomllib.load(stream)
    except OSError as error:
        raise Invalid(f"the configuration file cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{path} is not valid TOML: {error}") from error
    known = set(Settings.__struct_fields__)
    unknown = sorted(set(found) - known)
    if unknown:
        raise Invalid(f"{path}: unknown setting '{unknown[0]}' (known: {', '.join(sorted(known))})")
    try:
        msgspec.convert(found, Settings)
    except msgspec.ValidationError as error:
        raise Invalid(f"{path}: {error}") from error
    return found


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in Settings.__struct_fields__:
        text = environment.get(PREFIX + name.upper())
        if text is None:
            continue
        if name in _LISTS:
            found[name] = [part.strip() for part in text.split(",") if part.strip()]
        elif name in _BOOLS:
            found[name] = _boolean(PREFIX + name.upper(), text)
        else:
            found[name] = text
    return found


def _boolean(name: str, text: str) -> bool:
    """Errors: `Invalid`: a word that is neither must not switch off what it was to switch on."""
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("", "0", "false", "no", "off"):
        return False
    raise Invalid(f"{name} must be on or off (also 1, true, yes; 0, false, no), not '{text}'")


def _check(settings: Settings) -> None:
    if settings.engine != "simulated" and not settings.engine.startswith("unix://"):
        raise Invalid(f"--engine must be unix://PATH or simulated, not '{settings.engine}'")
    if not is_hostname(settings.hostname):
        raise Invalid(
            f"'{settings.hostname}' cannot be a node's host name: letters, digits, '.', '-' and '_' make one"
            " (--name gives another than the machine's)"
        )
    for host in settings.host:
        if not host.startswith(("unix://", "tcp://")):
            raise Invalid(f"--host must be unix://PATH or tcp://ADDR:PORT, not '{host}'")
    for path in settings.unix_hosts:
        # A working directory is not where others look for it: the engine's, a container's, the next start's.
        if not os.path.isabs(path):
            raise Invalid(f"--host unix://PATH must have an absolute path, not '{path}' (unix:///run/…)")
    if settings.metrics_addr:
        metrics_address(settings.metrics_addr)
    if settings.docker_socket not in ("swarm", "engine"):
        raise Invalid(f"--docker-socket must be swarm or engine, not '{settings.docker_socket}'")
    if settings.engine_socket is not None:
        for path in settings.unix_hosts:
            if os.path.realpath(path) == os.path.realpath(settings.engine_socket):
                raise Invalid(
                    f"--host unix://{path} is the socket of --engine, too: let the Docker Engine listen at"
                    ' another, and name that with --engine (docs/operations.md, "Docker\'s own socket")'
                )
    if settings.tlsverify:
        for name in ("tlscacert", "tlscert", "tlskey"):
            if not getattr(settings, name):
                raise Invalid(f"--tlsverify needs --{name}")
    if settings.log_level.lower() not in ("debug", "info", "warning", "error"):
        raise Invalid(f"--log-level must be debug, info, warning or error, not '{settings.log_level}'")
    if settings.log_format not in ("auto", "text", "json"):
        raise Invalid(f"--log-format must be auto, text or json, not '{settings.log_format}'")
    if not os.path.isabs(settings.state_dir):
        raise Invalid(f"--state-dir must be an absolute path, not '{settings.state_dir}'")


def metrics_address(text: str) -> tuple[str, int]:
    """Returns (host, port) of `--metrics-addr`, as Docker reads its own: an empty host is all addresses,
    port 0 any port. Errors: `Invalid`."""
    host, colon, port = text.rpartition(":")
    is_v6 = host.startswith("[") and host.endswith("]")
    is_whole = bool(colon) and (is_v6 or ":" not in host) and port.isascii() and port.isdigit()
    if not is_whole or int(port) > PORT_MAX:
        raise Invalid(f"--metrics-addr must be HOST:PORT (127.0.0.1:9323, [::1]:9323), not '{text}'")
    return host[1:-1] if is_v6 else host, int(port)
