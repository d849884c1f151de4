"""Fields that are stored and returned but not acted on yet: named in the response's `Warnings`.

docs/compatibility.md lists them for users; a test keeps the two in step.
"""

from __future__ import annotations

from skep.model.constraint import is_spread
from skep.model.spec import ServiceSpec

_NOT_ATTACHED = "tasks are not attached to overlay networks yet: the engine's default network is used"
NOT_ACTED_ON = {
    "TaskTemplate.Networks": _NOT_ATTACHED,
    "Networks": _NOT_ATTACHED,
    "EndpointSpec.Ports[ingress]": "the routing mesh is not supported yet: use mode=host to publish a port",
    "EndpointSpec.Mode[dnsrr]": "service discovery is not supported yet",
    "TaskTemplate.Placement.Preferences": "only a spread over node.labels.X or engine.labels.X has an effect",
}


def warnings_for(spec: ServiceSpec) -> list[str]:
    """Returns one sentence for each field that is set and not acted on."""
    task = spec.task_template
    endpoint = spec.endpoint_spec
    present = {
        "TaskTemplate.Networks": bool(task.networks),
        "Networks": bool(spec.networks),
        "EndpointSpec.Ports[ingress]": endpoint is not None
        and any(p.publish_mode in ("", "ingress") for p in endpoint.ports),
        "EndpointSpec.Mode[dnsrr]": endpoint is not None and endpoint.mode == "dnsrr",
        "TaskTemplate.Placement.Preferences": task.placement is not None
        and not all(p.spread and is_spread(p.spread.spread_descriptor) for p in task.placement.preferences),
    }
    return [f"{field}: {NOT_ACTED_ON[field]}" for field, is_set in present.items() if is_set]
