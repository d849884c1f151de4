"""Several daemons of one swarm: what one cannot answer, away or no manager at the moment, another does."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from skep.client.api import ApiClient, ApiError, check_manager
from skep.runtime.errors import SkepError, Unavailable

CALL_S = 20.0  # a manager waits 15 s for a leader itself
ROUND_S = 0.3  # between rounds of all hosts
PATIENCE_S = 60.0  # a change of leader takes 3 s, a manager that comes up 10; then something is wrong
STALE = "update out of sequence"

Spec = dict[str, Any]


class Hosts:
    """`urls` are tried in turn, each for `call_s`; the one that answered last is asked first. `tls`: as of
    `ApiClient`."""

    def __init__(
        self,
        urls: Sequence[str],
        patience_s: float = PATIENCE_S,
        tls: ssl.SSLContext | None = None,
        call_s: float = CALL_S,
    ) -> None:
        self._clients = [ApiClient(url, call_s, tls=tls) for url in urls]
        self._patience_s = patience_s

    async def close(self) -> None:
        for client in self._clients:
            await client.close()

    async def node_ids(self) -> dict[str, str]:
        """Returns which node is behind each address; an empty text where nobody answers or is in no swarm."""
        found = {}
        for client in self._clients:
            try:
                info = await client.json("GET", "/info")
                found[client.url] = str(info.get("Swarm", {}).get("NodeID", ""))
            except SkepError:
                found[client.url] = ""
        return found

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """Returns the answer's JSON. Errors: `ApiError`; `Unavailable` where no host answers for long."""
        deadline = asyncio.get_running_loop().time() + self._patience_s
        while True:
            failures = []
            for client in list(self._clients):
                try:
                    answer = await client.json(method, path, body)
                except (Unavailable, ApiError) as error:
                    if isinstance(error, ApiError) and error.status != 503:
                        raise
                    failures.append(str(error) if client.url in str(error) else f"{client.url}: {error}")
                    continue
                self._clients.remove(client)
                self._clients.insert(0, client)
                return answer
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable("no manager answers for the swarm: " + "; ".join(failures))
            await asyncio.sleep(ROUND_S)

    async def nodes(self) -> list[dict[str, Any]]:
        """Errors: as of `call`; `Unavailable` also where these are no nodes."""
        found = await self.call("GET", "/nodes")
        if not isinstance(found, list):
            raise Unavailable("the answer to /nodes is no list: is it a Docker Engine or skepd?")
        return found

    async def change_node(self, node_id: str, change: Callable[[Spec], Spec]) -> None:
        """Writes a node's spec as `change` makes it of the present one, whoever else writes; nothing where
        that is the same. What `change` raises goes through. Errors: `ApiError`, `Unavailable`."""
        while True:
            node = await self.call("GET", f"/nodes/{node_id}")
            before = node["Spec"]
            after = change({**before, "Labels": dict(before.get("Labels") or {})})
            if after == {**before, "Labels": before.get("Labels") or {}}:
                return
            version = node["Version"]["Index"]
            try:
                await self.call("POST", f"/nodes/{node_id}/update?version={version}", after)
                return
            except ApiError as error:
                if STALE not in str(error):
                    raise


async def check_host(url: str) -> None:
    """Says now what is wrong from the start and no waiting mends: no daemon, no right to ask, a worker. A
    manager answers this without a leader. Errors: `Invalid`, `Unavailable`, `ApiError`."""
    client = ApiClient(url, CALL_S)
    try:
        check_manager(await client.json("GET", "/info"), url)
    finally:
        await client.close()
