"""The Docker Engine's API as the agent uses it: a thin typed client over a unix socket.

aiohttp's errors become ours here: `Unavailable` when the engine cannot be reached, `EngineError` for what it
answers (`refusals` says what it means). `Invalid` is what cannot be asked of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
import structlog

from skep.agent.executor import podman
from skep.agent.executor.by_version import NEWEST, OLDEST, ApiVersion
from skep.agent.executor.refusals import (
    EngineError,
    is_absent,
    is_being_removed,
    is_not_connected,
    is_on_network,
)
from skep.model.container import GenericResource
from skep.model.docker_socket import is_skepds
from skep.model.node import EngineDescription, EnginePlugin, NodeDescription, NodeResources
from skep.model.service import RegistryAuth
from skep.model.spec import Platform
from skep.runtime.errors import Invalid, Unavailable, cause_of

CALL_S = 120.0  # creating a container on a busy engine with a hundred others takes seconds
LOOK_S = 30.0  # for what changes nothing: milliseconds, and seconds behind a container that is being made
CONNECT_S = 5.0  # a unix socket answers at once or its backlog is full
PULL_SILENCE_S = 300.0  # between two lines of progress; a whole pull may take as long as it needs
STOP_GRACE_MAX_S = 3600.0
LINE_MAX_BYTES = 1 << 20  # an event carries all of its container's labels
LOG_BUFFER_BYTES = 32 << 10  # twice this is read ahead of a slow reader; there may be hundreds of them

log = structlog.get_logger()

_PING = b"GET /_ping HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n"
_VERSION = re.compile(r"(\d+)\.(\d+)")

Json = dict[str, Any]


class EngineClient:
    """One engine, by its socket."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._session: aiohttp.ClientSession | None = None
        self._version: ApiVersion | None = None
        self._is_podman = False  # as the version's answer said

    async def api_version(self) -> ApiVersion:
        """Returns what is spoken with this engine: its own version, or ours where that is lower."""
        if self._version is None:
            async with await self._request("GET", "/_ping", is_versioned=False) as answer:
                said, server = answer.headers.get("Api-Version", ""), answer.headers.get("Server", "")
                if is_skepds(server):
                    raise Unavailable(
                        f"unix://{self._socket_path} (--engine) is a skepd's socket, not a Docker Engine's"
                    )
            found = _VERSION.fullmatch(said)
            spoken = (int(found[1]), int(found[2])) if found is not None else OLDEST
            self._is_podman = podman.is_podmans(server)
            self._version = min(max(spoken, OLDEST), NEWEST)
        return self._version

    async def is_podman(self) -> bool:
        """Returns whether it is Podman's service for Docker's clients."""
        await self.api_version()
        return self._is_podman

    async def ping(self, wait_s: float) -> None:
        """Asks over a connection of its own, which no other call holds up. Errors: `Unavailable` where the
        engine does not answer within `wait_s`, or not well."""
        with self._translated():
            async with asyncio.timeout(wait_s):
                reader, writer = await asyncio.open_unix_connection(self._socket_path)
                try:
                    writer.write(_PING)
                    first = await reader.readline()
                finally:
                    writer.close()
            if b" 200 " not in first:
                raise OSError(f"it answers a ping with {first.decode(errors='replace').strip()!r}")

    async def close(self) -> None:
        """Ends every call under way; the next call connects anew."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def describe(self, hostname: str) -> NodeDescription:
        """Returns what the engine says of its machine, under the node's own host name. Errors: `Unavailable`,
        also where it does not say all: one that is just starting may, a moment later."""
        info = await self._call("GET", "/info")
        try:
            return _description(info, hostname, "Podman" if await self.is_podman() else "")
        except (LookupError, AttributeError, TypeError, ValueError) as error:
            raise Unavailable(
                f"the Docker Engine at unix://{self._socket_path} does not describe its machine as it should:"
                f" {error!r} in its answer to /info"
            ) from error

    async def image(self, reference: str) -> Json | None:
        """Returns the local image; None where there is none."""
        # Quoted whole: a reference is the user's text and must stay one path segment.
        with _absence():
            return await self._call("GET", f"/images/{quote(reference, safe=':@')}/json")
        return None

    async def pull(
        self, reference: str, auth: RegistryAuth | None = None, first_word_s: float | None = None
    ) -> None:
        """Errors: `EngineError`, also for a failure that comes in the middle of the stream; `TimeoutError`
        where the registry says nothing within `first_word_s`."""
        silence = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=PULL_SILENCE_S)
        headers = {"X-Registry-Auth": auth.encoded} if auth is not None else None
        async with asyncio.timeout(first_word_s):
            answer = await self._request(
                "POST", "/images/create", {"fromImage": reference}, timeout=silence, headers=headers
            )
        async with answer:
            with self._translated():
                async for line in answer.content:
                    said = _decode(line)
                    if "error" in said:
                        raise EngineError(500, str(said["error"]))

    async def create(self, name: str, body: Json) -> str:
        """Returns the container's id."""
        found = await self._call("POST", "/containers/create", {"name": name}, body)
        for warning in found.get("Warnings") or []:
            log.warning("container.warning", container=name, warning=warning)  # it left something out
        return str(found["Id"])

    async def start(self, container: str) -> None:
        """Nothing happens where it runs already."""
        await self._call("POST", f"/containers/{container}/start")

    async def stop(self, container: str, grace_s: float | None) -> None:
        """Returns once it is stopped; nothing happens where it does not exist. None: its own grace."""
        parameters = {} if grace_s is None else {"t": str(int(min(grace_s, STOP_GRACE_MAX_S)))}
        wait_s = CALL_S + (STOP_GRACE_MAX_S if grace_s is None else min(grace_s, STOP_GRACE_MAX_S))
        with _absence():
            await self._call("POST", f"/containers/{container}/stop", parameters, wait_s=wait_s)

    async def remove(self, container: str) -> None:
        """Ends the container at once, and deletes it and its anonymous volumes; nothing happens where it is
        going already."""
        with _absence(or_going=True):
            await self._call("DELETE", f"/containers/{container}", {"force": "1", "v": "1"})

    async def inspect(self, container: str) -> Json | None:
        """Returns the container; None where there is none."""
        with _absence():
            return await self._call("GET", f"/containers/{container}/json")
        return None

    async def connect(self, network: str, container: str, endpoint: Json) -> None:
        """Puts a container on one more network; nothing happens where it is on it."""
        body = {"Container": container, "EndpointConfig": endpoint}
        try:
            await self._call("POST", f"/networks/{network}/connect", body=body)
        except EngineError as error:
            if not is_on_network(error) or not await self._is_on(network, container):
                raise

    async def disconnect(self, network: str, container: str) -> None:
        """Takes a container off a network, also one that runs; nothing happens where it is not on it."""
        try:
            body = {"Container": container, "Force": True}
            await self._call("POST", f"/networks/{network}/disconnect", body=body)
        except EngineError as error:
            if not is_not_connected(error):
                raise

    async def _is_on(self, network: str, container: str) -> bool:
        """Returns whether a container is on a network, given by its name or id. An endpoint without an id is
        only wished for."""
        found = await self.inspect(container) or {}
        networks: Json = found.get("NetworkSettings", {}).get("Networks") or {}
        return any(
            network in (name, endpoint.get("NetworkID")) and bool(endpoint.get("EndpointID"))
            for name, endpoint in networks.items()
        )

    async def networks(self, label: str) -> list[Json]:
        """Returns the networks that have the label (`name` or `name=value`)."""
        if await self.is_podman():
            found = await self._list(f"{podman.API}/networks/json", {"label": [label]})
            return [podman.network_of(each) for each in found]
        return await self._list("/networks", {"label": [label]})

    async def configuration(self, name: str) -> Json | None:
        """Returns the network of that name that is only there to be copied from; None where there is none."""
        own = await self._list("/networks", {"type": ["custom"]})
        return next((each for each in own if each["Name"] == name and each.get("ConfigOnly")), None)

    async def create_network(self, body: Json) -> None:
        if await self.is_podman() and podman.is_unmanaged(body):
            await self._call("POST", f"{podman.API}/networks/create", body=podman.network_body(body))
            return
        await self._call("POST", "/networks/create", body=body)

    async def remove_network(self, network: str) -> None:
        """Nothing happens where there is none."""
        with _absence():
            await self._call("DELETE", f"/networks/{network}")

    async def containers_on(self, network: Json) -> list[Json]:
        """Returns the containers of a network, running or not."""
        # By its id are found those that have ever been started, by its name those that were made with it.
        either = [network["Id"], network["Name"]]
        return await self._list("/containers/json", {"network": either}, all="1")

    async def _list(self, path: str, filters: Json, **parameters: str) -> list[Json]:
        parameters["filters"] = msgspec.json.encode(filters).decode()
        async with await self._request("GET", path, parameters) as answer:
            with self._translated():
                return list(msgspec.json.decode(await answer.read()))

    async def containers(self, *labels: str) -> list[Json]:
        """Returns the containers that have all the labels (`name=value`), running or not."""
        filters = msgspec.json.encode({"label": labels}).decode()
        answer = await self._request("GET", "/containers/json", {"all": "1", "filters": filters})
        async with answer:
            with self._translated():
                return list(msgspec.json.decode(await answer.read()))

    async def containers_with(self, source: str) -> list[Json]:
        """Returns the running containers that have this path of the host, or a volume of that name."""
        return await self._list("/containers/json", {"volume": [source]})

    async def events(self, label: str, kinds: list[str]) -> AsyncIterator[Json]:
        """Yields container events until the engine ends the stream. Errors: `Unavailable`.

        The first item is an empty mapping: from then on nothing is missed.
        """
        filters = msgspec.json.encode({"type": ["container"], "label": [label], "event": kinds}).decode()
        endless = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
        async with await self._request("GET", "/events", {"filters": filters}, timeout=endless) as answer:
            yield {}
            with self._translated():
                async for line in answer.content:
                    if event := _decode(line):
                        yield event

    async def logs(self, container: str, parameters: dict[str, str]) -> AsyncIterator[bytes]:
        """Yields a container's log stream as it comes; who is slow to take it holds the engine back.

        Nothing where the container is gone. Errors: `EngineError` (a log driver that cannot be read),
        `Unavailable`.
        """
        endless = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
        path = f"/containers/{container}/logs"
        with _absence(or_going=True):
            answer = await self._request("GET", path, parameters, timeout=endless, buffer=LOG_BUFFER_BYTES)
            async with answer:
                with self._translated():
                    async for data in answer.content.iter_any():
                        yield data

    async def stats(self, container: str) -> Json | None:
        """Returns what a container has used by now, None where it is gone. Errors: `Unavailable`."""
        with _absence(or_going=True):
            parameters = {"stream": "false", "one-shot": "true"}
            return await self._call("GET", f"/containers/{container}/stats", parameters)
        return None

    async def _call(
        self,
        method: str,
        path: str,
        parameters: dict[str, str] | None = None,
        body: Json | None = None,
        wait_s: float = CALL_S,
    ) -> Json:
        wait_s = LOOK_S if method == "GET" else wait_s
        timeout = aiohttp.ClientTimeout(total=wait_s, sock_connect=CONNECT_S)
        async with await self._request(method, path, parameters, body, timeout) as answer:
            with self._translated():
                return _decode(await answer.read())

    async def _request(
        self,
        method: str,
        path: str,
        parameters: dict[str, str] | None = None,
        body: Json | None = None,
        timeout: aiohttp.ClientTimeout = aiohttp.ClientTimeout(total=LOOK_S, sock_connect=CONNECT_S),
        headers: dict[str, str] | None = None,
        buffer: int = LINE_MAX_BYTES,
        is_versioned: bool = True,
    ) -> aiohttp.ClientResponse:
        if is_versioned and not path.startswith(podman.API):
            major, minor = await self.api_version()
            path = f"/v{major}.{minor}{path}"
        data = None if body is None else _encode(body)  # what is wrong with it is not the engine's doing
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # How many calls run at once is the executor's to say, by kind of call.
                connector=aiohttp.UnixConnector(self._socket_path, limit=0),
            )
        with self._translated():
            answer = await self._session.request(
                method,
                f"http://engine{path}",
                params=parameters,
                data=data,
                headers={**(headers or {}), **({} if body is None else {"Content-Type": "application/json"})},
                timeout=timeout,
                read_bufsize=buffer,
            )
            if answer.status < 400:
                return answer
            async with answer:
                raw = await answer.read()
        message = _decode(raw).get("message") or raw.decode(errors="replace")[:500]
        raise EngineError(answer.status, str(message))

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        # ValueError: a line above LINE_MAX_BYTES, or a list that is not JSON.
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            self._version = None  # it may be replaced by another
            where = f"the Docker Engine at unix://{self._socket_path}"
            if isinstance(error, TimeoutError):
                raise Unavailable(f"{where} does not answer") from error
            raise Unavailable(f"{where} cannot be reached: {cause_of(error)}. Is it running?") from error


