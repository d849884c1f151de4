"""`skep cluster settings` and `skep cluster set`: what the swarm allows, and what leads its ports on, by
Docker's API nowhere."""

from __future__ import annotations

import asyncio

from skep.client.api import ApiClient, ApiError
from skep.model.access import ALLOW_DEVICES, ALLOW_PRIVILEGED, ALLOW_SELF_REPORTED
from skep.model.data_path import DATA_PATHS
from skep.runtime.errors import Invalid, Unavailable

PATH = "/skep/v1/cluster/settings"
DATA_KEY_PATH = "/skep/v1/cluster/data-key"
ROTATE_PATH = f"{DATA_KEY_PATH}/rotate"
LOOK_S = 0.5
CHANGE_S = 30.0  # three of rest, a majority's disks, a new lead that seals all anew
MEMBERS = {
    ALLOW_DEVICES: "AllowDevices",
    ALLOW_PRIVILEGED: "AllowPrivileged",
    ALLOW_SELF_REPORTED: "AllowSelfReportedConstraints",
}
DATA_PATH = "data-path"
SAYING_MEMBERS = {DATA_PATH: "DataPath"}  # settings that are words
_WORDS = {"on": True, "off": False}


def parse_settings(texts: tuple[str, ...]) -> dict[str, bool | str]:
    """Returns the API's members from NAME=on, NAME=off, and data-path=ipvs. Errors: `Invalid`."""
    found: dict[str, bool | str] = {}
    for text in texts:
        name, _, word = text.partition("=")
        if name in SAYING_MEMBERS and word:
            found[SAYING_MEMBERS[name]] = word
            continue
        if name not in MEMBERS and name not in SAYING_MEMBERS:
            raise Invalid(f"there is no setting '{name}': there are {', '.join((*MEMBERS, *SAYING_MEMBERS))}")
        if name in SAYING_MEMBERS:
            raise Invalid(f"'{text}': this setting is {name}={' or '.join(DATA_PATHS)}")
        if word not in _WORDS:
            raise Invalid(f"'{text}': a setting is {name}=on or {name}=off")
        found[MEMBERS[name]] = _WORDS[word]
    return found


async def settings(url: str, changes: dict[str, bool | str] | None = None) -> list[str]:
    """Changes what is to be changed; returns all settings as lines. Errors: `ApiError`, `Unavailable`."""
    client = ApiClient(url)
    try:
        answer = await client.json("POST" if changes else "GET", PATH, changes)
    finally:
        await client.close()
    lines = [
        f"{name}={'on' if answer[member] else 'off'}" for name, member in MEMBERS.items() if member in answer
    ]
    return lines + [f"{name}={answer[each]}" for name, each in SAYING_MEMBERS.items() if each in answer]


async def rotate_data_key(url: str, wait_s: float) -> str:
    """Has the managers change the key that seals their store; returns what came of it. `wait_s` 0: the order
    is all. Errors: `ApiError`; `Unavailable`, also where the change is not done within `wait_s`."""
    client = ApiClient(url)
    try:
        ordered = await client.json("POST", ROTATE_PATH)
        why = await _wait_changed(client, ordered["Wanted"], wait_s)
    finally:
        await client.close()
    if not why:
        return "the data key is changed"
    said = f"the data key is not changed yet, which goes on by itself; it waits: {why}"
    if wait_s:
        raise Unavailable(said)
    return said


async def _wait_changed(client: ApiClient, wanted: int, wait_s: float) -> str:
    """Returns an empty text, or what is still waited for after `wait_s`."""
    deadline = asyncio.get_running_loop().time() + wait_s
    why = "it begins three seconds after the order"
    while asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(LOOK_S)
        try:
            found = await client.json("GET", DATA_KEY_PATH)
        except (ApiError, Unavailable) as error:  # the lead begins anew meanwhile
            why = str(error)
            continue
        if found["Done"] >= wanted:
            return ""
        why = found["Why"] or why
    return why
