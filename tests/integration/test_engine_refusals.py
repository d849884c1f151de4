"""What a real engine refuses is taken for what it means: the client's calls that overlook some refusals."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest

from skep.agent.executor.engine import EngineClient, Json
from skep.agent.executor.refusals import EngineError, is_name_taken, is_network_gone, is_overlap
from skep.cli.explain import ask
from skep.runtime.errors import Unavailable

pytestmark = pytest.mark.engine


class Things:
    """Containers and a network of one test on an engine."""

    def __init__(self, socket: str, image: str) -> None:
        self.engine = EngineClient(socket)
        self.mark = "refusals" + secrets.token_hex(4)
        number = secrets.randbelow(200)
        self.subnet, self.address = f"10.214.{number}.0/24", f"10.214.{number}.9"
        self._image = image

    async def container(self, name: str, network: str = "", *command: str) -> str:
        """Returns the id of a container, created."""
        body: Json = {"Image": self._image, "Cmd": [*(command or ("sleep", "600"))]}
        body["Labels"] = {"test": self.mark}
        if network:
            body["HostConfig"] = {"NetworkMode": network}
        return await self.engine.create(f"{self.mark}-{name}", body)

    async def network(self, name: str = "") -> None:
        ipam = {"Config": [{"Subnet": self.subnet}]}
        labels = {"test": self.mark}
        body = {"Name": name or self.mark, "CheckDuplicate": True, "Labels": labels, "IPAM": ipam}
        await self.engine.create_network(body)

    @property
    def endpoint(self) -> Json:
        return {"IPAMConfig": {"IPv4Address": self.address}}

    async def close(self) -> None:
        for each in await self.engine.containers(f"test={self.mark}"):
            await self.engine.remove(each["Id"])
        for each in await self.engine.networks(f"test={self.mark}"):
            await self.engine.remove_network(each["Id"])
        await self.engine.close()


@pytest.fixture
async def things(engine_socket: str, busybox_image: str) -> AsyncIterator[Things]:
    made = Things(engine_socket, busybox_image)
    yield made
    await made.close()


async def test_a_container_that_is_on_the_network_is_left_there(things: Things) -> None:
    await things.network()
    container = await things.container("a")
    await things.engine.start(container)
    for _ in range(2):
        await things.engine.connect(things.mark, container, things.endpoint)


async def test_a_container_whose_address_is_taken_is_not_taken_for_connected(things: Things) -> None:
    await things.network()
    first, second = await things.container("a"), await things.container("b")
    for each in first, second:
        await things.engine.start(each)
    await things.engine.connect(things.mark, first, things.endpoint)
    with pytest.raises(EngineError, match="Address already in use"):
        await things.engine.connect(things.mark, second, things.endpoint)


async def test_who_is_not_on_the_network_is_taken_off_it_already(things: Things) -> None:
    await things.network()
    container = await things.container("a")
    await things.engine.start(container)
    await things.engine.connect(things.mark, container, things.endpoint)
    for _ in range(2):
        await things.engine.disconnect(things.mark, container)
    await things.engine.disconnect(things.mark, "nobody")
    await things.engine.disconnect("nowhere" + things.mark, container)
    with pytest.raises(EngineError, match=r"(?i)invalid"):
        await things.engine.connect(things.mark, container, {"IPAMConfig": {"IPv4Address": "no address"}})


async def test_a_network_is_refused_for_its_name_or_for_its_addresses(things: Things) -> None:
    await things.network()
    with pytest.raises(EngineError) as refused:
        await things.network()
    assert is_name_taken(refused.value)
    assert not is_overlap(refused.value)
    with pytest.raises(EngineError) as refused:
        await things.network("other" + things.mark)
    assert is_overlap(refused.value)
    assert not is_name_taken(refused.value)


async def test_a_name_that_is_taken_is_no_removal(things: Things) -> None:
    await things.container("a")
    with pytest.raises(EngineError) as refused:
        await things.container("a")
    assert is_name_taken(refused.value)


async def test_a_program_called_network_that_is_not_there_is_no_missing_network(things: Things) -> None:
    await things.network()
    container = await things.container("a", things.mark, "network")
    with pytest.raises(EngineError, match="not found") as refused:
        await things.engine.start(container)
    assert not is_network_gone(refused.value)
    container = await things.container("b", "nowhere" + things.mark)
    with pytest.raises(EngineError) as refused:
        await things.engine.start(container)
    assert is_network_gone(refused.value)


async def test_several_who_remove_a_container_all_succeed(things: Things) -> None:
    container = await things.container("a")
    await things.engine.start(container)
    await asyncio.gather(*(things.engine.remove(container) for _ in range(5)))


async def test_a_question_of_ours_to_an_engine_says_who_was_asked(engine_socket: str) -> None:
    with pytest.raises(Unavailable, match="is it a Docker Engine"):
        await ask(f"unix://{engine_socket}", "web")
