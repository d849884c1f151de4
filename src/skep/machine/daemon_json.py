"""What an engine's `daemon.json` is to be, out of what it is: merged, or refused with the reason. Pure."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from skep.machine.record import EngineWish
from skep.runtime.errors import Conflict, Invalid

PATH = "/etc/docker/daemon.json"
CA, CERT, KEY = "/etc/docker/ca.pem", "/etc/docker/server.pem", "/etc/docker/server-key.pem"
SOCKET = "unix:///var/run/docker.sock"
BY_SYSTEMD = "fd://"  # the socket that systemd holds
_LOCAL = (SOCKET, BY_SYSTEMD, "unix://")
_EVERYWHERE = re.compile(r"tcp://0\.0\.0\.0:\d+")
# Options of the command line that may be given several times are lists in the file, under another name.
_LISTS = {
    "dns": "dns",
    "dns-opt": "dns-opts",
    "dns-search": "dns-search",
    "label": "labels",
    "insecure-registry": "insecure-registries",
    "registry-mirror": "registry-mirrors",
    "storage-opt": "storage-opts",
    "exec-opt": "exec-opts",
    "default-address-pool": "default-address-pools",
    "authorization-plugin": "authorization-plugins",
}
_MAPS = {"log-opt": "log-opts"}
_POOLS = "default-address-pools"
_OURS = ("host", "hosts", "H", "tls", "tlsverify", "tlscacert", "tlscert", "tlskey", "config-file")


def wanted_settings(wish: EngineWish, *, by_systemd: bool) -> dict[str, Any]:
    """Returns the members that a machine's engine is to have. Errors: `Invalid`."""
    wanted: dict[str, Any] = {
        "hosts": [BY_SYSTEMD if by_systemd else SOCKET, f"tcp://0.0.0.0:{wish.port}"],
        "tlsverify": True,
        "tlscacert": CA,
        "tlscert": CERT,
        "tlskey": KEY,
    }
    return {**wanted, **wanted_options(wish)}


def wanted_options(wish: EngineWish) -> dict[str, Any]:
    """Returns those that are its user's. Errors: `Invalid`, for options that are none."""
    wanted: dict[str, Any] = {}
    for text in (*wish.options, *(f"label={each}" for each in wish.labels)):
        name, _, value = text.partition("=")
        name = name.lstrip("-")
        if not name or name in _OURS:
            raise Invalid(f"--engine-opt {text}: " + (f"{name} is set by skep" if name else "no name"))
        if name in _LISTS:
            wanted.setdefault(_LISTS[name], []).append(_pool(value) if _LISTS[name] == _POOLS else value)
        elif name in _MAPS:
            key, _, of = value.partition("=")
            wanted.setdefault(_MAPS[name], {})[key] = of
        else:
            wanted[name] = _value(value)
    _check_labels(wanted.get("labels", []))
    return wanted


def _check_labels(labels: list[str]) -> None:
    """Errors: `Invalid`, for those with which no engine starts."""
    values: dict[str, str] = {}
    for each in labels:
        name, is_pair, value = each.partition("=")
        if not is_pair:
            raise Invalid(f"--engine-label {each}: it is NAME=VALUE")
        if values.setdefault(name, value) != value:
            raise Invalid(f"--engine-label {each}: it is {values[name]} already")


def _value(text: str) -> bool | int | str:
    """Returns what the file has for an option's text; an option without one is switched on."""
    if text in ("", "true", "false"):
        return text != "false"
    return int(text) if text.isdecimal() and len(text) < 18 else text


def _pool(text: str) -> dict[str, str | int]:
    parts = (each.partition("=") for each in text.split(","))
    return {name: int(of) if of.isdecimal() else of for name, _, of in parts}


