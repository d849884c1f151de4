"""What a service's tasks may have of their hosts beyond what Docker's services can: by labels of the service.

    skep.device=/dev/fuse                       one device, the same in the container, rwm
    skep.device=/dev/ttyUSB0:/dev/modem:rw      another path and permissions; several behind commas
    skep.device.NAME=/dev/x                     more, one label each
    skep.gpus=all | 2 | device=GPU-1a,GPU-2b    as `docker run --gpus`
    skep.privileged=true                        everything
    skep.docker-socket=engine                   the engine's own socket where they bind Docker's

Pure. The swarm must allow it (`Cluster.allow_devices`, `Cluster.allow_privileged`), see `check_allowed`.
"""

from __future__ import annotations

import re

from msgspec import Struct

from skep.model.constraint import is_self_reported, parse_constraint
from skep.model.docker_socket import wants_engine
from skep.model.spec import ServiceSpec
from skep.runtime.errors import Denied, Invalid

DEVICE, GPUS, PRIVILEGED = "skep.device", "skep.gpus", "skep.privileged"
# The settings' names.
ALLOW_DEVICES, ALLOW_PRIVILEGED = "allow-devices", "allow-privileged"
ALLOW_SELF_REPORTED = "allow-self-reported-constraints"
DEVICES_MAX = 64  # of one service; each is a rule in the kernel's list
GPUS_MAX = 1024
_PERMISSIONS = re.compile(r"r?w?m?")
_TRUE, _FALSE = ("1", "t", "true"), ("", "0", "f", "false")


class Device(Struct, frozen=True, array_like=True):
    """One device of the host; `permissions` are of r, w and m (make the node)."""

    host: str
    container: str
    permissions: str = "rwm"


class HostAccess(Struct, frozen=True, kw_only=True):
    """`gpus` is all, a number, or device=ID,…; an empty text: none."""

    privileged: bool = False
    devices: tuple[Device, ...] = ()
    gpus: str = ""
    engine_socket: bool = False  # `model.docker_socket`; a bind mount is allowed anyway


def access_of(labels: dict[str, str]) -> HostAccess | None:
    """Returns what a service's labels ask for; None for nothing. Errors: `Invalid`, naming the label."""
    asked = {name: text for name, text in labels.items() if name.startswith("skep.")}
    if not asked:
        return None
    devices: list[Device] = []
    for name in sorted(asked):
        if name == DEVICE or name.startswith(DEVICE + "."):
            texts = asked[name].split(",")
            if len(devices) + len(texts) > DEVICES_MAX:
                raise Invalid(
                    f"a service may have at most {DEVICES_MAX} devices, not {len(devices) + len(texts)}"
                )
            devices += [_device(name, each.strip()) for each in texts]
    places = [device.container for device in devices]
    if double := {place for place in places if places.count(place) > 1}:
        raise Invalid(f"two labels {DEVICE}… put a device at {min(double)}")
    privileged = asked.get(PRIVILEGED, "").strip().lower()
    if privileged not in (*_TRUE, *_FALSE):
        raise Invalid(f"label {PRIVILEGED}: '{privileged}' is neither true nor false")
    found = HostAccess(
        privileged=privileged in _TRUE,
        devices=tuple(devices),
        gpus=_gpus(asked.get(GPUS, "")),
        engine_socket=wants_engine(asked),
    )
    return found if found != HostAccess() else None


def check_allowed(access: HostAccess | None, devices: bool, privileged: bool) -> None:
    """Errors: `Denied`, with the setting and the command that changes it."""
    if access is None:
        return
    for asked, allowed, what, setting in (
        (access.privileged, privileged, f"privileged containers (label {PRIVILEGED})", ALLOW_PRIVILEGED),
        (
            bool(access.devices or access.gpus),
            devices or privileged,
            f"devices of its nodes (labels {DEVICE}, {GPUS})",
            ALLOW_DEVICES,
        ),
    ):
        if asked and not allowed:
            raise Denied(
                f"this swarm does not let services have {what}: its setting {setting} is off."
                f" `skep cluster set {setting}=on` on a manager turns it on"
            )


def check_constraints(spec: ServiceSpec, before: ServiceSpec | None) -> None:
    """Checks a service of a swarm that does not let nodes say which services they get. What the service was
    placed by before may stay: it can be scaled, and runs on. Errors: `Denied`, naming the constraint."""
    known = _constraints(before) if before is not None else []
    for text in _constraints(spec):
        if text not in known and is_self_reported(parse_constraint(text).key):
            raise Denied(
                f"this swarm does not allow constraints on what nodes say of themselves, as '{text[:100]}':"
                f" its setting {ALLOW_SELF_REPORTED} is off. What managers say is node.id, node.role and"
                f" node.labels.NAME; `skep cluster set {ALLOW_SELF_REPORTED}=on` on a manager turns it on"
            )


def _constraints(spec: ServiceSpec) -> list[str]:
    placement = spec.task_template.placement
    return placement.constraints if placement is not None else []


def _device(label: str, text: str) -> Device:
    host, *others = text.split(":")
    container, permissions = host, "rwm"
    if len(others) == 1 and not others[0].startswith("/"):
        permissions = others[0]
    elif others:
        container, permissions = others[0], others[1] if len(others) > 1 else "rwm"
    is_good = (
        len(others) <= 2
        and _is_path(host)
        and _is_path(container)
        and permissions
        and _PERMISSIONS.fullmatch(permissions)
    )
    if not is_good:
        raise Invalid(f"label {label}: '{text}' is not HOSTPATH[:PATH][:PERMISSIONS], such as /dev/fuse:rw")
    return Device(host, container, permissions)


def _is_path(text: str) -> bool:
    return text.startswith("/") and len(text) > 1 and ".." not in text.split("/")


def _gpus(text: str) -> str:
    text = text.strip()
    if text in ("", "0"):
        return ""
    number = re.fullmatch(r"\d{1,4}", text)
    ids = text.removeprefix("device=").split(",") if text.startswith("device=") else []
    if text == "all" or (number and int(text) <= GPUS_MAX):
        return text
    if 0 < len(ids) <= GPUS_MAX and all(re.fullmatch(r"[A-Za-z0-9:._/-]+", each) for each in ids):
        return text
    raise Invalid(f"label {GPUS}: '{text}' is not all, a number of GPUs, or device=ID,ID")
