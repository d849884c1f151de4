"""One account at DigitalOcean, asked by a command for all of its machines: what several want to know at the
same time is asked once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from skep.machine.drivers.digitalocean_api import DigitalOceanApi
from skep.machine.drivers.digitalocean_http import BURST, RATE, DigitalOceanHttp
from skep.machine.drivers.digitalocean_objects import Droplet, DropletDetails, DropletRegion, DropletSize
from skep.machine.drivers.digitalocean_rules import AccountToken, check_fits
from skep.machine.drivers.pace import Pace
from skep.runtime.errors import NotFound, SkepError, Unavailable

GATHER_S = 0.05  # those who begin together ask within that
SINGLY_MAX = 3  # so many droplets are asked for one by one; of more, a list has 200 on a page
SHOWN_S = 10.0  # how old a list may be that only is shown
POLL_S = 3.0  # all look at the same moments, so that one list is for all


class DigitalOceanAccount:
    """Of one event loop."""

    def __init__(self, url: str, token: AccountToken) -> None:
        self._url, self._token = url, token
        self.token_source = token.source
        self._pace = Pace(RATE, BURST)
        self._turn = asyncio.Lock()
        self._sizes: dict[str, DropletSize] = {}
        self._regions: dict[str, DropletRegion] = {}
        self._fits: dict[tuple[str, str, str], DropletSize] = {}
        self._looking: _Looking | None = None
        self._listed: tuple[float, dict[int, Droplet]] = float("-inf"), {}

    @contextlib.asynccontextmanager
    async def api(self) -> AsyncIterator[DigitalOceanApi]:
        async with DigitalOceanHttp(self._url, self._token, self._pace) as http:
            yield DigitalOceanApi(http)

    async def check_fits(self, wanted: DropletDetails) -> DropletSize:
        """Returns the size that is wanted. Errors: `Invalid` where it, the region and the image are not all
        there, or do not go together; as of the API."""
        wish = (wanted.size, wanted.region, wanted.image)
        async with self._turn:
            if wish not in self._fits:
                async with self.api() as api:
                    if not self._sizes:
                        self._regions = {each.slug: each for each in await api.regions()}
                        self._sizes = {each.slug: each for each in await api.sizes()}
                    image = await api.image(wanted.image)
                size = self._sizes.get(wanted.size)
                check_fits(wanted, size, self._regions.get(wanted.region), image)
                assert size is not None, "or it does not fit"
                self._fits[wish] = size
            return self._fits[wish]

    async def shown(self, number: int) -> Droplet:
        """Returns the droplet as it is, or was a moment ago: `ls` asks for 2,300, some of them at a time.
        Errors: as of `droplet`."""
        at, listed = self._listed
        if number in listed and asyncio.get_running_loop().time() - at < SHOWN_S:
            return listed[number]
        return await self.droplet(number)

    async def droplet(self, number: int) -> Droplet:
        """Returns the droplet as it is now. Errors: `NotFound`; as of the API."""
        if self._looking is None:
            self._looking = _Looking(set(), asyncio.create_task(self._look()))
        looking = self._looking
        looking.numbers.add(number)
        found = (await asyncio.shield(looking.task))[number]
        if isinstance(found, SkepError):
            raise found
        return found

    async def _look(self) -> dict[int, Droplet | SkepError]:
        await asyncio.sleep(GATHER_S)
        assert self._looking is not None, "it began this"
        numbers, self._looking = self._looking.numbers, None
        found: dict[int, Droplet | SkepError] = {}
        async with self.api() as api:
            if len(numbers) > SINGLY_MAX:
                listed = {each.id: each for each in await api.droplets()}
                self._listed = asyncio.get_running_loop().time(), listed
                found.update(listed)
            for number in numbers - found.keys():  # one with a GPU is in no list, nor is one that is new
                try:
                    found[number] = self._listed[1][number] = await api.droplet(number)
                except NotFound:
                    found[number] = NotFound(f"there is no droplet {number} any more")
                except Unavailable as error:
                    found[number] = error
        return found

    async def poll(self) -> None:
        """Waits for the next moment to look."""
        await asyncio.sleep(POLL_S - asyncio.get_running_loop().time() % POLL_S)


class _Looking:
    """Who asks meanwhile adds a number."""

    def __init__(self, numbers: set[int], task: asyncio.Task[dict[int, Droplet | SkepError]]) -> None:
        self.numbers, self.task = numbers, task
