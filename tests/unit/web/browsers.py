"""A dashboard before a real API, and browsers of it: what they send is said by the test."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import ClientResponse, ClientSession, CookieJar

from skep.web.dashboard import Dashboard
from skep.web.swarm_api import SwarmApi
from tests.api_process import Answer, Api, running_api


class Browser:
    """Keeps cookies, and sends what a browser does for a page of the dashboard's own."""

    def __init__(self, dashboard: Dashboard, session: ClientSession) -> None:
        self.dashboard = dashboard
        self.session = session
        self.origin = re.sub("/open.*", "", dashboard.link)
        self.csrf = ""

    @property
    def cookie(self) -> str:
        return "; ".join(f"{each.key}={each.value}" for each in self.session.cookie_jar)

    async def open(self, link: str = "") -> Answer:
        async with self.session.get(link or self.dashboard.link) as answer:
            opened = Answer(answer.status, await answer.read(), answer.headers)
        if opened.status == 200:
            self.csrf = (await self.ask("GET", "/session")).json["csrf"]
        return opened

    async def stream(self, path: str, **headers: str) -> ClientResponse:
        return await self.session.get(self.origin + path, headers=headers)

    async def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if method == "POST":
            given = {"Origin": self.origin, "X-Skep-CSRF": self.csrf, **given}
        async with self.session.request(method, self.origin + path, data=body, headers=given) as answer:
            return Answer(answer.status, await answer.read(), answer.headers)


class Shown:
    """A running dashboard. `opened` counts the links that were used."""

    def __init__(self, swarm: SwarmApi, read_only: bool) -> None:
        self.opened = 0
        self.dashboard = Dashboard(swarm, read_only, self._was_opened)

    def _was_opened(self) -> None:
        self.opened += 1


@asynccontextmanager
async def browser(shown: Shown, opens: bool = True) -> AsyncIterator[Browser]:
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:
        made = Browser(shown.dashboard, session)
        if opens:
            assert (await made.open()).status == 200
        yield made


@asynccontextmanager
async def shown_swarm(read_only: bool = False) -> AsyncIterator[tuple[Api, Shown]]:
    async with running_api() as api:
        swarm = SwarmApi([f"unix://{api.socket}"])
        shown = Shown(swarm, read_only)
        await shown.dashboard.listen(0)
        try:
            yield api, shown
        finally:
            await shown.dashboard.close()
            await swarm.close()
