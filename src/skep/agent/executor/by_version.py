"""What only newer engines can do (the API's history of versions). Pure.

An older engine would leave out what it does not know without a word: a task that asks for it is rejected.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from skep.model.container import ContainerSpec, Mount
from skep.rpc.messages import TaskNetwork
from skep.runtime.errors import Invalid

ApiVersion = tuple[int, int]

OLDEST: ApiVersion = (1, 41)  # Engine 20.10, the oldest supported
NEWEST: ApiVersion = (1, 51)  # the newest that this translation was written for
ENGINES = {42: "23.0", 43: "24.0", 44: "25.0", 45: "26.0", 46: "27.0", 47: "27.4", 48: "28.0"}
# Options of an endpoint that the engine itself knows, all others are its network drivers'.
_ENDPOINT_OPTIONS = {"com.docker.network.endpoint.sysctls": 46, "com.docker.network.endpoint.ifname": 48}


def check_supported(
    container: ContainerSpec, engine: ApiVersion, networks: Collection[TaskNetwork] = ()
) -> None:
    """Errors: `Invalid`, with the field, what it needs, and what the node's engine has."""
    for field, minor in (*_needs(container), *_network_needs(networks)):
        if engine < (1, minor):
            raise Invalid(
                f"{field} needs Docker Engine {ENGINES[minor]} (API 1.{minor});"
                f" the engine of this node has API {engine[0]}.{engine[1]}"
            )


def _needs(container: ContainerSpec) -> Iterator[tuple[str, int]]:
    if container.healthcheck is not None and container.healthcheck.start_interval:
        yield "ContainerSpec.Healthcheck.StartInterval", 44
    for mount in container.mounts:
        for field, minor in _mount_needs(mount):
            yield f"the mount of {mount.target}: {field}", minor


def _network_needs(networks: Collection[TaskNetwork]) -> Iterator[tuple[str, int]]:
    for network in networks:
        for option, minor in _ENDPOINT_OPTIONS.items():
            if option in network.driver_opts:
                yield f"the network {network.name}: DriverOpts {option}", minor


def _mount_needs(mount: Mount) -> Iterator[tuple[str, int]]:
    if mount.type == "image":
        yield "Type image", 48
    bind, volume, tmpfs = mount.bind_options, mount.volume_options, mount.tmpfs_options
    if bind is not None and bind.create_mountpoint:
        yield "BindOptions.CreateMountpoint", 42
    if bind is not None and bind.read_only_non_recursive:
        yield "BindOptions.ReadOnlyNonRecursive", 44
    if bind is not None and bind.read_only_force_recursive:
        yield "BindOptions.ReadOnlyForceRecursive", 44
    if volume is not None and volume.subpath:
        yield "VolumeOptions.Subpath", 45
    if tmpfs is not None and tmpfs.options:
        yield "TmpfsOptions.Options", 46
