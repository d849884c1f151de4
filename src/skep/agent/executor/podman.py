"""Podman's service, where that is the engine: its own words for networks, and what it cannot do. Pure.

Its endpoint for Docker's clients makes networks that it manages, with rules and names of its own, on bridges
that it removes with their last container. Its own endpoint makes networks on bridges that it leaves alone
(`mode=unmanaged`): these are what a network of the swarm needs. All else is asked by Docker's API. What it
would leave out without a word is refused here. Tried with 5.4, which refuses a subnet that the host has also
there, and with 5.8, which does not.
"""

from __future__ import annotations

from typing import Any

from skep.agent.executor.interfaces import TaskContext
from skep.model.network import OVERLAY
from skep.runtime.errors import Invalid, Unsupported

Json = dict[str, Any]

API = "/v4.0.0/libpod"  # the oldest that Podman 5 takes
BRIDGE_OPTION = "com.docker.network.bridge.name"
MTU_OPTION = "com.docker.network.driver.mtu"


def is_podmans(server: str) -> bool:
    """Returns whether an answer's `Server` is Podman's."""
    return server.startswith("Libpod/")


def is_unmanaged(body: Json) -> bool:
    """Returns whether the network that is to be made is on a bridge that is looked after elsewhere."""
    return body.get("Driver") == "bridge" and BRIDGE_OPTION in (body.get("Options") or {})


def network_body(body: Json) -> Json:
    """Returns what Podman's own endpoint is asked for such a network; `body` is Docker's."""
    options = body["Options"]
    pools = [{"subnet": p["Subnet"], "gateway": p["Gateway"]} for p in body["IPAM"]["Config"]]
    return {
        "name": body["Name"],
        "driver": "bridge",
        "network_interface": options[BRIDGE_OPTION],
        "subnets": pools,
        "labels": body["Labels"],
        "internal": bool(body.get("Internal")),
        "dns_enabled": False,
        "options": {"mode": "unmanaged", "mtu": options[MTU_OPTION]},
    }


def network_of(found: Json) -> Json:
    """Returns a network as Docker's listing has it, with its bridge: Podman's own has none."""
    own = found.get("options") or {}
    options = {BRIDGE_OPTION: found.get("network_interface", "")}
    if "mtu" in own:
        options[MTU_OPTION] = own["mtu"]
    pools = [
        {"Subnet": each["subnet"], **({"Gateway": each["gateway"]} if each.get("gateway") else {})}
        for each in found.get("subnets") or []
    ]
    return {
        "Id": found["id"],
        "Name": found["name"],
        "Driver": found["driver"],
        "Created": found.get("created", ""),
        "Internal": bool(found.get("internal")),
        "Labels": found.get("labels") or {},
        "Options": options,
        "IPAM": {"Driver": "default", "Config": pools},
    }


def check_supported(context: TaskContext, has_systemd: bool) -> None:
    """Errors: `Invalid` for what Podman takes, and does not do. `has_systemd`: it runs on this host."""
    container = context.template.spec.container_spec
    test = container.healthcheck.test if container is not None and container.healthcheck is not None else []
    if test and test[0] != "NONE" and not has_systemd:
        raise Invalid(
            "the engine of this node is Podman, whose health checks need systemd; that does not run here"
        )
    if context.template.host_ports and any(each.driver == OVERLAY for each in context.template.networks):
        raise Invalid(
            "the engine of this node is Podman, which publishes no port in mode host for a container on an"
            " overlay network: publish it in mode ingress"
        )


def needed_sources(body: Json) -> list[str]:
    """Returns the host's paths that must be there for a container: where one is not, Docker refuses, and
    Podman makes a directory of that name."""
    mounts = body["HostConfig"].get("Mounts") or []
    binds = [each for each in mounts if each.get("Type") == "bind"]
    return [each["Source"] for each in binds if not (each.get("BindOptions") or {}).get("CreateMountpoint")]


def refuse_single(network: str) -> None:
    """Errors: `Unsupported`, always: Podman keeps no options of endpoints, by which single containers on the
    swarm's networks are known (`executor.single`)."""
    raise Unsupported(
        f"a single container cannot be attached to network {network} of the swarm here: the engine of this"
        " node is Podman, which does not keep what marks such a container. A service can"
    )
