"""A task's mounts as the engine is to make them. Pure."""

from __future__ import annotations

from typing import Any

from skep.model.container import Mount
from skep.runtime.errors import Invalid

Json = dict[str, Any]


def mount_json(mount: Mount) -> Json:
    """Returns the engine's form of a mount whose templates are filled in.

    Errors: `Invalid`, in the words of Docker's executor: the engine would take a volume whose name is a path
    for a bind, and the other way round.
    """
    kind = mount.type or "bind"  # swarmkit's zero
    check_mount(kind, mount)
    found: Json = {
        "Type": kind,
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
    }
    if mount.consistency:
        found["Consistency"] = mount.consistency
    if mount.bind_options is not None:
        found["BindOptions"] = _bind(mount)
    if mount.volume_options is not None:
        found["VolumeOptions"] = _volume(mount)
    if mount.tmpfs_options is not None:
        tmpfs: Json = {"SizeBytes": mount.tmpfs_options.size_bytes, "Mode": mount.tmpfs_options.mode}
        if mount.tmpfs_options.options:
            tmpfs["Options"] = mount.tmpfs_options.options
        found["TmpfsOptions"] = tmpfs
    if mount.image_options is not None:
        found["ImageOptions"] = {"Subpath": mount.image_options.subpath}
    return found


def check_mount(kind: str, mount: Mount) -> None:
    """Errors: `Invalid`."""
    if not mount.target.startswith("/"):
        raise Invalid(f"invalid mount target, must be an absolute path: {mount.target}")
    if kind == "bind" and not mount.source.startswith("/"):
        raise Invalid(f"invalid bind mount source, must be an absolute path: {mount.source}")
    if kind == "volume" and mount.source.startswith("/"):
        raise Invalid(f"invalid volume mount source, must not be an absolute path: {mount.source}")
    if kind == "tmpfs" and mount.source:
        raise Invalid("invalid tmpfs source, source must be empty")


def _bind(mount: Mount) -> Json:
    assert mount.bind_options is not None
    given = mount.bind_options
    options: Json = {"NonRecursive": given.non_recursive, "Propagation": given.propagation or "rprivate"}
    for name, is_set in (
        ("CreateMountpoint", given.create_mountpoint),
        ("ReadOnlyNonRecursive", given.read_only_non_recursive),
        ("ReadOnlyForceRecursive", given.read_only_force_recursive),
    ):
        if is_set:
            options[name] = True
    return options


def _volume(mount: Mount) -> Json:
    assert mount.volume_options is not None
    given = mount.volume_options
    options: Json = {"NoCopy": given.no_copy, "Labels": given.labels}
    if given.subpath:
        options["Subpath"] = given.subpath
    if given.driver_config is not None:
        options["DriverConfig"] = {"Name": given.driver_config.name, "Options": given.driver_config.options}
    return options
