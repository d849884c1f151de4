"""Which networks a service asks for: names become ids, others are refused in Docker's words. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from skep.model.container import NetworkAttachmentConfig
from skep.model.network import Network
from skep.model.spec import ServiceSpec
from skep.runtime.errors import Invalid, NotFound
from skep.store.view import View

NETWORKS_MAX = 256  # of one service: each is a bridge on every node that runs it


def with_network_ids(view: View, spec: ServiceSpec) -> ServiceSpec:
    """Returns the spec with its networks named by their ids. Errors: `Invalid`, `NotFound`."""
    if not spec.task_template.networks and not spec.networks:
        return spec
    if len(spec.task_template.networks) + len(spec.networks) > NETWORKS_MAX:
        raise Invalid(f"a service is attached to at most {NETWORKS_MAX} networks")
    return replace(
        spec,
        networks=[_resolved(view, each) for each in spec.networks],
        task_template=replace(
            spec.task_template,
            networks=[_resolved(view, each) for each in spec.task_template.networks],
        ),
    )


def _resolved(view: View, asked: NetworkAttachmentConfig) -> NetworkAttachmentConfig:
    network = find_network(view, asked.target)
    if network.spec.ingress:
        raise Invalid(
            "rpc error: code = InvalidArgument desc = Service cannot be explicitly attached to the ingress"
            f' network "{network.spec.name}"'
        )
    return asked if asked.target == network.id else replace(asked, target=network.id)


def find_network(view: View, text: str) -> Network:
    """By id, name, or the begin of an id, as Docker finds it. Errors: `NotFound`, `Invalid`."""
    found = view.networks.get(text) or view.networks.get(view.network_ids.get(text, ""))
    if found is not None:
        return found
    matching = [network for network in view.networks.values() if network.id.startswith(text)]
    if len(matching) > 1:
        raise Invalid(f"network {text} is ambiguous ({len(matching)} matches found)")
    if text == "none":
        raise NotFound("could not find the corresponding predefined swarm network: network none not found")
    if not matching or not text:
        raise NotFound(f"network {text} not found")
    return matching[0]
