"""Devices, GPUs and privileges of a service's tasks (`model.access`) in the engine's words. Pure."""

from __future__ import annotations

from typing import Any

from skep.model.access import HostAccess

Json = dict[str, Any]


def host_access_json(access: HostAccess) -> Json:
    """Returns the members of `HostConfig`."""
    found: Json = {}
    if access.privileged:
        found["Privileged"] = True
    if access.devices:
        found["Devices"] = [
            {"PathOnHost": d.host, "PathInContainer": d.container, "CgroupPermissions": d.permissions}
            for d in access.devices
        ]
    if access.gpus:
        found["DeviceRequests"] = [_request(access.gpus)]
    return found


def _request(gpus: str) -> Json:
    request: Json = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}
    if gpus.startswith("device="):
        request["DeviceIDs"] = gpus.removeprefix("device=").split(",")
    else:
        request["Count"] = -1 if gpus == "all" else int(gpus)
    return request
