"""Droplets of DigitalOcean's, with docker-machine's options and in its form, so that its machines go on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from weakref import WeakKeyDictionary

from msgspec.structs import replace

from skep.machine.drivers import Driver, DriverOption, HostMaking, PowerChange, Say, Values
from skep.machine.drivers.digitalocean_account import DigitalOceanAccount
from skep.machine.drivers.digitalocean_api import DigitalOceanApi
from skep.machine.drivers.digitalocean_http import ApiRefusal
from skep.machine.drivers.digitalocean_making import (
    find,
    give_key,
    keep,
    order,
    user_data,
    wait_active,
)
from skep.machine.drivers.digitalocean_objects import (
    ACTIVE,
    ARCHIVE,
    NEW,
    OFF,
    DropletDetails,
    read_details,
    with_details,
)
from skep.machine.drivers.digitalocean_power import PENDING_S, change_power, change_size, with_address
from skep.machine.drivers.digitalocean_rules import (
    API_URL,
    VARIABLES,
    AccountToken,
    check_api_url,
    check_wish,
    find_token,
)
from skep.machine.drivers.generic import port_of
from skep.machine.engine import RUNNING, SAVED, STARTING, STOPPED
from skep.machine.record import SSH_PORT, Machine, SshPlace
from skep.machine.ssh_keys import check_identity
from skep.machine.store import read_file
from skep.runtime.errors import Invalid, NotFound, SkepError

IMAGE, REGION, SIZE = "debian-13-x64", "nyc3", "s-1vcpu-1gb"
_STATES = {NEW: STARTING, ACTIVE: RUNNING, OFF: STOPPED, ARCHIVE: SAVED}
_PENDING_LOOK_S = 5.0

Accounts = dict[tuple[str, str], DigitalOceanAccount]


class DigitalOcean(Driver):
    name = "digitalocean"
    summary = "a droplet of DigitalOcean's, which costs money"
    options = (
        DriverOption(name="digitalocean-access-token", help="A token of your account.", secret=True),
        DriverOption(name="digitalocean-image", help="A slug, or a snapshot's number.", default=IMAGE),
        DriverOption(name="digitalocean-region", help="Where it is.", default=REGION),
        DriverOption(name="digitalocean-size", help="Its processors and memory.", default=SIZE),
        DriverOption(name="digitalocean-tags", help="For it; with commas between them."),
        DriverOption(name="digitalocean-userdata", help="A file for its cloud-init."),
        DriverOption(name="digitalocean-vpc-uuid", help="Its network. [the region's own]"),
        DriverOption(name="digitalocean-ipv6", help="An address of IPv6, too.", is_flag=True),
        DriverOption(name="digitalocean-monitoring", help="DigitalOcean's agent.", is_flag=True),
        DriverOption(name="digitalocean-backups", help="Backups, which cost extra.", is_flag=True),
        DriverOption(
            name="digitalocean-private-networking",
            help="docker-machine's: by now every droplet has it.",
            is_flag=True,
        ),
        DriverOption(name="digitalocean-ssh-user", help="Who logs in there.", default="root"),
        DriverOption(name="digitalocean-ssh-port", help="Where sshd listens.", default=str(SSH_PORT)),
        DriverOption(
            name="digitalocean-ssh-key-fingerprint",
            help="A key that your account has (MD5). [one is made for the machine]",
        ),
        DriverOption(name="digitalocean-ssh-key-path", help="The private half of it. [your own keys]"),
        DriverOption(name="digitalocean-api-url", help="Where the API is.", default=API_URL),
    )

    def __init__(self) -> None:
        # What machines of one command share: how many requests are made, and what has been answered.
        self._accounts: WeakKeyDictionary[asyncio.AbstractEventLoop, Accounts] = WeakKeyDictionary()

    def wanted(self, machine: Machine, values: Values) -> Machine:
        key, data = values["digitalocean-ssh-key-path"], values["digitalocean-userdata"]
        wanted = DropletDetails(
            name=machine.name,
            image=values["digitalocean-image"],
            region=values["digitalocean-region"],
            size=values["digitalocean-size"],
            key_fingerprint=values["digitalocean-ssh-key-fingerprint"].removeprefix("MD5:").lower(),
            ipv6=bool(values["digitalocean-ipv6"]),
            backups=bool(values["digitalocean-backups"]),
            private_networking=bool(values["digitalocean-private-networking"]),
            monitoring=bool(values["digitalocean-monitoring"]),
            user_data_file=str(Path(data).expanduser().absolute()) if data else "",
            tags=values["digitalocean-tags"],
            vpc=values["digitalocean-vpc-uuid"],
            api_url=check_api_url(values["digitalocean-api-url"]),
        )
        check_wish(wanted)
        if key and not wanted.key_fingerprint:
            raise Invalid(f'ssh-key-fingerprint needs to be provided for "{key}"')
        place = SshPlace(
            user=values["digitalocean-ssh-user"],
            port=port_of(values, "digitalocean-ssh-port"),
            key=str(Path(key).expanduser().absolute()) if key else "",
        )
        return replace(machine, ssh=place, details=with_details(machine.details, wanted))

    async def check(self, machine: Machine, say: Say) -> None:
        details = read_details(machine.details, machine.name)
        user_data(details)
        check_identity(machine.ssh)
        account = self._account(machine, details)
        if account.token_source not in VARIABLES:
            say(f"The account is that of the token of {account.token_source}")
        size = await account.check_fits(details)
        if size.price_monthly:
            say(f"A droplet {size.slug} costs {size.price_monthly:g} USD a month")
        if details.key_fingerprint:
            async with account.api() as api:
                try:
                    await api.key(details.key_fingerprint)
                except NotFound as error:
                    raise Invalid(
                        f"Digital Ocean SSH key with fingerprint {details.key_fingerprint} doesn't exist"
                    ) from error

    async def make(self, machine: Machine, making: HostMaking) -> Machine:
        if machine.is_whole:
            return machine
        details = read_details(machine.details, machine.name)
        account = self._account(machine, details)
        if details.id:  # it may have been switched off meanwhile
            return await change_power(account, machine, details.id, PowerChange.START)
        async with account.api() as api:
            machine, details = await give_key(api, machine, details, making)
            machine, details = await order(api, machine, details, making)
        making.say("Waiting for IP address to be assigned to the Droplet...")
        return with_address(machine, await wait_active(account, details.id))

    async def remove(self, machine: Machine, say: Say) -> str:
        details = read_details(machine.details, machine.name)
        async with self._account(machine, details).api() as api:
            number = details.id
            if not number and details.mark:
                found = await find(api, details)
                number = found.id if found else 0
            if number and not await _remove_droplet(api, number):
                say("Digital Ocean droplet doesn't exist, assuming it is already deleted")
            if details.key_fingerprint:
                return ""
            key = details.key_id or details.own_fingerprint  # the answer to its addition may be lost
            if key and not await api.remove_key(key):
                say("Digital Ocean SSH key doesn't exist, assuming it is already deleted")
            if details.mark and number:
                await api.remove_tag(details.mark)
        if details.mark and not number:
            return f"it has no droplet, unless one called {machine.name} appears with the tag {details.mark}"
        return ""

    async def power(self, machine: Machine, change: PowerChange, making: HostMaking) -> Machine:
        details = _made(machine)
        return await change_power(self._account(machine, details), machine, details.id, change)

    async def resize(self, machine: Machine, size: str, making: HostMaking) -> Machine:
        """Gives a droplet that is off more or fewer processors and memory; its disk stays. Errors: `Conflict`
        where it is on, `Invalid` with the API's reason, `Unavailable`, `Denied`."""
        details = _made(machine)
        check_wish(replace(details, size=size, region=details.region or REGION, image=details.image or IMAGE))
        if not await change_size(self._account(machine, details), machine, details.id, size):
            making.say(f"It is {size} already")
        return keep(machine, replace(details, size=size), making)

    async def state(self, machine: Machine) -> str:
        details = read_details(machine.details, machine.name)
        if not details.id:
            return ""
        droplet = await self._account(machine, details).shown(details.id)
        return _STATES.get(droplet.status, "")

    def _account(self, machine: Machine, details: DropletDetails) -> DigitalOceanAccount:
        """Errors: `Denied` where there is no token, `Invalid`."""
        token = _token(machine)
        url = check_api_url(details.api_url or API_URL)
        accounts = self._accounts.setdefault(asyncio.get_running_loop(), {})
        return accounts.setdefault((url, token.text), DigitalOceanAccount(url, token))


def _made(machine: Machine) -> DropletDetails:
    details = read_details(machine.details, machine.name)
    if not details.id:
        raise NotFound(f'machine "{machine.name}" has no droplet yet: skep machine provision {machine.name}')
    return details


async def _remove_droplet(api: DigitalOceanApi, number: int) -> bool:
    """Returns whether there was one. Something that is done to it at the moment is waited for."""
    deadline = asyncio.get_running_loop().time() + PENDING_S
    while True:
        try:
            return await api.remove_droplet(number)
        except ApiRefusal as error:
            if "pending event" not in str(error) or asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(_PENDING_LOOK_S)


def _token(machine: Machine) -> AccountToken:
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    path = Path(home).expanduser() / "doctl/config.yaml"
    try:
        doctl = read_file(path).decode(errors="replace")
    except (FileNotFoundError, SkepError):
        doctl = ""  # it may be anything there: who has no token at all is told what to do
    return find_token(os.environ, machine.details.get("AccessToken"), doctl, str(path))
