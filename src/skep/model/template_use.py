"""Where a container's spec may have templates: hostname, environment, mounts. As swarmkit's. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from skep.model.container import ContainerSpec, Mount
from skep.model.template import Budget, Fields, expand
from skep.runtime.errors import Invalid

SHOWN_MAX_CHARS = 500  # of what a user wrote, in an error


def has_templates(container: ContainerSpec) -> bool:
    """True where `expanded` has work to do, roughly: False says that there is none."""
    texts = [container.hostname, *container.env]
    for mount in container.mounts:
        texts += mount.source, mount.target
        volume = mount.volume_options
        if volume is not None:
            texts += volume.labels.values()
            texts += volume.driver_config.options.values() if volume.driver_config is not None else ()
    return any("{{" in text for text in texts)


def expanded(container: ContainerSpec, values: Fields, budget: Budget) -> ContainerSpec:
    """Returns the spec with its templates carried out, with what they may take all together.

    Errors: `Invalid`, which says where, in Docker's words.
    """
    if not has_templates(container):
        return container
    try:
        hostname = expand(container.hostname, values, budget=budget)
    except Invalid as error:
        raise Invalid(f"expanding hostname failed: {error}") from error
    return replace(
        container,
        hostname=hostname,
        env=[_variable(each, values, budget) for each in container.env],
        mounts=[_mount(each, values, budget) for each in container.mounts],
    )


def _variable(text: str, values: Fields, budget: Budget) -> str:
    """Only what is behind the = is a template."""
    name, equals, value = text.partition("=")
    try:
        return name + equals + expand(value, values, budget=budget)
    except Invalid as error:
        raise Invalid(f'expanding env failed: expanding env "{text[:SHOWN_MAX_CHARS]}": {error}') from error


def _mount(mount: Mount, values: Fields, budget: Budget) -> Mount:
    def fill(what: str, text: str) -> str:
        try:
            return expand(text, values, budget=budget)
        except Invalid as error:
            raise Invalid(
                f'expanding mounts failed: expanding mount {what} "{text[:SHOWN_MAX_CHARS]}": {error}'
            ) from error

    found = replace(mount, source=fill("source", mount.source), target=fill("target", mount.target))
    if mount.volume_options is None:
        return found
    volume = mount.volume_options
    labels = {name: fill("label", value) for name, value in volume.labels.items()}
    volume = replace(volume, labels=labels)
    if volume.driver_config is not None:
        driver = volume.driver_config
        options = {name: fill("option", value) for name, value in driver.options.items()}
        volume = replace(volume, driver_config=replace(driver, options=options))
    return replace(found, volume_options=volume)
