"""What a node may say of itself: its platform, its engine, what it has. Pure. Errors: `Invalid`."""

from __future__ import annotations

from skep.model.bounds import NODE_DESCRIPTION_MAX_BYTES, NODE_LABELS_MAX_BYTES
from skep.model.container import GenericResource
from skep.model.node import EnginePlugin, NodeDescription, NodeResources
from skep.model.resources import CPUS_MAX, GENERIC_MAX, MEMORY_MAX_BYTES, NANO_CPUS_MAX
from skep.rpc import messages
from skep.rpc.said_texts import ID, PLAIN, WORD, check_text, check_word, shown
from skep.runtime.errors import Invalid
from skep.runtime.ids import is_hostname

PLATFORM_MAX_BYTES = 64  # `x86_64`, `linux`
VERSION_MAX_BYTES = 128  # `24.0.5-0ubuntu1~20.04.1` is a long one
PLUGINS_MAX, PLUGIN_MAX_BYTES = 256, 255  # an engine has some fifteen; a plugin's name is that of an image
KINDS_MAX, KIND_MAX_BYTES = 1024, 255  # generic resources: a GPU is 50 bytes, sixteen of them are many


def check_description(description: NodeDescription) -> None:
    """Checks what a node says of itself."""
    size = len(messages.encode(description))
    if size > NODE_DESCRIPTION_MAX_BYTES:
        raise Invalid(f"it describes itself in {size} bytes, {NODE_DESCRIPTION_MAX_BYTES} may be")
    name = description.hostname
    if name and not is_hostname(name):
        raise Invalid(f"its host name {shown(name)} is none: letters, digits, '.', '-' and '_' make one")
    check_platform("its architecture", description.platform.architecture)
    check_platform("its OS", description.platform.os)
    _check_resources(description.resources)
    engine = description.engine
    check_version(engine.engine_version)
    if len(engine.plugins) > PLUGINS_MAX:
        raise Invalid(f"it has {len(engine.plugins)} plugins, {PLUGINS_MAX} may be")
    for plugin in engine.plugins:
        check_plugin(plugin)
    for label, value in engine.labels.items():
        check_label(label, value)
    labels_size = sum(label_bytes(label, value) for label, value in engine.labels.items())
    if labels_size > NODE_LABELS_MAX_BYTES:
        raise Invalid(f"its engine's labels have {labels_size} bytes, {NODE_LABELS_MAX_BYTES} may be")


def check_platform(what: str, text: str) -> None:
    check_word(what, text, PLAIN, PLATFORM_MAX_BYTES)


def check_version(text: str) -> None:
    check_text("its engine's version", text, VERSION_MAX_BYTES)


def check_plugin(plugin: EnginePlugin) -> None:
    check_word("a plugin's type", plugin.type, ID, PLATFORM_MAX_BYTES)
    check_word("a plugin's name", plugin.name, WORD, PLUGIN_MAX_BYTES)


def check_label(label: str, value: str) -> None:
    check_text("the name of a label of its engine", label, NODE_LABELS_MAX_BYTES)
    check_text(f"its engine's label {shown(label)}", value, NODE_LABELS_MAX_BYTES)


def label_bytes(label: str, value: str) -> int:
    """Returns what a label counts."""
    return len(label.encode()) + len(value.encode())


def check_names(resource: GenericResource) -> None:
    """Checks what a generic resource is called; how many there are is another thing."""
    named, discrete = resource.named_resource_spec, resource.discrete_resource_spec
    if named is not None:
        check_word("a generic resource's kind", named.kind, WORD, KIND_MAX_BYTES)
        check_word("a generic resource's name", named.value, WORD, KIND_MAX_BYTES)
        if not named.value:  # it would be taken for the count of its kind
            raise Invalid(f"a generic resource of kind {shown(named.kind)} has no name")
    if discrete is not None:
        check_word("a generic resource's kind", discrete.kind, WORD, KIND_MAX_BYTES)


def _check_resources(resources: NodeResources) -> None:
    if not 0 <= resources.nano_cpus <= NANO_CPUS_MAX:
        raise Invalid(f"it has {resources.nano_cpus / 1e9:g} CPUs: there may be 0 to {CPUS_MAX}")
    if not 0 <= resources.memory_bytes <= MEMORY_MAX_BYTES:
        raise Invalid(
            f"it has {resources.memory_bytes} bytes of memory: there may be 0 to {MEMORY_MAX_BYTES}"
        )
    if len(resources.generic_resources) > KINDS_MAX:
        raise Invalid(f"it has {len(resources.generic_resources)} generic resources, {KINDS_MAX} may be")
    for each in resources.generic_resources:
        check_names(each)
        check_count(each)


def check_count(resource: GenericResource) -> None:
    """Checks how many there are of a generic resource."""
    discrete = resource.discrete_resource_spec
    if discrete is not None and not 0 <= discrete.value <= GENERIC_MAX:
        raise Invalid(f"it has {discrete.value} {shown(discrete.kind)}: there may be 0 to {GENERIC_MAX}")
