"""API versions: which are spoken, and the headers every answer carries (Engine API 1.51, `/_ping`)."""

from __future__ import annotations

import re

from skep.model.since import ApiVersion
from skep.runtime.errors import Invalid

MIN_VERSION: ApiVersion = (1, 24)
MAX_VERSION: ApiVersion = (1, 51)
PREFIX = r"/v{version:[0-9.]+}"  # as the engine's own: what matches there must not get past ours
_PREFIXED = re.compile(r"^/v([0-9.]+)(/.*)$")
_VERSION = re.compile(r"([0-9]{1,5})(?:\.([0-9]{1,5}))?(?:\.[0-9]{1,5}){0,2}")


class TooOld(Invalid):
    """The client's version is below the least that is spoken. Docker says so in plain text: clients of that
    age know no other errors."""


def parse_version(text: str) -> ApiVersion:
    """Errors: `Invalid`."""
    found = _VERSION.fullmatch(text)
    if found is None:
        raise Invalid(f"invalid API version '{text[:100]}'")
    return int(found[1]), int(found[2] or 0)


def show_version(version: ApiVersion) -> str:
    return f"{version[0]}.{version[1]}"


def check_version(version: ApiVersion, maximum: ApiVersion) -> None:
    """Errors: `Invalid` and `TooOld`, in Docker's words."""
    if version > maximum:
        raise Invalid(
            f"client version {show_version(version)} is too new."
            f" Maximum supported API version is {show_version(maximum)}"
        )
    if version < MIN_VERSION:
        raise TooOld(
            f"client version {show_version(version)} is too old."
            f" Minimum supported API version is {show_version(MIN_VERSION)},"
            " please upgrade your client to a newer version"
        )


def split_path(raw_path: str) -> tuple[ApiVersion | None, str]:
    """Returns the version in a path and the path without it. Errors: `Invalid`."""
    found = _PREFIXED.match(raw_path)
    if found is None:
        return None, raw_path
    return parse_version(found[1]), found[2]
