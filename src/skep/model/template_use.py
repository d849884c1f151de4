"""Where a container's spec may have templates: hostname, environment, mounts. As swarmkit's. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from skep.model.container import ContainerSpec, Mount
from skep.model.template import Fields, expand
from skep.runtime.errors import Invalid


def expanded(container: ContainerSpec, values: Fields) -> ContainerSpec:
    """Returns the spec with its templates carried out.

    Errors: `Invalid`, which says where, in Docker's words.
    """
    try:
        hostname = expand(container.hostname, values)
    except Invalid as error:
        raise Invalid(f"expanding hostname failed: {error}") from error
    return replace(
        container,
        hostname=hostname,
        env=[_variable(each, values) for each in container.env],
        mounts=[_mount(each, values) for each in container.mounts],
    )


def _variable(text: str, values: Fields) -> str:
    """Only what is behind the = is a template."""
    name, equals, value = text.partition("=")
    try:
        return name + equals + expand(value, values)
    except Invalid as error:
        raise Invalid(f'expanding env failed: expanding env "{text}": {error}') from error


def _mount(mount: Mount, values: Fields) -> Mount:
    def fill(what: str, text: str) -> str:
        try:
            return expand(text, values)
        except Invalid as error:
            raise Invalid(f'expanding mounts failed: expanding mount {what} "{text}": {error}') from error

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
