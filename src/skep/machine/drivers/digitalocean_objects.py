"""What DigitalOcean's API answers, as far as it is read, and what a machine's config says of its droplet.
Pure.

What comes is checked here by its types; what the API has besides is passed over.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field

from skep.runtime.errors import Corrupt

Id = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
# Statuses of droplets, and of actions.
NEW, ACTIVE, OFF, ARCHIVE = "new", "active", "off", "archive"
COMPLETED, ERRORED = "completed", "errored"


class DropletAddress(Struct, frozen=True):
    """`type` is public or private."""

    ip_address: str
    type: str


class DropletAddresses(Struct, frozen=True):
    """Both are empty where the droplet has none yet."""

    v4: tuple[DropletAddress, ...] = ()
    v6: tuple[DropletAddress, ...] = ()


class Droplet(Struct, frozen=True):
    """A host at DigitalOcean."""

    id: Id
    name: str
    status: str
    size_slug: str | None = None
    networks: DropletAddresses = DropletAddresses()
    tags: tuple[str, ...] | None = None


class DropletAction(Struct, frozen=True):
    """Something that is done to a droplet: `status` is in-progress until it ends."""

    id: Id
    status: str


class DropletSize(Struct, frozen=True):
    """`disk` in GB, `price_monthly` in USD. `regions`: where new droplets of it can be made."""

    slug: str
    disk: int
    regions: tuple[str, ...]
    available: bool
    price_monthly: float = 0.0


class DropletRegion(Struct, frozen=True):
    """A data center."""

    slug: str
    available: bool


class DropletImage(Struct, frozen=True):
    """`min_disk_size` in GB. `status`: one of the user's own may be pending, or deleted."""

    regions: tuple[str, ...]
    min_disk_size: int | None = None
    status: str | None = None


class AccountKey(Struct, frozen=True):
    """An SSH key of the account's."""

    id: Id
    fingerprint: str


class AnswerPages(Struct, frozen=True):
    """`next` is the URL of the next one, empty on the last."""

    next: str = ""


class AnswerLinks(Struct, frozen=True):
    """Has no pages where one is all."""

    pages: AnswerPages | None = None


class DropletAnswer(Struct, frozen=True):
    """One."""

    droplet: Droplet


class DropletsAnswer(Struct, frozen=True):
    """A page."""

    droplets: tuple[Droplet, ...]
    links: AnswerLinks = AnswerLinks()


class SizesAnswer(Struct, frozen=True):
    """A page."""

    sizes: tuple[DropletSize, ...]
    links: AnswerLinks = AnswerLinks()


class RegionsAnswer(Struct, frozen=True):
    """A page."""

    regions: tuple[DropletRegion, ...]
    links: AnswerLinks = AnswerLinks()


class ImageAnswer(Struct, frozen=True):
    """One."""

    image: DropletImage


class ActionAnswer(Struct, frozen=True):
    """One."""

    action: DropletAction


class KeyAnswer(Struct, frozen=True):
    """One."""

    ssh_key: AccountKey


class ApiFault(Struct, frozen=True):
    """What an answer with an error's status says."""

    message: str
    request_id: str = ""


class DropletDetails(Struct, frozen=True, kw_only=True):
    """What config.json has of a droplet, docker-machine's members first: `tags` has commas between them,
    `user_data_file` is a path, `key_fingerprint` is of a key that the user has in the account already.

    Ours: `own_fingerprint` is of the key that was made for this machine alone, `mark` the tag that this
    droplet alone was made with, until its id is known.
    """

    id: int = field(default=0, name="DropletID")
    name: str = field(default="", name="DropletName")
    image: str = field(default="", name="Image")
    region: str = field(default="", name="Region")
    size: str = field(default="", name="Size")
    key_id: int = field(default=0, name="SSHKeyID")
    key_fingerprint: str = field(default="", name="SSHKeyFingerprint")
    ipv6: bool = field(default=False, name="IPv6")
    backups: bool = field(default=False, name="Backups")
    private_networking: bool = field(default=False, name="PrivateNetworking")
    user_data_file: str = field(default="", name="UserDataFile")
    tags: str = field(default="", name="Tags")
    monitoring: bool = field(default=False, name="Monitoring")
    vpc: str = field(default="", name="VPCUUID")
    api_url: str = field(default="", name="APIURL")
    own_fingerprint: str = field(default="", name="OwnKeyFingerprint")
    mark: str = field(default="", name="Mark")


def read_details(members: dict[str, Any], machine: str) -> DropletDetails:
    """Errors: `Corrupt`, which says what is wrong."""
    try:
        return msgspec.convert(members, DropletDetails)
    except msgspec.ValidationError as error:
        raise Corrupt(f"the config.json of machine {machine} says of its droplet: {error}") from error


def with_details(members: dict[str, Any], details: DropletDetails) -> dict[str, Any]:
    """Returns the members as they are to be kept; those that are not the driver's stay (docker-machine's
    token)."""
    own: dict[str, Any] = msgspec.to_builtins(details)
    return {**members, **own}
