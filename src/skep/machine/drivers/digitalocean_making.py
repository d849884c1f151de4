"""How a droplet comes to be: its key, its order, its address. Each step is kept before the next one, so that
what is paid for is known, whenever it is interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from pathlib import Path

from msgspec.structs import replace

from skep.machine.drivers import HostMaking
from skep.machine.drivers.digitalocean_account import DigitalOceanAccount
from skep.machine.drivers.digitalocean_api import DigitalOceanApi
from skep.machine.drivers.digitalocean_http import ApiRefusal
from skep.machine.drivers.digitalocean_objects import (
    ACTIVE,
    NEW,
    AccountKey,
    Droplet,
    DropletDetails,
    with_details,
)
from skep.machine.drivers.digitalocean_rules import (
    TAG,
    USER_DATA_BYTES_MAX,
    address_of,
    marked,
    md5_fingerprint,
    order_of,
)
from skep.machine.record import Machine
from skep.machine.ssh_keys import new_key, public_half
from skep.machine.store import read_file, write_file
from skep.runtime.errors import Conflict, Invalid, NotFound, OutcomeUnknown, SkepError, Unavailable

KEY_FILE = "id_rsa"  # docker-machine's name for it, of whatever kind it is
ACTIVE_S = 300.0  # a droplet takes half a minute; one of a snapshot some
APPEARS_S = 30.0  # a tag is given after the droplet is made, and lists are late
_LOOK_S = 3.0


def keep(machine: Machine, details: DropletDetails, making: HostMaking) -> Machine:
    """Returns the machine with the details, saved."""
    machine = replace(machine, details=with_details(machine.details, details))
    making.save(machine)
    return machine


def user_data(wanted: DropletDetails) -> str:
    """Returns what the droplet's cloud-init is given. Errors: `Invalid`."""
    if not wanted.user_data_file:
        return ""
    path = Path(wanted.user_data_file)
    try:
        content = read_file(path)
    except FileNotFoundError as error:
        raise Invalid(f"user-data file {path} could not be found") from error
    if len(content) > USER_DATA_BYTES_MAX:
        raise Invalid(f"user-data file {path} has more than {USER_DATA_BYTES_MAX} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"user-data file {path} is no text: {error}") from error


async def give_key(
    api: DigitalOceanApi, machine: Machine, details: DropletDetails, making: HostMaking
) -> tuple[Machine, DropletDetails]:
    """Has the account know the key by which the machine lets us in: its own, or the user's. Errors: as of the
    API; `Invalid`."""
    if details.key_fingerprint:
        try:
            key = await api.key(details.key_fingerprint)
        except NotFound as error:
            raise Invalid(
                f"Digital Ocean SSH key with fingerprint {details.key_fingerprint} doesn't exist"
            ) from error
    else:
        making.say("Creating SSH key...")
        path = making.directory / KEY_FILE
        if not path.exists():
            write_file(path, new_key(machine.name)[0])
        line = public_half(read_file(path)).decode().strip()
        write_file(path.with_suffix(".pub"), line.encode() + b"\n")
        details = replace(details, own_fingerprint=md5_fingerprint(line))
        machine = replace(machine, ssh=replace(machine.ssh, key=str(path)))
        machine = keep(machine, details, making)
        try:
            key = await api.add_key(machine.name, line)
        except (ApiRefusal, OutcomeUnknown):
            # It has it, from before or from now: the answer was lost. Nobody else has this key.
            found = await _known_key(api, details.own_fingerprint)
            if found is None:
                raise
            key = found
    details = replace(details, key_id=key.id)
    return keep(machine, details, making), details


async def _known_key(api: DigitalOceanApi, fingerprint: str) -> AccountKey | None:
    try:
        return await api.key(fingerprint)
    except NotFound:
        return None


async def order(
    api: DigitalOceanApi, machine: Machine, details: DropletDetails, making: HostMaking
) -> tuple[Machine, DropletDetails]:
    """Has the droplet made, unless it was. Errors: as of the API; `OutcomeUnknown` where nobody knows."""
    droplet = await find(api, details) if details.mark else None
    if droplet is None:
        making.say("Creating Digital Ocean droplet...")
        details = replace(details, name=machine.name, mark=details.mark or f"{TAG}-{secrets.token_hex(8)}")
        machine = keep(machine, details, making)
        try:
            droplet = await api.order(order_of(machine.name, details, user_data(details)))
        except OutcomeUnknown as error:
            droplet = await _appears(api, details)
            if droplet is None:
                raise OutcomeUnknown(
                    f"the answer to the order of a droplet was lost, and none has the tag {details.mark} yet"
                    f" ({error}). skep machine provision {machine.name} looks again, and orders one where"
                    f" there is none; skep machine rm {machine.name} removes it where there is"
                ) from error
            making.say(f"The answer was lost: its tag says that droplet {droplet.id} is the one")
    mark, details = details.mark, replace(details, id=droplet.id, mark="")
    machine = keep(machine, details, making)
    with contextlib.suppress(SkepError):  # a tag that stays costs nothing
        await api.remove_tag(mark)
    return machine, details


async def find(api: DigitalOceanApi, details: DropletDetails) -> Droplet | None:
    """Returns the droplet that was ordered and whose number is not known. Errors: as of the API."""
    try:
        found = await api.droplets(details.mark)
    except NotFound:  # the tag, which a droplet that is ordered brings with it
        return None
    return marked(found, details.name, details.mark)


async def _appears(api: DigitalOceanApi, details: DropletDetails) -> Droplet | None:
    deadline = asyncio.get_running_loop().time() + APPEARS_S
    while True:
        with contextlib.suppress(Unavailable):
            if (found := await find(api, details)) is not None:
                return found
        if asyncio.get_running_loop().time() > deadline:
            return None
        await asyncio.sleep(_LOOK_S)


async def wait_active(account: DigitalOceanAccount, number: int) -> Droplet:
    """Returns the droplet, once it runs and has an address. Errors: `Unavailable`, `Conflict` where it does
    not come to run; as of the API."""
    began = asyncio.get_running_loop().time()
    while True:
        waited_s = asyncio.get_running_loop().time() - began
        try:
            droplet = await account.droplet(number)
        except NotFound:
            if waited_s > APPEARS_S:  # those that are new are not everywhere at once
                raise
        else:
            if droplet.status == ACTIVE and address_of(droplet):
                return droplet
            if droplet.status not in (NEW, ACTIVE):
                raise Conflict(f"droplet {number} is {droplet.status}, and does not become {ACTIVE}")
            if waited_s > ACTIVE_S:
                what = "has no public address" if droplet.status == ACTIVE else f"is {droplet.status}"
                raise Unavailable(f"droplet {number} {what} after {ACTIVE_S:g} s")
        await account.poll()