def merged(existing: str | None, wanted: dict[str, Any]) -> str:
    """Returns the file's new text: what is there stays, lists have both. Errors: `Conflict`, which names
    what of it contradicts what is wanted, and in that case nothing is to be written."""
    have = _parse(existing)
    whole = dict(have)
    for name, value in wanted.items():
        there = have.get(name)
        if name == "hosts":
            whole[name] = _hosts(have, value)
        elif there is None or there == value:
            whole[name] = value
        elif name == "labels" and isinstance(there, list) and _labels_differ(there, value):
            raise _conflict(name, there, value)
        elif isinstance(there, list) and isinstance(value, list):
            whole[name] = [*there, *(each for each in value if each not in there)]
        elif isinstance(there, dict) and isinstance(value, dict) and not _contradictions(there, value):
            whole[name] = {**there, **value}
        else:
            raise _conflict(name, there, value)
    return msgspec.json.format(msgspec.json.encode(whole), indent=4).decode() + "\n"


def behind_skepd(existing: str | None, wish: EngineWish) -> str | None:
    """Returns the file's text for an engine that skepd speaks for: its user's options, and of what made it
    listen by itself, nothing; None where there is no file, and need be none. Errors: `Conflict`,
    `Invalid`."""
    have = _parse(existing)
    if have.get("tlscacert") == CA:
        others = [
            each for each in have.get("hosts", []) if each not in _LOCAL and not _EVERYWHERE.fullmatch(each)
        ]
        if others:
            raise Conflict(f"the host's {PATH} has the engine listen at {_shown(others)}, too: take that out")
        have = {name: value for name, value in have.items() if name not in _OURS}
    elif any(str(each).endswith(f":{wish.port}") for each in have.get("hosts") or []):
        raise Conflict(
            f"the host's {PATH} has the engine listen at port {wish.port}, where skepd is to: take it out of"
            " hosts"
        )
    changed = merged(msgspec.json.encode(have).decode(), wanted_options(wish))
    if existing is None:
        return changed if wish.options or wish.labels else None
    return existing if msgspec.json.decode(changed) == _parse(existing) else changed


def _conflict(name: str, there: object, wanted: object) -> Conflict:
    return Conflict(
        f"the host's {PATH} has {name}={_shown(there)}, and the machine is to have {_shown(wanted)}:"
        " take it out there, or leave the option away here"
    )


def _labels_differ(there: list[Any], wanted: list[str]) -> bool:
    """True where one has another value: an engine with both does not start."""
    have = dict(str(each).partition("=")[::2] for each in there)
    return any(
        have.get(name, value) != value for name, value in (each.partition("=")[::2] for each in wanted)
    )


def _hosts(have: dict[str, Any], wanted: list[str]) -> list[str]:
    """Where the engine listens. One that is ours already may change its port; what its user has added stays,
    and where it is open to one address, it is to no others."""
    there = have.get("hosts")
    if there is None:
        return wanted
    others = [each for each in there if each not in _LOCAL] if isinstance(there, list) else None
    if others is not None and have.get("tlscacert") == CA:
        port = wanted[-1].rpartition(":")[2]
        own = [each for each in others if not _EVERYWHERE.fullmatch(str(each))]
        narrow = any(str(each).startswith("tcp://") and str(each).endswith(f":{port}") for each in own)
        return [*(wanted[:-1] if narrow else wanted), *own]
    # Certificates are for all of an engine's TCP ports: what was open to others would be closed.
    if others is None or others:
        raise Conflict(
            f"the host's {PATH} says where its engine listens (hosts={_shown(there)}): a machine's engine"
            f" listens at {' and '.join(wanted)} by mutual TLS. Take hosts out there"
        )
    return wanted


def _contradictions(there: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return any(name in there and there[name] != value for name, value in wanted.items())


def _parse(existing: str | None) -> dict[str, Any]:
    if existing is None or not existing.strip():
        return {}
    try:
        return msgspec.json.decode(existing, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Conflict(
            f"the host's {PATH} is there and cannot be read ({error}): repair or remove it"
        ) from error


def _shown(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) < 120 else f"{text[:120]}…"
