"""Telegraf's configuration: the section that has it run `skep telegraf`, and that section out of an older
plugin's. Pure.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from skep.runtime.errors import Invalid

PLUGIN = "swarm"  # [[inputs.swarm]], Swarm2k's
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+", re.ASCII)
FROM_ENVIRONMENT = "ENV"
INTERVAL = "10s"
# What Telegraf itself takes in the section of any input, and what goes on to be true in ours.
GENERAL = (
    "alias",
    "collection_jitter",
    "collection_offset",
    "fielddrop",
    "fieldexclude",
    "fieldinclude",
    "fieldpass",
    "interval",
    "log_level",
    "metricpass",
    "name_override",
    "name_prefix",
    "name_suffix",
    "namedrop",
    "namepass",
    "precision",
    "tagdrop",
    "tagexclude",
    "taginclude",
    "tagpass",
    "tags",
)


class Converted(Struct, frozen=True):
    """Our section, and in sentences what of the other one is not in it, or is otherwise."""

    section: str
    notes: list[str]


def section_of(
    hosts: Sequence[str] = (),
    timeout: str = "",
    general: Mapping[str, Any] | None = None,
    with_usage: bool = True,
) -> str:
    """Returns the section, as it is pasted into telegraf.conf."""
    command = ["skep", "telegraf"]
    for host in hosts:
        command += ["--host", host]
    if timeout:
        command += ["--timeout", timeout]
    if not with_usage:
        command.append("--no-usage")
    settings = dict(general or {})
    interval = settings.pop("interval", INTERVAL)
    tables = {name: settings.pop(name) for name in list(settings) if isinstance(settings[name], dict)}
    lines = [
        "# The swarm's numbers, from any of its managers: where one --host cannot answer, the next is asked.",
        "# Where Telegraf's PATH has no skep, name it whole, such as /opt/skep/bin/skep.",
        "[[inputs.execd]]",
        f"  command = {_toml(command)}",
        '  signal = "STDIN"  # the default, "none", would never ask',
        f"  interval = {_toml(interval)}",
        '  restart_delay = "10s"',
        '  data_format = "influx"',
        *(f"  {name} = {_toml(value)}" for name, value in settings.items()),
    ]
    if any(host.startswith("tcp://") for host in hosts):
        lines.append("  # By TLS, with ca.pem, cert.pem and key.pem that Telegraf may read:")
        lines.append('  # environment = ["DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH=/etc/telegraf/skep"]')
    for name, table in tables.items():  # last: what follows a table's head would be the table's
        lines.append(f"  [inputs.execd.{name}]")
        lines += [f"    {_key(key)} = {_toml(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def converted(text: str) -> list[Converted]:
    """Returns our section for each `[[inputs.swarm]]` of a telegraf.conf. Errors: `Invalid`."""
    try:
        found = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number without end, lists in lists without end
        raise Invalid(f"it is no TOML: {error}") from error
    inputs = found.get("inputs")
    sections = inputs.get(PLUGIN) if isinstance(inputs, dict) else None
    if isinstance(sections, dict):  # [inputs.swarm], which Telegraf takes as well
        sections = [sections]
    if not isinstance(sections, list) or not sections or not all(isinstance(each, dict) for each in sections):
        raise Invalid(f"it has no section [[inputs.{PLUGIN}]]")
    return [_converted(each) for each in sections]


def _converted(section: dict[str, Any]) -> Converted:
    notes: list[str] = []
    given = dict(section)
    hosts = _hosts(given.pop("endpoint", ""), notes)
    timeout = _timeout(given.pop("timeout", ""))
    general = {name: given.pop(name) for name in list(given) if name in GENERAL}
    notes += [f"{name} is left out: there is nothing of that kind here" for name in given]
    notes.append(
        "the series swarm_task is left out: its points of one service, node and state fell upon each other;"
        " swarm_service and swarm_task_status have the counts"
    )
    return Converted(section_of(hosts, timeout, general), notes)


def _hosts(endpoint: object, notes: list[str]) -> list[str]:
    if not isinstance(endpoint, str):
        raise Invalid(f"endpoint must be a text, not {endpoint!r}")
    if endpoint == FROM_ENVIRONMENT:
        notes.append(
            "endpoint ENV: as before, Telegraf's environment must have DOCKER_HOST (and DOCKER_TLS_VERIFY,"
            " DOCKER_CERT_PATH)"
        )
        return []
    if not endpoint:
        notes.append("endpoint is unset: skepd's own socket is asked, or DOCKER_HOST where Telegraf has it")
        return []
    scheme, _, rest = endpoint.partition("://")
    if scheme in ("http", "https"):
        notes.append(f"endpoint {endpoint} is written as tcp://{rest}")
        if scheme == "https":
            notes.append("… with TLS: Telegraf's environment must have DOCKER_TLS_VERIFY=1, DOCKER_CERT_PATH")
        return [f"tcp://{rest}"]
    if scheme not in ("unix", "tcp") or not rest:
        raise Invalid(f"endpoint must be unix://PATH or tcp://HOST:PORT, ENV or nothing, not '{endpoint}'")
    return [endpoint]


def _timeout(given: object) -> str:
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        return f"{given:g}s"  # as Telegraf reads a bare number
    if isinstance(given, str) and (not given or _DURATION.fullmatch(given)):
        return given
    raise Invalid(f"timeout must be a text like '5s', not {given!r}")


def _toml(value: Any) -> str:
    """Returns a value as TOML has it, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return f"[{', '.join(_toml(each) for each in value)}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(key)} = {_toml(each)}' for key, each in value.items())} }}"
    return str(value)


def _text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in escaped) + '"'


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else _text(name)
