"""The swarm's own settings and its join tokens."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Awaitable, Callable, Iterable

from msgspec.structs import replace

from skep.manager.allocator.subnets import DEFAULT_SIZE
from skep.manager.ca.wanted import with_root_wanted, without_root
from skep.manager.control.autolock import unlock_key_after
from skep.manager.control.validate_size import check_size
from skep.manager.signals import ClusterChanged
from skep.manager.term import Term
from skep.model.bounds import SWARM_SPEC_MAX_BYTES
from skep.model.cluster import SECOND_NS, Cluster, OrchestrationConfig, SwarmSpec
from skep.model.data_path import DATA_PATHS, HAS_IPVS, IPVS, NFTABLES
from skep.model.node import Node
from skep.rpc.messages import DATA_PATH, SELF_REPORTED
from skep.runtime.errors import Conflict, Invalid, NotFound, StaleVersion, Unsupported

CERT_EXPIRY_MIN_NS = 3600 * SECOND_NS  # Docker's own minimum
HEARTBEAT_MIN_NS = SECOND_NS // 5  # below this nodes flap on a busy machine
_INVALID = "rpc error: code = InvalidArgument desc = "  # Docker's own words, which clients may know


DATA_PATH_PORTS = range(1024, 49152)
SUBNET_SIZE_MAX = 29  # libnetwork's: below it a subnet has no room for a network's own addresses


def validate_init(spec: SwarmSpec, data_path_port: int, pools: list[str] | None, subnet_size: int) -> None:
    """Checks what a new swarm is to be. Errors: `Invalid`, `Unsupported`, in the words of Docker's init."""
    _validate_name(spec)
    if pools is not None:
        _validate_pools(pools, subnet_size)
    if data_path_port and data_path_port not in DATA_PATH_PORTS:
        raise Invalid(f"Datapath port number is not in valid range (1024-49151) : {data_path_port}")
    try:
        validate_swarm(spec)
    except Invalid as error:
        raise Invalid(f"error updating cluster settings: {error}") from error


def _validate_pools(pools: list[str], subnet_size: int) -> None:
    """Errors: `Invalid`, in libnetwork's words; for IPv6, of which no subnets are given out."""
    if subnet_size > SUBNET_SIZE_MAX or subnet_size < 0:
        raise Invalid(f"subnet size is out of range: {subnet_size}")
    for text in pools:
        try:
            pool = ipaddress.ip_network(text, strict=False)
        except ValueError as error:
            raise Invalid(f"invalid base pool {text}: invalid CIDR address: {text}") from error
        if pool.version != 4:
            raise Invalid(f"invalid base pool {text}: a default address pool must be IPv4")
        if pool.prefixlen > (subnet_size or DEFAULT_SIZE):
            raise Invalid(
                f'invalid CIDR: "{pool}". Subnet size is too small for pool: {subnet_size or DEFAULT_SIZE}'
            )


def validate_swarm(spec: SwarmSpec) -> None:
    """Errors: `Invalid`, `Unsupported`."""
    _validate_name(spec)
    check_size("the swarm's spec", spec, SWARM_SPEC_MAX_BYTES)
    if spec.ca_config.node_cert_expiry and spec.ca_config.node_cert_expiry < CERT_EXPIRY_MIN_NS:
        raise Invalid(f"{_INVALID}minimum certificate expiry time is: 1h0m0s")
    if spec.dispatcher.heartbeat_period < 0:
        raise Invalid(f"{_INVALID}heartbeat time period cannot be a negative duration")
    if 0 < spec.dispatcher.heartbeat_period < HEARTBEAT_MIN_NS:
        raise Invalid("the dispatcher's heartbeat period must be at least 200ms")
    if spec.ca_config.external_cas:
        raise Unsupported("external CAs are not supported by this version of skep yet")


def check_data_path(data_path: str, nodes: Iterable[Node]) -> None:
    """Errors: `Invalid`; `Unsupported`, where it is IPVS, and no node has that."""
    if data_path not in DATA_PATHS:
        raise Invalid(f"there is no data path '{data_path}': there are {', '.join(DATA_PATHS)}")
    if data_path == IPVS and not any(each.description.has(HAS_IPVS) for each in nodes):
        raise Unsupported(
            "no node of this swarm has IPVS: that needs the kernel's modules ip_vs and ip_vs_rr, and the"
            f" program modprobe. Leave data-path at {NFTABLES}, which leads published ports on all of them"
        )


def _whole(spec: SwarmSpec) -> SwarmSpec:
    """Returns what an update makes of a spec: as in Docker it replaces the one before, and a history limit
    that is left out is 0. (Where others are left out, or 0, their defaults are in force.)"""
    limit = spec.orchestration.task_history_retention_limit
    return replace(spec, orchestration=OrchestrationConfig(task_history_retention_limit=limit or 0))


