"""A node's description without what cannot be kept or shown of it. Pure.

A label with a line break in a daemon.json, or more labels than there is room for, is no reason to lose a node
and all it runs: that part is left out, the rest counts, and the node's message says so. What no machine can
have, like 2^63 CPUs, is left for `description_checking` to refuse.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from skep.model.bounds import (
    NODE_DESCRIPTION_MAX_BYTES,
    NODE_DESCRIPTION_SAID_MAX_BYTES,
    NODE_LABELS_MAX_BYTES,
)
from skep.model.container import GenericResource
from skep.model.node import EngineDescription, EnginePlugin, NodeDescription
from skep.model.spec import Platform
from skep.rpc import messages
from skep.rpc.description_checking import (
    KINDS_MAX,
    PLUGINS_MAX,
    check_description,
    check_label,
    check_names,
    check_platform,
    check_plugin,
    check_version,
    label_bytes,
)
from skep.rpc.said_texts import shown
from skep.runtime.errors import Invalid
from skep.runtime.ids import as_hostname, is_hostname

NAMED_MAX = 3  # of the things left out; of more, there is their number
FRAME_BYTES = 128  # the names of the fields and the counts of the lists, which the rest is without


def trimmed(description: NodeDescription) -> tuple[NodeDescription, str]:
    """Returns the description, and in a sentence what was left out of it; an empty text where nothing was.
    Errors: `Invalid` where it is far too long."""
    size = len(messages.encode(description))
    if size > NODE_DESCRIPTION_SAID_MAX_BYTES:
        raise Invalid(f"it describes itself in {size} bytes, {NODE_DESCRIPTION_SAID_MAX_BYTES} may come")
    try:
        check_description(description)
    except Invalid:
        return _Trimming().of(description)
    return description, ""


class _Trimming:
    """Of one description: `_room_bytes` are left of what it may have, encoded."""

    def __init__(self) -> None:
        self._left_out: list[str] = []
        self._room_bytes = 0
        self._label_room_bytes = NODE_LABELS_MAX_BYTES
        self._kinds = self._plugins = 0

    def of(self, said: NodeDescription) -> tuple[NodeDescription, str]:
        """What tasks are placed by comes first, where there is not room for all of it."""
        bare = NodeDescription(
            hostname=self._hostname(said.hostname),
            platform=self._platform(said.platform),
            resources=replace(said.resources, generic_resources=[]),
            engine=EngineDescription(engine_version=self._version(said.engine.engine_version)),
        )
        self._room_bytes = NODE_DESCRIPTION_MAX_BYTES - FRAME_BYTES - len(messages.encode(bare))
        generic = [each for each in said.resources.generic_resources if self._has_resource(each)]
        plugins = [each for each in said.engine.plugins if self._has_plugin(each)]
        labels = {name: value for name, value in said.engine.labels.items() if self._has_label(name, value)}
        kept = replace(
            bare,
            resources=replace(bare.resources, generic_resources=generic),
            engine=replace(bare.engine, plugins=plugins, labels=labels),
        )
        return kept, self._sentence()

    def _hostname(self, name: str) -> str:
        if not name or is_hostname(name):
            return name
        self._left_out.append(f"its host name {shown(name)} is shown as {shown(as_hostname(name))}")
        return as_hostname(name)

    def _platform(self, said: Platform) -> Platform:
        return Platform(
            architecture=said.architecture
            if self._passes(lambda: check_platform("its architecture", said.architecture))
            else "",
            os=said.os if self._passes(lambda: check_platform("its OS", said.os)) else "",
        )

    def _version(self, version: str) -> str:
        return version if self._passes(lambda: check_version(version)) else ""

    def _has_resource(self, resource: GenericResource) -> bool:
        if not self._passes(lambda: check_names(resource)):
            return False
        self._kinds += 1
        return self._fits("a generic resource", resource, self._kinds <= KINDS_MAX)

    def _has_plugin(self, plugin: EnginePlugin) -> bool:
        if not self._passes(lambda: check_plugin(plugin)):
            return False
        self._plugins += 1
        return self._fits(f"plugin {shown(plugin.name)}", plugin, self._plugins <= PLUGINS_MAX)

    def _has_label(self, label: str, value: str) -> bool:
        size = label_bytes(label, value)
        if not self._passes(lambda: check_label(label, value)):
            return False
        if not self._fits(
            f"its engine's label {shown(label)}", (label, value), size <= self._label_room_bytes
        ):
            return False
        self._label_room_bytes -= size
        return True

    def _passes(self, check: Callable[[], None]) -> bool:
        try:
            check()
        except Invalid as error:
            self._left_out.append(str(error))
            return False
        return True

    def _fits(self, what: str, value: object, is_allowed: bool) -> bool:
        """Whether there is room for one more thing, which has it then."""
        size = len(messages.encode(value))
        if not is_allowed or size > self._room_bytes:
            self._left_out.append(f"there is no room for {what}")
            return False
        self._room_bytes -= size
        return True

    def _sentence(self) -> str:
        if not self._left_out:
            return ""
        more = len(self._left_out) - NAMED_MAX
        named = self._left_out[:NAMED_MAX] + ([f"and {more} more"] if more > 0 else [])
        return f"left out of its description: {'; '.join(named)}"
