"""What is asked of DigitalOcean's API: droplets, what is done to them, keys, what can be had where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from skep.machine.drivers import digitalocean_objects as objects
from skep.machine.drivers.digitalocean_http import DigitalOceanHttp
from skep.machine.drivers.digitalocean_objects import (
    AccountKey,
    Droplet,
    DropletAction,
    DropletImage,
    DropletRegion,
    DropletSize,
)
from skep.machine.drivers.digitalocean_rules import next_page
from skep.runtime.errors import NotFound, Unavailable

PER_PAGE = 200  # the API's own bound
PAGES_MAX = 100  # 20,000 droplets: no account has so many


class _Page(Protocol):
    @property
    def links(self) -> objects.AnswerLinks: ...


PageOf = TypeVar("PageOf", bound=_Page)
Item = TypeVar("Item")


class DigitalOceanApi:
    """Errors of all: `Denied`, `NotFound`, `ApiRefusal`, `Unavailable`; `OutcomeUnknown` of what makes or
    begins something."""

    def __init__(self, http: DigitalOceanHttp) -> None:
        self._http = http

    async def droplet(self, number: int) -> Droplet:
        return (await self._http.get(f"/v2/droplets/{number}", objects.DropletAnswer)).droplet

    async def droplets(self, tag: str = "") -> tuple[Droplet, ...]:
        """Returns those of the account, or those that have the tag, without those with GPUs."""
        query = f"tag_name={quote(tag, safe='')}&" if tag else ""
        return await self._all(f"/v2/droplets?{query}", objects.DropletsAnswer, lambda page: page.droplets)

    async def order(self, order: dict[str, Any]) -> Droplet:
        """Has a droplet made."""
        return (await self._http.post("/v2/droplets", order, objects.DropletAnswer)).droplet

    async def remove_droplet(self, number: int) -> bool:
        """Returns whether there was one."""
        return await self._remove(f"/v2/droplets/{number}")

    async def begin(self, number: int, action: dict[str, Any]) -> DropletAction:
        """Has something be done to a droplet."""
        path = f"/v2/droplets/{number}/actions"
        return (await self._http.post(path, action, objects.ActionAnswer)).action

    async def action(self, number: int, action: int) -> DropletAction:
        path = f"/v2/droplets/{number}/actions/{action}"
        return (await self._http.get(path, objects.ActionAnswer)).action

    async def add_key(self, name: str, public_key: str) -> AccountKey:
        body = {"name": name, "public_key": public_key}
        return (await self._http.post("/v2/account/keys", body, objects.KeyAnswer)).ssh_key

    async def key(self, fingerprint: str) -> AccountKey:
        """By its fingerprint: of lists of keys ten can be had in a minute."""
        return (await self._http.get(f"/v2/account/keys/{fingerprint}", objects.KeyAnswer)).ssh_key

    async def remove_key(self, key: int | str) -> bool:
        """Returns whether there was one. `key`: its number or fingerprint."""
        return await self._remove(f"/v2/account/keys/{key}")

    async def remove_tag(self, tag: str) -> bool:
        """Takes it from all that have it. Returns whether there was one."""
        return await self._remove(f"/v2/tags/{quote(tag, safe='')}")

    async def sizes(self) -> tuple[DropletSize, ...]:
        return await self._all("/v2/sizes?", objects.SizesAnswer, lambda page: page.sizes)

    async def regions(self) -> tuple[DropletRegion, ...]:
        return await self._all("/v2/regions?", objects.RegionsAnswer, lambda page: page.regions)

    async def image(self, image: str) -> DropletImage | None:
        """By its slug or number; None where there is none."""
        try:
            return (await self._http.get(f"/v2/images/{quote(image, safe='')}", objects.ImageAnswer)).image
        except NotFound:
            return None

    async def _all(
        self, path: str, kind: type[PageOf], items: Callable[[PageOf], tuple[Item, ...]]
    ) -> tuple[Item, ...]:
        found: list[Item] = []
        page = 1
        for _ in range(PAGES_MAX):
            answer = await self._http.get(f"{path}page={page}&per_page={PER_PAGE}", kind)
            found.extend(items(answer))
            page = next_page(answer.links.pages.next if answer.links.pages else "", page)
            if not page:
                return tuple(found)
        raise Unavailable(f"a list has more than {PAGES_MAX} pages")

    async def _remove(self, path: str) -> bool:
        try:
            await self._http.delete(path)
        except NotFound:
            return False
        return True
