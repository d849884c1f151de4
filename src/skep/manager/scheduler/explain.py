"""Why a task has no node: SwarmKit's sentence, with counts (manager/scheduler/pipeline.go, filter.go)."""

from __future__ import annotations

from collections.abc import Sequence

# In the order in which filters refuse a node: each node is counted once, under the first that does.
NOT_AVAILABLE = "{nodes} not available for new tasks"
RESOURCES = "insufficient resources on {nodes}"
PLUGINS = "missing plugin on {nodes}"
CONSTRAINTS = "scheduling constraints not satisfied on {nodes}"
PLATFORM = "unsupported platform on {nodes}"
PORTS = "host-mode port already in use on {nodes}"
HOST_NETWORKS = "a network of the task overlaps the host's own on {nodes}"
MAX_REPLICAS = "max replicas per node limit exceed"

# Each in a word, where there is no room for sentences.
WORDS = {
    NOT_AVAILABLE: "available",
    RESOURCES: "resources",
    PLUGINS: "plugins",
    CONSTRAINTS: "constraints",
    PLATFORM: "platform",
    PORTS: "host-ports",
    HOST_NETWORKS: "host-networks",
    MAX_REPLICAS: "max-replicas",
}
NO_NODE = "no-node"  # there is none to refuse
NO_ADDRESS = "addresses"  # a network of the task has none left (`manager.allocator`)
FAILED = "failed"  # the decision itself did, and the service is set aside
REASONS = (*WORDS.values(), NO_NODE, NO_ADDRESS, FAILED)


def word_of(refusals: Sequence[tuple[str, int]]) -> str:
    """Returns the word of the filter that refused most nodes."""
    phrase, nodes = max(refusals, key=lambda r: r[1], default=("", 0))
    return WORDS[phrase] if nodes else NO_NODE


def explain(refusals: Sequence[tuple[str, int]]) -> str:
    """Returns the sentence for (phrase, nodes refused), most frequent first."""
    said = refused(refusals)
    return f"no suitable node ({said})" if said else "no suitable node"


def refused(refusals: Sequence[tuple[str, int]]) -> str:
    """Returns what comes in brackets there; it is all that is said where only one node is asked."""
    counted = sorted((r for r in refusals if r[1]), key=lambda r: -r[1])
    return "; ".join(phrase.format(nodes="1 node" if n == 1 else f"{n} nodes") for phrase, n in counted)