def _validate_name(spec: SwarmSpec) -> None:
    if spec.name not in ("", "default"):
        raise Invalid('swarm spec must be named "default"')


class SwarmControl:
    """`keep` is given what was written, before who asked hears of it. `forgetful` gives the ids of managers
    that may lose what earlier ones did not know when they lead, by the feature that says they keep it."""

    def __init__(
        self,
        term: Term,
        new_secret: Callable[[], str],
        keep: Callable[[Cluster], Awaitable[None]],
        random_bytes: Callable[[int], bytes] = os.urandom,
        forgetful: Callable[[str], list[str]] = lambda feature: [],
    ) -> None:
        self._term = term
        self._view = term.view
        self._new_secret = new_secret
        self._keep = keep
        self._random_bytes = random_bytes
        self._forgetful = forgetful

    async def update(
        self,
        version: int,
        spec: SwarmSpec,
        rotate_worker: bool = False,
        rotate_manager: bool = False,
        rotate_unlock_key: bool = False,
    ) -> Cluster:
        """Replaces the spec, rotates tokens and the unlock key, begins to change the root where it is asked.

        Errors: `Invalid`, `StaleVersion`, `Unsupported`.
        """
        cluster = self._view.cluster
        if cluster is None:
            raise NotFound("this store holds no swarm")
        validate_swarm(spec)  # before the version, as Docker does
        if cluster.version != version:
            raise StaleVersion()
        now = self._term.clock.now()
        after = with_root_wanted(cluster, spec.ca_config, now)
        after = replace(after, spec=replace(_whole(without_root(spec)), name="default"), updated_at=now)
        if rotate_worker:
            after = replace(after, worker_token_secret=self._new_secret())
        if rotate_manager:
            after = replace(after, manager_token_secret=self._new_secret())
        unlock_key = unlock_key_after(cluster, spec, rotate_unlock_key, self._random_bytes)
        after = replace(after, unlock_key=unlock_key)
        if unlock_key not in ("", cluster.unlock_key):
            after = after.wanting_data_key()  # the one of before is on disks unsealed, or by another key
        return await self._write(cluster, after)

    async def rotate_data_key(self) -> Cluster:
        """Has the data key changed, within seconds. Errors: `StaleVersion` where the cluster is being changed
        by somebody else."""
        cluster = self._view.cluster
        if cluster is None:
            raise NotFound("this store holds no swarm")
        return await self._write(
            cluster, replace(cluster.wanting_data_key(), updated_at=self._term.clock.now())
        )

    async def allow(
        self,
        devices: bool | None,
        privileged: bool | None,
        self_reported_constraints: bool | None = None,
        data_path: str | None = None,
    ) -> Cluster:
        """Says what services may have of their nodes, and be placed by (`model.access`); None: as it is.
        Running tasks keep what they have, and stay where they are. And what leads connections to published
        ports.

        Errors: `StaleVersion` where the cluster is being changed by somebody else; `Conflict` where a manager
        would lose the setting; `Invalid`, `Unsupported` for a data path that nobody has."""
        cluster = self._view.cluster
        if cluster is None:
            raise NotFound("this store holds no swarm")
        if self_reported_constraints is False and cluster.allow_self_reported_constraints:
            self._check_managers_keep(SELF_REPORTED, "allow-self-reported-constraints", "off", "on")
        if data_path not in (None, cluster.data_path):
            check_data_path(data_path, self._view.nodes.values())
            if data_path != NFTABLES:
                self._check_managers_keep(DATA_PATH, "data-path", data_path, NFTABLES)
        after = replace(
            cluster,
            allow_devices=cluster.allow_devices if devices is None else devices,
            allow_privileged=cluster.allow_privileged if privileged is None else privileged,
            allow_self_reported_constraints=(
                cluster.allow_self_reported_constraints
                if self_reported_constraints is None
                else self_reported_constraints
            ),
            data_path=cluster.data_path if data_path is None else data_path,
            updated_at=self._term.clock.now(),
        )
        return await self._write(cluster, after)

    def _check_managers_keep(self, feature: str, name: str, wanted: str, default: str) -> None:
        """Errors: `Conflict`."""
        forgetful = self._forgetful(feature)
        if forgetful:
            raise Conflict(
                f"{name} cannot be set to {wanted} while a manager has an earlier skep, which would set it to"
                f" {default} again when it leads, or is not there to say:"
                f" {', '.join(forgetful)}; update skep on it, start it, or demote it (docker node demote)"
            )

    async def _write(self, before: Cluster, after: Cluster) -> Cluster:
        after = await self._term.update(before, after)
        self._term.tell(ClusterChanged())
        await self._keep(after)
        return after
