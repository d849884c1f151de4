"""Requests to an API that answers badly, late, too much, or not at all: what is repeated, and what is believed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skep.machine.drivers import digitalocean_http
from skep.machine.drivers.digitalocean_api import PAGES_MAX, DigitalOceanApi
from skep.machine.drivers.digitalocean_http import TRIES, ApiRefusal, DigitalOceanHttp
from skep.machine.drivers.digitalocean_rules import AccountToken
from skep.machine.drivers.pace import Pace
from skep.runtime.errors import Denied, OutcomeUnknown, Unavailable
from tests.fake_digitalocean import TOKEN, FakeDigitalOcean, FakeDroplet, Fault

pytestmark = pytest.mark.real_time
ORDER = {"name": "mg0", "region": "nyc3", "size": "s-1vcpu-1gb", "ssh_keys": [], "tags": ["skep"]}


@pytest.fixture
async def fake() -> AsyncIterator[FakeDigitalOcean]:
    async with FakeDigitalOcean().running() as made:
        yield made


@pytest.fixture
async def api(fake: FakeDigitalOcean, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DigitalOceanApi]:
    monkeypatch.setattr(digitalocean_http, "_backed_off", lambda failed: 0.01)
    async with DigitalOceanHttp(fake.url, AccountToken(TOKEN, "here"), Pace(1000.0, 1000)) as http:
        yield DigitalOceanApi(http)


def droplets(fake: FakeDigitalOcean, count: int) -> None:
    for number in range(1, count + 1):
        fake.droplets[number] = FakeDroplet(number, {**ORDER, "name": f"d{number}"}, "203.0.113.1")


async def test_lists_are_read_page_by_page(api: DigitalOceanApi, fake: FakeDigitalOcean) -> None:
    droplets(fake, 450)
    assert [each.id for each in await api.droplets()] == [*range(1, 451)]
    assert fake.requests == [f"GET /v2/droplets?page={page}&per_page=200" for page in (1, 2, 3)]
    fake.droplets[7].tags = ["skep-7", "skep"]
    assert [each.id for each in await api.droplets("skep-7")] == [7]


async def test_a_page_that_is_said_to_be_elsewhere_is_asked_of_the_same_api(
    api: DigitalOceanApi, fake: FakeDigitalOcean
) -> None:
    async with FakeDigitalOcean().running() as other:
        fake.next_link = other.url
        droplets(fake, 201)
        assert len(await api.droplets()) == 201
        assert not other.requests, "the token goes nowhere else"


async def test_a_list_ends(api: DigitalOceanApi, fake: FakeDigitalOcean) -> None:
    fake.page_max = 1
    droplets(fake, PAGES_MAX + 5)
    with pytest.raises(Unavailable, match=f"more than {PAGES_MAX} pages"):
        await api.droplets()
    assert len(fake.requests) == PAGES_MAX


@pytest.mark.parametrize("what", ["500", "502", "503", "drop"])
async def test_what_fails_by_itself_is_asked_again(
    what: str, api: DigitalOceanApi, fake: FakeDigitalOcean
) -> None:
    droplets(fake, 1)
    fake.faults.append(Fault("GET", "/v2", what, times=TRIES - 1))
    assert (await api.droplet(1)).name == "d1"
    fake.faults.append(Fault("DELETE", "/v2", what, times=1))
    assert await api.remove_droplet(1)
    # aiohttp asks once more by itself on another connection, where one that was in use is closed.
    fake.faults.append(Fault("GET", "/v2", what, times=2 * TRIES))
    with pytest.raises(Unavailable):
        await api.droplet(1)


@pytest.mark.parametrize("what", ["500", "503", "drop", "lose", "garbage", "huge"])
async def test_what_makes_something_is_asked_once(
    what: str, api: DigitalOceanApi, fake: FakeDigitalOcean
) -> None:
    fake.faults.append(Fault("POST", "/v2", what))
    with pytest.raises(OutcomeUnknown):
        await api.order(ORDER)
    assert fake.requests == ["POST /v2/droplets"]
    assert len(fake.droplets) == (1 if what == "lose" else 0)


async def test_what_was_not_sent_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An API that is not there yet."""
    monkeypatch.setattr(digitalocean_http, "_backed_off", lambda failed: 0.1)
    fake = FakeDigitalOcean()
    async with fake.running():
        url = fake.url
    async with DigitalOceanHttp(url, AccountToken(TOKEN, "here"), Pace(1000.0, 1000)) as http:
        api = DigitalOceanApi(http)
        with pytest.raises(
            Unavailable, match=r"nothing answers at http://127\.0\.0\.1.* \(Connect"
        ) as failed:
            await api.order(ORDER)
        assert not isinstance(failed.value, OutcomeUnknown), "nobody has been asked"