@contextlib.contextmanager
def _absence(or_going: bool = False) -> Iterator[None]:
    """Ends the block quietly where the engine answers that the object is not there, or is being removed."""
    try:
        yield
    except EngineError as error:
        if not is_absent(error) and not (or_going and is_being_removed(error)):
            raise


def _encode(body: Json) -> bytes:
    """Errors: `Invalid` for what cannot be said to any engine; trying again would not help."""
    try:
        return msgspec.json.encode(body)
    except (ValueError, TypeError) as error:
        raise Invalid(f"what the Docker Engine is asked for cannot be written as JSON: {error}") from error


def _decode(raw: bytes) -> Json:
    try:
        found = msgspec.json.decode(raw) if raw.strip() else {}
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _description(info: Json, hostname: str, product: str) -> NodeDescription:
    version = f"{info['ServerVersion']} ({product})" if product else info["ServerVersion"]
    plugins = [
        EnginePlugin(type=kind, name=name)
        for kind in ("Log", "Network", "Volume")
        for name in sorted(info["Plugins"].get(kind) or [])
    ]
    labels = dict(label.partition("=")[::2] for label in info.get("Labels") or [])
    return NodeDescription(
        hostname=hostname,
        platform=Platform(architecture=info["Architecture"], os=info["OSType"]),
        resources=NodeResources(
            nano_cpus=int(info["NCPU"]) * 1_000_000_000,
            memory_bytes=int(info["MemTotal"]),
            generic_resources=msgspec.convert(info.get("GenericResources") or [], list[GenericResource]),
        ),
        engine=EngineDescription(engine_version=version, labels=labels, plugins=plugins),
    )
