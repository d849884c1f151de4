"""An image's digest, found out once so that all nodes run the same."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import msgspec
import structlog
from aiohttp import ClientError
from msgspec.structs import replace

from skep.api.engine import LocalEngine
from skep.model.spec import ServiceSpec
from skep.runtime.errors import Unavailable
from skep.runtime.unreadable import UNREADABLE

log = structlog.get_logger()

REGISTRY_S = 2.0  # a registry that does not answer by then is none; Docker waits ten seconds and more


async def with_digest(engine: LocalEngine, spec: ServiceSpec, auth: str) -> tuple[ServiceSpec, list[str]]:
    """Returns the spec with its image pinned to what its tag is now, and Docker's warning where the registry
    does not say. `auth` is the client's, as it came. Errors: none; within `REGISTRY_S`."""
    container = spec.task_template.container_spec
    if container is None or not container.image or "@" in container.image:
        return spec, []
    digest = await _digest(engine, container.image, auth)
    if not digest:
        return spec, [_warning(container.image)]
    image = container.image
    if ":" not in image.rsplit("/", 1)[-1]:
        image += ":latest"
    container = replace(container, image=f"{image}@{digest}")
    return replace(spec, task_template=replace(spec.task_template, container_spec=container)), []


async def _digest(engine: LocalEngine, image: str, auth: str) -> str:
    path = f"/v1.30/distribution/{quote(image, safe='/:')}/json"
    headers = {"X-Registry-Auth": auth} if auth else {}
    try:
        async with asyncio.timeout(REGISTRY_S):
            answer = await engine.request("GET", path, headers=headers)
            async with answer:
                found = msgspec.json.decode(await answer.read())
        if answer.status == 200:
            return str(found["Descriptor"]["digest"])
        log.info("image.not_pinned", image=image, error=str(found.get("message", "")))
    except (Unavailable, TimeoutError, ClientError, *UNREADABLE, LookupError, TypeError) as error:
        log.info("image.not_pinned", image=image, error=str(error) or type(error).__name__)
    return ""


def _warning(image: str) -> str:
    """Docker's text, broken into lines as there."""
    return (
        f"image {image} could not be accessed on a registry to record\nits digest. Each node will access"
        f" {image} independently,\npossibly leading to different nodes running different\nversions of the"
        " image.\n"
    )