async def test_limits_are_waited_for(api: DigitalOceanApi, fake: FakeDigitalOcean) -> None:
    """Also by what makes something: it was not begun. And nobody else asks meanwhile."""
    fake.faults.append(Fault("POST", "/v2", "429", Retry_After="1"))
    began = time.monotonic()
    made = await api.order(ORDER)
    assert time.monotonic() - began >= 1
    assert [*fake.droplets] == [made.id]
    fake.faults.append(Fault("GET", "/v2", "429", Retry_After="1"))
    began = time.monotonic()
    await asyncio.gather(*(api.droplet(made.id) for _ in range(10)))
    assert time.monotonic() - began >= 1
    assert fake.count("GET", "/v2") == 11


async def test_a_limit_of_an_hour_is_the_users_to_wait_for(
    api: DigitalOceanApi, fake: FakeDigitalOcean
) -> None:
    reset = str(int(time.time()) + 1800)
    fake.faults.append(Fault("GET", "/v2", "429", RateLimit_Reset=reset))
    with pytest.raises(
        Unavailable, match=r"counts too many requests of this account.*\(try again in 1[78]\d\d s\)"
    ):
        await api.droplet(1)
    assert len(fake.requests) == 1


async def test_what_is_no_such_api_is_said(api: DigitalOceanApi, fake: FakeDigitalOcean) -> None:
    fake.faults.append(Fault("GET", "/v2", "garbage"))
    with pytest.raises(Unavailable, match="is not DigitalOcean's API"):
        await api.droplet(1)
    fake.faults.append(Fault("GET", "/v2", "huge", times=TRIES))
    with pytest.raises(Unavailable, match="sends more than 16777216 bytes"):
        await api.droplet(1)
    droplets(fake, 1)
    fake.droplets[1].number = -4
    with pytest.raises(Unavailable, match=r"Expected `int` >= 1"):
        await api.droplet(1)


async def test_no_redirect_is_followed(api: DigitalOceanApi, fake: FakeDigitalOcean) -> None:
    for method in ("GET", "POST"):
        fake.faults.append(Fault(method, "/v2", "elsewhere"))
    with pytest.raises(ApiRefusal, match=r"the API is elsewhere.*no token is sent there"):
        await api.droplet(1)
    with pytest.raises(ApiRefusal, match="elsewhere"):
        await api.order(ORDER)
    assert fake.requests == ["GET /v2/droplets/1", "POST /v2/droplets"]


async def test_what_the_api_says_is_printable_and_short(api: DigitalOceanApi, fake: FakeDigitalOcean) -> None:
    for status, kind in ((400, ApiRefusal), (409, ApiRefusal), (401, Denied), (403, Denied)):
        fake.faults.append(Fault("GET", "/v2", str(status)))
        with pytest.raises(kind) as refused:
            await api.droplet(1)
        assert str(refused.value).isprintable()
        assert TOKEN not in str(refused.value)


async def test_a_file_of_other_passwords_takes_no_part(
    fake: FakeDigitalOcean, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """aiohttp would send what ~/.netrc has for the host, or refuse to send ours."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ada password x\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # which would see the token in plain text
    droplets(fake, 1)
    async with DigitalOceanHttp(fake.url, AccountToken(TOKEN, "here"), Pace(1000.0, 1000)) as http:
        assert (await DigitalOceanApi(http).droplet(1)).id == 1
    assert fake.tokens == {f"Bearer {TOKEN}"}
