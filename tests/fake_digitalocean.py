"""DigitalOcean's API, as far as skep speaks to it: https://docs.digitalocean.com/reference/api

What it does is taken from the public description of version 2 and from answers that people have shown: an account with
droplets that take a while to run and to have an address, one action at a time for each, pages, limits. `faults` has it
fail: each is for one request that fits it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from aiohttp import web

TOKEN = "dop_v1_" + "5ec7e7" * 10
Json = dict[str, Any]
SIZES = {"s-1vcpu-1gb": 25, "s-2vcpu-4gb": 80, "s-8vcpu-16gb": 320}
REGIONS = ("nyc3", "ams3", "fra1")
IMAGES = {"debian-13-x64": 7, "windows": 300}


class Fault:
    """`what`: lose (it is done, and not answered), drop (neither), garbage, huge, elsewhere, or a status. `times`
    requests have it."""

    def __init__(self, method: str, path: str, what: str, times: int = 1, **headers: str) -> None:
        self.method, self.path, self.what, self.times, self.headers = method, path, what, times, headers

    def fits(self, request: web.Request) -> bool:
        return self.times > 0 and self.method == request.method and request.path.startswith(self.path)


class FakeDroplet:
    """`deaf` heeds no shutdown; `looks` have been had at it."""

    def __init__(self, number: int, order: Json, address: str) -> None:
        self.number, self.order, self.address = number, order, address
        self.status, self.size, self.looks = "new", order["size"], 0
        self.tags = list(order["tags"])
        self.deaf = False
        self.actions: dict[int, Json] = {}

    @property
    def busy(self) -> bool:
        return any(each["status"] == "in-progress" for each in self.actions.values())


class FakeDigitalOcean:
    """`requests` are methods and paths with their queries; `own_keys` are what a new droplet lets in, given to
    `boot` with its name: it returns its address."""

    def __init__(self, boot: Callable[[str, list[str]], str] | None = None) -> None:
        self.switch: Callable[[bool], None] = lambda on: None  # called when a droplet goes on or off
        self.boot = boot or (lambda name, keys: f"203.0.113.{len(self.droplets) + 10}")
        self.url = ""
        self.requests: list[str] = []
        self.tokens: set[str] = set()
        self.faults: list[Fault] = []
        self.droplets: dict[int, FakeDroplet] = {}
        self.keys: dict[int, Json] = {}
        self.next_link = "{url}"  # where the next page is said to be
        self.page_max = 200
        self.runs_after, self.address_after, self.action_looks = 1, 2, 1
        self.fails: set[str] = set()  # actions that end errored
        self.per_minute = 0  # requests, where it is not 0
        self._number = 1000
        self._recent: list[float] = []

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._middleware])
        route = app.router.add_route
        route("GET", "/v2/droplets", self._list)
        route("POST", "/v2/droplets", self._order)
        route("GET", "/v2/droplets/{id}", self._get)
        route("DELETE", "/v2/droplets/{id}", self._remove)
        route("POST", "/v2/droplets/{id}/actions", self._act)
        route("GET", "/v2/droplets/{id}/actions/{action}", self._action)
        route("POST", "/v2/account/keys", self._add_key)
        route("GET", "/v2/account/keys/{id}", self._get_key)
        route("DELETE", "/v2/account/keys/{id}", self._remove_key)
        route("DELETE", "/v2/tags/{tag}", self._remove_tag)
        route("GET", "/v2/sizes", self._sizes)
        route("GET", "/v2/regions", self._regions)
        route("GET", "/v2/images/{id}", self._image)
        return app

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[FakeDigitalOcean]:
        """Listens on loopback."""
        runner = web.AppRunner(self.app(), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[FakeDigitalOcean]:
        """The same for tests without a loop."""
        ready, end = threading.Event(), asyncio.Event()
        loop = asyncio.new_event_loop()

        async def run() -> None:
            async with self.running():
                ready.set()
                await end.wait()

        thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
        thread.start()
        assert ready.wait(10)
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(end.set)
            thread.join(10)
            loop.close()

    def count(self, method: str, path: str) -> int:
        return sum(each.startswith(f"{method} {path}") for each in self.requests)

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path_qs}")
        self.tokens.add(request.headers.get("Authorization", ""))
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return error(401, "unauthorized", "Unable to authenticate you")
        if (wait_s := self._limited()) > 0:
            answer = error(429, "too_many_requests", "API Rate limit exceeded.")
            answer.headers["Retry-After"] = str(int(wait_s) + 1)
            return answer
        fault = next((each for each in self.faults if each.fits(request)), None)
        if fault is None:
            return await self._handled(request, handler)
        fault.times -= 1
        if fault.what in ("lose", "drop"):
            if fault.what == "lose":
                await handler(request)
            assert request.transport is not None
            request.transport.abort()
            raise web.HTTPInternalServerError
        return self._failed(fault)

    async def _handled(self, request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
        answer: web.StreamResponse = await handler(request)
        answer.headers["RateLimit-Limit"] = "5000"
        answer.headers["RateLimit-Remaining"] = str(5000 - len(self.requests))
        answer.headers["RateLimit-Reset"] = str(int(time.time()) + 3600)
        return answer

    def _failed(self, fault: Fault) -> web.Response:
        headers = {name.replace("_", "-"): value for name, value in fault.headers.items()}
        if fault.what == "garbage":
            return web.Response(text="<html>\x1b[31mLoad balancer</html>", headers=headers)
        if fault.what == "huge":
            return web.Response(body=b"[" * (17 << 20), headers=headers)
        if fault.what == "elsewhere":
            return web.Response(status=307, headers={"Location": "http://127.0.0.1:9/v2/droplets"})
        answer = error(int(fault.what), "fault", "Server was unable\x1b[31m to give you a response.")
        answer.headers.update(headers)
        return answer

    def _limited(self) -> float:
        """Returns seconds until the next request is taken."""
        now = time.monotonic()
        self._recent = [each for each in self._recent if now - each < 60]
        if self.per_minute and len(self._recent) >= self.per_minute:
            return 60 - (now - self._recent[0])
        self._recent.append(now)
        return 0.0

    async def _list(self, request: web.Request) -> web.Response:
        tag = request.query.get("tag_name")
        found = [each for each in self.droplets.values() if tag is None or tag in each.tags]
        return self._page(request, "droplets", [self._shown(each) for each in found])

    async def _get(self, request: web.Request) -> web.Response:
        droplet = self.droplets.get(int(request.match_info["id"]))
        return web.json_response({"droplet": self._shown(droplet)}) if droplet else not_found()

    def _shown(self, droplet: FakeDroplet) -> Json:
        droplet.looks += 1
        if droplet.status == "new" and droplet.looks > self.runs_after:
            droplet.status = "active"
        addresses = [
            {"ip_address": "10.132.0.2", "netmask": "255.255.0.0", "gateway": "10.132.0.1", "type": "private"}
        ]
        if droplet.looks > self.address_after:
            addresses.append(
                {"ip_address": droplet.address, "netmask": "x", "gateway": "x", "type": "public"}
            )
        return {
            "id": droplet.number,
            "name": droplet.order["name"],
            "status": droplet.status,
            "locked": droplet.busy,
            "size_slug": droplet.size,
            "networks": {"v4": addresses, "v6": []},
            "tags": droplet.tags,
            "region": {"slug": droplet.order["region"], "sizes": list(SIZES)},
            "created_at": "2026-11-30T18:00:00Z",
        }

    async def _order(self, request: web.Request) -> web.Response:
        order = await request.json()
        if order["size"] not in SIZES or order["region"] not in REGIONS:
            return refused("You specified an invalid size for Droplet creation.")
        if any(each not in self.keys for each in order["ssh_keys"]):
            return refused("99 are invalid key identifiers for Droplet creation.")
        self._number += 1
        keys = [self.keys[each]["public_key"] for each in order["ssh_keys"]]
        made = FakeDroplet(self._number, order, self.boot(order["name"], keys))
        self.droplets[self._number] = made
        shown = {**self._shown(made), "status": "new", "networks": {"v4": [], "v6": []}}
        return web.json_response({"droplet": shown, "links": {"actions": []}}, status=202)

    async def _remove(self, request: web.Request) -> web.Response:
        droplet = self.droplets.get(int(request.match_info["id"]))
        if droplet is None:
            return not_found()
        if droplet.busy:
            return refused("Droplet already has a pending event.")
        del self.droplets[droplet.number]
        return web.Response(status=204)

    async def _act(self, request: web.Request) -> web.Response:
        droplet = self.droplets.get(int(request.match_info["id"]))
        if droplet is None:
            return not_found()
        asked = await request.json()
        if droplet.busy:
            return refused("Droplet already has a pending event.")
        if asked["type"] == "resize":
            if droplet.status != "off":
                return refused("Droplet is currently on. Please power it off to run this event.")
            if asked["size"] not in SIZES:
                return refused("Size is invalid for this Droplet.")
        self._number += 1
        action = {
            "id": self._number,
            "status": "in-progress",
            "type": asked["type"],
            "asked": asked,
            "looks": 0,
        }
        droplet.actions[self._number] = action
        return web.json_response({"action": shown_action(action)}, status=201)

    async def _action(self, request: web.Request) -> web.Response:
        droplet = self.droplets.get(int(request.match_info["id"]))
        action = droplet.actions.get(int(request.match_info["action"])) if droplet else None
        if droplet is None or action is None:
            return not_found()
        action["looks"] += 1
        if action["status"] == "in-progress" and action["looks"] > self.action_looks:
            if action["type"] in self.fails:
                action["status"] = "errored"
            else:
                action["status"] = "completed"
                self._carry_out(droplet, action["asked"])
        return web.json_response({"action": shown_action(action)})

    def _carry_out(self, droplet: FakeDroplet, asked: Json) -> None:
        kind, before = asked["type"], droplet.status
        if kind in ("power_on", "reboot"):
            droplet.status = "active"
        elif kind == "power_off" or (kind == "shutdown" and not droplet.deaf):
            droplet.status = "off"
        elif kind == "resize":
            assert asked["disk"] is False, "it could not become smaller again"
            droplet.size = asked["size"]
        if droplet.status != before:
            self.switch(droplet.status == "active")

    async def _add_key(self, request: web.Request) -> web.Response:
        asked = await request.json()
        fingerprint = hashlib.md5(base64.b64decode(asked["public_key"].split()[1])).digest().hex(":")
        if any(each["fingerprint"] == fingerprint for each in self.keys.values()):
            return refused("SSH Key is already in use on your account")
        self._number += 1
        key = {"id": self._number, "fingerprint": fingerprint, **asked}
        self.keys[self._number] = key
        return web.json_response({"ssh_key": key}, status=201)

    def _key(self, request: web.Request) -> Json | None:
        which = request.match_info["id"]
        return next(
            (each for each in self.keys.values() if which in (str(each["id"]), each["fingerprint"])), None
        )

    async def _get_key(self, request: web.Request) -> web.Response:
        key = self._key(request)
        return web.json_response({"ssh_key": key}) if key else not_found()

    async def _remove_key(self, request: web.Request) -> web.Response:
        key = self._key(request)
        if key is None:
            return not_found()
        del self.keys[key["id"]]
        return web.Response(status=204)

    async def _remove_tag(self, request: web.Request) -> web.Response:
        having = [each for each in self.droplets.values() if request.match_info["tag"] in each.tags]
        for each in having:
            each.tags.remove(request.match_info["tag"])
        return web.Response(status=204) if having else not_found()

    async def _sizes(self, request: web.Request) -> web.Response:
        shown = [
            {
                "slug": slug,
                "memory": 1024,
                "vcpus": 1,
                "disk": disk,
                "transfer": 1.0,
                "price_monthly": 6.0,
                "price_hourly": 0.00893,
                "regions": [*REGIONS] if slug != "s-8vcpu-16gb" else ["ams3"],
                "available": True,
                "description": "Basic",
            }
            for slug, disk in SIZES.items()
        ]
        return self._page(request, "sizes", shown)

    async def _regions(self, request: web.Request) -> web.Response:
        shown = [
            {"slug": each, "name": each, "available": each != "fra1", "features": []} for each in REGIONS
        ]
        return self._page(request, "regions", shown)

    async def _image(self, request: web.Request) -> web.Response:
        slug = request.match_info["id"]
        if slug not in IMAGES:
            return not_found()
        shown = {
            "id": 1,
            "slug": slug,
            "regions": [*REGIONS],
            "min_disk_size": IMAGES[slug],
            "status": "available",
        }
        return web.json_response({"image": shown})

    def _page(self, request: web.Request, name: str, items: list[Json]) -> web.Response:
        page, size = (
            int(request.query.get("page", 1)),
            min(int(request.query.get("per_page", 20)), self.page_max),
        )
        links: Json = {}
        if page * size < len(items):
            where = self.next_link.format(url=self.url)
            links = {"pages": {"next": f"{where}{request.path}?page={page + 1}&per_page={size}", "last": "x"}}
        shown = items[(page - 1) * size : page * size]
        return web.json_response({name: shown, "links": links, "meta": {"total": len(items)}})


def shown_action(action: Json) -> Json:
    return {
        "id": action["id"],
        "status": action["status"],
        "type": action["type"],
        "resource_type": "droplet",
    }


def error(status: int, name: str, message: str) -> web.Response:
    body = json.dumps({"id": name, "message": message, "request_id": "4d9d8375"})
    return web.Response(status=status, text=body, content_type="application/json")


def refused(message: str) -> web.Response:
    return error(422, "unprocessable_entity", message)


def not_found() -> web.Response:
    return error(404, "not_found", "The resource you were accessing could not be found.")
