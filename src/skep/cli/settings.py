"""`skep cluster settings` and `skep cluster set`: what the swarm allows, by Docker's API nowhere."""

from __future__ import annotations

from skep.cli.client import ApiClient
from skep.model.access import ALLOW_DEVICES, ALLOW_PRIVILEGED, ALLOW_SELF_REPORTED
from skep.runtime.errors import Invalid

PATH = "/skep/v1/cluster/settings"
ROTATE_PATH = "/skep/v1/cluster/data-key/rotate"
MEMBERS = {
    ALLOW_DEVICES: "AllowDevices",
    ALLOW_PRIVILEGED: "AllowPrivileged",
    ALLOW_SELF_REPORTED: "AllowSelfReportedConstraints",
}
_WORDS = {"on": True, "off": False}


def parse_settings(texts: tuple[str, ...]) -> dict[str, bool]:
    """Returns the API's members from NAME=on and NAME=off. Errors: `Invalid`."""
    found = {}
    for text in texts:
        name, _, word = text.partition("=")
        if name not in MEMBERS:
            raise Invalid(f"there is no setting '{name}': there are {', '.join(MEMBERS)}")
        if word not in _WORDS:
            raise Invalid(f"'{text}': a setting is {name}=on or {name}=off")
        found[MEMBERS[name]] = _WORDS[word]
    return found


async def settings(url: str, changes: dict[str, bool] | None = None) -> list[str]:
    """Changes what is to be changed; returns all settings as lines. Errors: `ApiError`, `Unavailable`."""
    client = ApiClient(url)
    try:
        answer = await client.json("POST" if changes else "GET", PATH, changes)
    finally:
        await client.close()
    return [
        f"{name}={'on' if answer[member] else 'off'}" for name, member in MEMBERS.items() if member in answer
    ]


async def rotate_data_key(url: str) -> None:
    """Has the managers change the key that seals their store. Errors: `ApiError`, `Unavailable`."""
    client = ApiClient(url)
    try:
        await client.raw("POST", ROTATE_PATH)
    finally:
        await client.close()
