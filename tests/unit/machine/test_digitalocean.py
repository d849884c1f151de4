"""Droplets, made and changed through a fake of DigitalOcean's API that listens on loopback."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from skep.machine.drivers import (
    HostMaking,
    PowerChange,
    Resizable,
    digitalocean,
    digitalocean_account,
    digitalocean_http,
    digitalocean_making,
    digitalocean_power,
)
from skep.machine.drivers.digitalocean import DigitalOcean
from skep.machine.drivers.digitalocean_http import ApiRefusal
from skep.machine.record import HALF_MADE, MADE, EngineWish, Machine, SshPlace, from_config
from skep.machine.store import MachineStore
from skep.runtime.errors import Conflict, Denied, Invalid, NotFound, OutcomeUnknown, Unavailable
from tests.fake_digitalocean import TOKEN, FakeDigitalOcean, FakeDroplet, Fault

pytestmark = pytest.mark.real_time
ORDERS = "/v2/droplets"
ORDER = {"name": "w", "region": "nyc3", "size": "s-1vcpu-1gb", "tags": []}


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FakeDigitalOcean]:
    """All that is waited for is short here; nobody's own token is found."""
    monkeypatch.setenv("DIGITALOCEAN_ACCESS_TOKEN", TOKEN)
    monkeypatch.delenv("DIGITALOCEAN_TOKEN", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(digitalocean_account, "POLL_S", 0.02)
    monkeypatch.setattr(digitalocean_account, "GATHER_S", 0.01)
    monkeypatch.setattr(digitalocean_account, "RATE", 10_000.0)
    monkeypatch.setattr(digitalocean_power, "_LOOK_S", 0.01)
    monkeypatch.setattr(digitalocean_power, "_LOOK_MAX_S", 0.04)
    monkeypatch.setattr(digitalocean_power, "OFF_S", 0.3)
    monkeypatch.setattr(digitalocean, "_PENDING_LOOK_S", 0.02)
    monkeypatch.setattr(digitalocean_making, "_LOOK_S", 0.01)
    monkeypatch.setattr(digitalocean_making, "APPEARS_S", 0.2)
    monkeypatch.setattr(digitalocean_http, "_backed_off", lambda failed: 0.01)
    async with FakeDigitalOcean().running() as made:
        yield made


class User:
    """Whoever has machines: what is said, and what is kept."""

    def __init__(self, directory: Path, url: str) -> None:
        self.store = MachineStore(directory / "machine")
        self.driver = DigitalOcean()
        self.said: list[str] = []
        self._url = url

    def wants(self, name: str = "mg0", **values: str) -> Machine:
        said = {each.name: each.default for each in self.driver.options}
        said["digitalocean-api-url"] = self._url
        said.update({f"digitalocean-{option.replace('_', '-')}": value for option, value in values.items()})
        machine = Machine(
            name=name, driver="digitalocean", ssh=SshPlace(), engine=EngineWish(), state=HALF_MADE
        )
        return self.driver.wanted(machine, said)

    def making(self, name: str = "mg0") -> HostMaking:
        return HostMaking(self.store.directory(name), self.said.append, self.store.save)

    async def makes(self, name: str = "mg0", **values: str) -> Machine:
        machine = self.wants(name, **values)
        await self.driver.check(machine, self.said.append)
        self.store.add(machine)
        return await self.goes_on(name)

    async def goes_on(self, name: str = "mg0") -> Machine:
        with self.store.at_work(name) as now:  # as all that make machines
            machine = await self.driver.make(now, self.making(name))
            self.store.save(machine)
        return machine

    async def power(self, machine: Machine, change: PowerChange) -> Machine:
        return await self.driver.power(machine, change, self.making(machine.name))


@pytest.fixture
def user(fake: FakeDigitalOcean, tmp_path: Path) -> User:
    return User(tmp_path, fake.url)


async def test_a_droplet_is_ordered_with_a_key_of_its_own(
    user: User, fake: FakeDigitalOcean, tmp_path: Path
) -> None:
    data = tmp_path / "cloud-init"
    data.write_text("#cloud-config\n")
    machine = await user.makes(
        tags="web, env:prod", userdata=str(data), monitoring="true", size="s-2vcpu-4gb"
    )
    (droplet,) = fake.droplets.values()
    order = droplet.order
    assert machine.ssh.address == droplet.address
    assert (order["name"], order["region"], order["size"]) == ("mg0", "nyc3", "s-2vcpu-4gb")
    assert (order["image"], order["user_data"], order["monitoring"]) == (
        "debian-13-x64",
        "#cloud-config\n",
        True,
    )
    assert order["tags"][:3] == ["web", "env:prod", "skep"]
    assert droplet.tags == ["web", "env:prod", "skep"], (
        "what it was found by is gone once its number is known"
    )
    own = user.store.directory("mg0")
    assert machine.ssh.key == str(own / "id_rsa")
    for path in own.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    (key,) = fake.keys.values()
    assert key["public_key"] == (own / "id_rsa.pub").read_text().strip()
    assert key["name"] == "mg0"
    kept = json.loads((own / "config.json").read_text())
    assert kept["Driver"]["DropletID"] == droplet.number
    assert kept["Driver"]["SSHKeyID"] == key["id"]
    assert kept["Driver"]["Tags"] == "web, env:prod"
    for each in user.store.path.rglob("*"):
        assert each.is_dir() or TOKEN not in each.read_text(), "the token is kept nowhere"
    assert not any(TOKEN in line for line in user.said)
    assert "A droplet s-2vcpu-4gb costs 6 USD a month" in user.said


async def test_what_docker_machine_says_is_said(user: User) -> None:
    await user.makes()
    for line in (
        "Creating SSH key...",
        "Creating Digital Ocean droplet...",
        "Waiting for IP address to be assigned to the Droplet...",
    ):
        assert line in user.said


async def test_a_machine_that_is_whole_is_left_alone(user: User, fake: FakeDigitalOcean) -> None:
    machine = replace(await user.makes(), state=MADE)
    before = len(fake.requests)
    assert await user.driver.make(machine, user.making()) == machine
    assert len(fake.requests) == before


async def test_a_droplet_that_has_its_address_late_is_waited_for(user: User, fake: FakeDigitalOcean) -> None:
    fake.runs_after, fake.address_after = 3, 6
    machine = await user.makes()
    assert machine.ssh.address == next(iter(fake.droplets.values())).address
    assert fake.count("GET", "/v2/droplets/") >= 5


async def test_of_an_order_whose_answer_is_lost_the_droplet_is_found(
    user: User, fake: FakeDigitalOcean
) -> None:
    """And not somebody else's, which has the same name."""
    await user.makes("other")
    next(iter(fake.droplets.values())).order["name"] = "mg0"
    fake.faults.append(Fault("POST", ORDERS, "lose"))
    machine = await user.makes()
    assert fake.count("POST", ORDERS) == 2, "one each"
    assert len(fake.droplets) == 2
    assert user.store.load("mg0").details["DropletID"] == max(fake.droplets)
    assert machine.ssh.address == fake.droplets[max(fake.droplets)].address
    assert any("The answer was lost" in line for line in user.said)


async def test_an_order_is_never_repeated_blindly(user: User, fake: FakeDigitalOcean) -> None:
    fake.faults.append(Fault("POST", ORDERS, "500"))
    with pytest.raises(OutcomeUnknown, match="skep machine provision mg0 looks again"):
        await user.makes()
    assert fake.count("POST", ORDERS) == 1
    assert not fake.droplets
    machine = await user.goes_on()
    assert fake.count("POST", ORDERS) == 2, "the user has said so, and it was looked for first"
    assert len(fake.droplets) == 1
    assert machine.ssh.address


async def test_a_droplet_that_appears_later_is_gone_on_with(user: User, fake: FakeDigitalOcean) -> None:
    fake.faults += [Fault("POST", ORDERS, "lose"), Fault("GET", f"{ORDERS}", "500", times=10_000)]
    with pytest.raises(OutcomeUnknown):
        await user.makes()
    fake.faults.clear()
    await user.goes_on()
    assert len(fake.droplets) == 1
    assert fake.count("POST", ORDERS) == 1


@pytest.mark.parametrize("is_removed_at_once", [False, True])
async def test_a_create_that_is_killed_loses_no_droplet(
    is_removed_at_once: bool, user: User, fake: FakeDigitalOcean
) -> None:
    """At whatever request it is: what was ordered is known, or found; there is one, and rm removes all of it."""
    whole = FakeDigitalOcean()
    async with whole.running():
        other = User(user.store.path / "other", whole.url)
        await other.makes("ref")
    for number in range(1, len(whole.requests)):
        name = f"k{number}"
        task = asyncio.create_task(user.makes(name))
        before = len(fake.requests)
        while len(fake.requests) < before + number and not task.done():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not (user.store.directory(name) / "config.json").exists():
            continue  # nothing was begun
        if not is_removed_at_once:
            await user.goes_on(name)
            assert len(fake.droplets) == 1, f"killed at request {number}"
        was_ordered = bool(fake.droplets)
        left = await user.driver.remove(user.store.load(name), user.said.append)
        # Killed between the note of an order and the order, nobody knows whether there was one.
        assert left == "" or (
            not was_ordered and left.startswith(f"it has no droplet, unless one called {name}")
        )
        assert not fake.droplets
        assert not fake.keys


async def test_a_key_whose_answer_is_lost_is_found(user: User, fake: FakeDigitalOcean) -> None:
    fake.faults.append(Fault("POST", "/v2/account/keys", "lose"))
    await user.makes()
    assert len(fake.keys) == 1
    assert user.store.load("mg0").details["SSHKeyID"] in fake.keys


async def test_a_key_that_nobody_saw_come_is_removed(user: User, fake: FakeDigitalOcean) -> None:
    fake.faults += [
        Fault("POST", "/v2/account/keys", "lose"),
        Fault("GET", "/v2/account/keys", "500", times=100),
    ]
    with pytest.raises(Unavailable):
        await user.makes()
    assert len(fake.keys) == 1
    fake.faults.clear()
    await user.driver.remove(user.store.load("mg0"), user.said.append)
    assert not fake.keys


async def test_a_key_that_the_user_has_is_used_and_stays(user: User, fake: FakeDigitalOcean) -> None:
    await user.makes("first")
    (key,) = fake.keys.values()
    with pytest.raises(Invalid, match="doesn't exist"):
        await user.makes("second", ssh_key_fingerprint="ab:" * 15 + "ab")
    path = user.store.directory("first") / "id_rsa"
    machine = await user.makes("second", ssh_key_fingerprint=key["fingerprint"], ssh_key_path=str(path))
    assert machine.ssh.key == str(path)
    assert fake.droplets[max(fake.droplets)].order["ssh_keys"] == [key["id"]]
    await user.driver.remove(machine, user.said.append)
    assert fake.keys, "it is the user's"
    with pytest.raises(Invalid, match="ssh-key-fingerprint needs to be provided"):
        user.wants(ssh_key_path=str(path))


async def test_all_of_a_machine_is_removed_once_or_twice(user: User, fake: FakeDigitalOcean) -> None:
    machine = await user.makes()
    assert await user.driver.remove(machine, user.said.append) == ""
    assert not fake.droplets
    assert not fake.keys
    assert await user.driver.remove(machine, user.said.append) == ""
    assert "Digital Ocean droplet doesn't exist, assuming it is already deleted" in user.said
    assert "Digital Ocean SSH key doesn't exist, assuming it is already deleted" in user.said


async def test_a_droplet_that_is_busy_is_removed_when_it_is_not(user: User, fake: FakeDigitalOcean) -> None:
    machine = await user.makes()
    (droplet,) = fake.droplets.values()
    droplet.actions[1] = {"id": 1, "status": "in-progress", "type": "snapshot", "asked": {}, "looks": 0}
    removing = asyncio.create_task(user.driver.remove(machine, user.said.append))
    await asyncio.sleep(0.1)
    assert fake.droplets
    droplet.actions.clear()
    await removing
    assert not fake.droplets
    assert not fake.keys


async def test_what_cannot_be_had_is_said_before_anything_is_made(user: User, fake: FakeDigitalOcean) -> None:
    for values, said in (
        ({"region": "mars1"}, "requires a valid region: there is no mars1"),
        ({"region": "fra1"}, "no droplets are made in fra1 now"),
        ({"size": "huge"}, "there is no size huge"),
        ({"size": "s-8vcpu-16gb"}, "cannot be had in nyc3 now; it can in: ams3"),
        ({"image": "debian-99"}, "there is no image debian-99"),
        ({"image": "windows"}, "needs a disk of 300 GB, and s-1vcpu-1gb has 25"),
        ({"userdata": "/nowhere/x"}, "user-data file /nowhere/x could not be found"),
        ({"ssh_port": "0"}, "it is a port"),
        ({"tags": "a b"}, "'a b' is no tag"),
        ({"vpc_uuid": "x"}, "it is a UUID"),
        ({"size": "a/../b"}, "it is a slug"),
    ):
        with pytest.raises(Invalid, match=said):
            await user.makes(**values)
    assert not fake.droplets
    assert not fake.keys
    assert fake.count("POST", "/") == 0


async def test_what_the_api_refuses_is_shown_in_its_words(user: User, fake: FakeDigitalOcean) -> None:
    await user.driver.check(user.wants(), user.said.append)
    fake.faults.append(Fault("POST", ORDERS, "422"))
    with pytest.raises(
        ApiRefusal, match=r"refuses: Server was unable \[31m to give you a response\. \(request 4d9d8375\)"
    ):
        await user.makes()


async def test_a_token_that_is_not_taken_says_where_it_came_from(
    user: User, fake: FakeDigitalOcean, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DIGITALOCEAN_ACCESS_TOKEN", "wrong-secret")
    with pytest.raises(
        Denied, match="the token of DIGITALOCEAN_ACCESS_TOKEN: Unable to authenticate you"
    ) as denied:
        await user.makes()
    assert "wrong-secret" not in str(denied.value)
    assert len(fake.requests) == 1, "it is not tried again"
    monkeypatch.delenv("DIGITALOCEAN_ACCESS_TOKEN")
    with pytest.raises(Denied, match="requires a token of your account in the environment"):
        await user.makes()
    (tmp_path / "config/doctl").mkdir(parents=True)
    (tmp_path / "config/doctl/config.yaml").write_text(f"access-token: {TOKEN}\ncontext: default\n")
    await user.makes()
    assert any("The account is that of the token of " in line for line in user.said)
    fake.faults.append(Fault("GET", "/v2", "403"))
    with pytest.raises(Denied, match=r"the token of .*doctl/config\.yaml.*can it write\?"):
        await user.driver.state(user.store.load("mg0"))


async def test_a_machine_of_docker_machines_goes_on_with_its_token(
    user: User, fake: FakeDigitalOcean, monkeypatch: pytest.MonkeyPatch
) -> None:
    await user.makes()
    (droplet,) = fake.droplets.values()
    monkeypatch.delenv("DIGITALOCEAN_ACCESS_TOKEN")
    config: dict[str, Any] = {
        "ConfigVersion": 3,
        "DriverName": "digitalocean",
        "Driver": {
            "IPAddress": droplet.address,
            "MachineName": "old",
            "SSHUser": "root",
            "SSHPort": 22,
            "SSHKeyPath": "",
            "AccessToken": TOKEN,
            "DropletID": droplet.number,
            "DropletName": "",
            "Image": "ubuntu-16-04-x64",
            "Region": "nyc3",
            "SSHKeyID": 0,
            "SSHKeyFingerprint": "",
            "Size": "512mb",
            "IPv6": False,
            "Backups": False,
            "PrivateNetworking": False,
            "UserDataFile": "",
            "Tags": "",
        },
    }
    machine = from_config(json.dumps(config).encode(), "old")
    assert machine.details["AccessToken"] == TOKEN
    machine = replace(machine, details={**machine.details, "APIURL": fake.url})
    assert await user.driver.state(machine) == "Running"
    user.store.add(machine)
    stopped = await user.power(machine, PowerChange.STOP)
    assert stopped.details["AccessToken"] == TOKEN
    assert droplet.status == "off"


async def test_power_is_changed_and_waited_for(user: User, fake: FakeDigitalOcean) -> None:
    fake.action_looks = 3
    machine = await user.makes()
    (droplet,) = fake.droplets.values()
    for change, state, asked in (
        (PowerChange.START, "Running", None),
        (PowerChange.STOP, "Stopped", "shutdown"),
        (PowerChange.STOP, "Stopped", None),
        (PowerChange.KILL, "Stopped", None),
        (PowerChange.START, "Running", "power_on"),
        (PowerChange.RESTART, "Running", "reboot"),
        (PowerChange.KILL, "Stopped", "power_off"),
        (PowerChange.RESTART, "Running", "power_on"),
    ):
        before = len(droplet.actions)
        machine = await user.power(machine, change)
        assert await user.driver.state(machine) == state
        begun = [each["type"] for each in list(droplet.actions.values())[before:]]
        assert begun == ([asked] if asked else []), change


async def test_a_shutdown_that_is_not_heeded_is_said(user: User, fake: FakeDigitalOcean) -> None:
    machine = await user.makes()
    (droplet,) = fake.droplets.values()
    droplet.deaf = True
    with pytest.raises(
        Unavailable, match=r"did not shut down within .*; skep machine kill mg0 pulls its plug"
    ):
        await user.power(machine, PowerChange.STOP)
    await user.power(machine, PowerChange.KILL)
    assert droplet.status == "off"


async def test_an_action_that_fails_says_so(user: User, fake: FakeDigitalOcean) -> None:
    machine = await user.makes()
    fake.fails = {"power_off", "shutdown"}
    with pytest.raises(
        Unavailable, match=r"power_off of droplet \d+ failed at DigitalOcean \(action \d+ errored\)"
    ):
        await user.power(machine, PowerChange.KILL)
    with pytest.raises(Unavailable, match=r"errored.*skep machine kill"):
        await user.power(machine, PowerChange.STOP)


async def test_an_action_waits_until_another_one_has_ended(user: User, fake: FakeDigitalOcean) -> None:
    machine = await user.makes()
    (droplet,) = fake.droplets.values()
    droplet.actions[1] = {"id": 1, "status": "in-progress", "type": "snapshot", "asked": {}, "looks": 0}
    stopping = asyncio.create_task(user.power(machine, PowerChange.STOP))
    await asyncio.sleep(0.1)
    assert not stopping.done()
    droplet.actions[1]["status"] = "completed"
    await stopping
    assert droplet.status == "off"


async def test_another_address_is_taken_over(user: User, fake: FakeDigitalOcean) -> None:
    machine = await user.makes()
    (droplet,) = fake.droplets.values()
    await user.power(machine, PowerChange.STOP)
    droplet.address = "203.0.113.200"
    machine = await user.power(machine, PowerChange.START)
    assert machine.ssh.address == "203.0.113.200"


async def test_a_droplet_gets_another_size_while_it_is_off(user: User, fake: FakeDigitalOcean) -> None:
    assert isinstance(user.driver, Resizable)
    machine = await user.makes()
    (droplet,) = fake.droplets.values()
    with pytest.raises(Conflict, match="skep machine stop mg0 first, or --power-cycle"):
        await user.driver.resize(machine, "s-2vcpu-4gb", user.making())
    assert not droplet.actions
    await user.power(machine, PowerChange.STOP)
    machine = await user.driver.resize(machine, "s-2vcpu-4gb", user.making())
    assert droplet.size == "s-2vcpu-4gb"
    assert user.store.load("mg0").details["Size"] == "s-2vcpu-4gb"
    await user.driver.resize(machine, "s-2vcpu-4gb", user.making())
    assert "It is s-2vcpu-4gb already" in user.said
    with pytest.raises(ApiRefusal, match="Size is invalid for this Droplet"):
        await user.driver.resize(machine, "s-99", user.making())


async def test_a_resize_that_is_refused_for_it_is_on_says_so(user: User, fake: FakeDigitalOcean) -> None:
    """Somebody has switched it on meanwhile."""
    machine = await user.makes()
    (droplet,) = fake.droplets.values()
    droplet.status = "off"
    fake.faults.append(Fault("POST", f"{ORDERS}/", "422"))
    with pytest.raises(ApiRefusal, match="DigitalOcean refuses"):
        await user.driver.resize(machine, "s-2vcpu-4gb", user.making())


async def test_a_droplet_that_is_gone_is_said(user: User, fake: FakeDigitalOcean) -> None:
    machine = await user.makes()
    fake.droplets.clear()
    with pytest.raises(NotFound, match=r"there is no droplet \d+ any more"):
        await user.driver.state(machine)
    with pytest.raises(NotFound):
        await user.power(machine, PowerChange.START)


async def test_a_droplet_never_runs(
    user: User, fake: FakeDigitalOcean, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digitalocean_making, "ACTIVE_S", 0.1)
    fake.runs_after = fake.address_after = 1 << 30
    with pytest.raises(Unavailable, match="is new after"):
        await user.makes()
    fake.runs_after = 0
    with pytest.raises(Unavailable, match="has no public address after"):
        await user.goes_on()
    next(iter(fake.droplets.values())).status = "archive"
    with pytest.raises(Conflict, match="is archived: DigitalOcean's support has it back"):
        await user.goes_on()


async def test_one_that_was_switched_off_before_it_was_whole_is_started(
    user: User, fake: FakeDigitalOcean
) -> None:
    await user.makes()
    (droplet,) = fake.droplets.values()
    droplet.status = "off"
    await user.goes_on()
    assert droplet.status == "active"


async def test_two_that_make_one_machine_order_one_droplet(user: User, fake: FakeDigitalOcean) -> None:
    fake.address_after = 20
    first = asyncio.create_task(user.makes())
    while not fake.droplets:
        await asyncio.sleep(0.01)
    with pytest.raises(Conflict, match="another command is at work on mg0"):
        await user.goes_on()
    await first
    assert len(fake.droplets) == 1


async def test_thousands_of_droplets_are_shown_by_a_few_lists(user: User, fake: FakeDigitalOcean) -> None:
    machine = await user.makes()
    for number in range(1, 2300):
        fake.droplets[number] = FakeDroplet(number, {**ORDER, "name": f"w{number}"}, "203.0.113.1")
        fake.droplets[number].status = "off"
    before = len(fake.requests)
    turn = asyncio.Semaphore(256)  # of ls

    async def state(number: int) -> str:
        async with turn:
            shown = replace(machine, details={**machine.details, "DropletID": number})
            return await user.driver.state(shown)

    assert set(await asyncio.gather(*map(state, range(1, 2300)))) == {"Stopped"}
    assert len(fake.requests) - before == 12, "200 on a page"


async def test_fifty_droplets_at_once_are_few_requests(user: User, fake: FakeDigitalOcean) -> None:
    """250 requests a minute are allowed: what can be had is asked once, and how they are is one list for all."""
    fake.per_minute = 250
    names = [f"w{number}" for number in range(50)]
    await asyncio.gather(*(user.driver.check(user.wants(name), user.said.append) for name in names))
    assert len(fake.requests) == 3
    await asyncio.gather(*map(user.makes, names))
    assert len(fake.droplets) == 50
    assert len({each.order["name"] for each in fake.droplets.values()}) == 50
    assert len(fake.requests) < 250
    assert {user.store.load(name).ssh.address for name in names} == {
        each.address for each in fake.droplets.values()
    }
