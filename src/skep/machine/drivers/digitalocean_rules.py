"""How droplets are asked for, and what is made of answers. Pure.

What is documented of the API, and is easily taken for something else: a `shutdown` that is completed was
sent, not heeded; RateLimit-Reset is when the oldest of the last hour's requests is forgotten, not when all
are; lists of droplets have none with GPUs, and take a name or a tag, not both.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from skep.machine.drivers.digitalocean_objects import (
    Droplet,
    DropletDetails,
    DropletImage,
    DropletRegion,
    DropletSize,
)
from skep.machine.names import check_address
from skep.runtime.errors import Corrupt, Denied, Invalid, Unavailable

API_URL = "https://api.digitalocean.com"
VARIABLES = ("DIGITALOCEAN_ACCESS_TOKEN", "DIGITALOCEAN_TOKEN")  # docker-machine's, and others'
TAG = "skep"  # which all our droplets have, for who looks through an account
TAGS_MAX = 50  # of one droplet; each is sent with every order
USER_DATA_BYTES_MAX = 64 * 1024  # the API's own bound
_TAG = re.compile(r"[A-Za-z0-9:_-]{1,255}")  # the API's own words
_SLUG = re.compile(r"[A-Za-z0-9._-]{1,128}")
_UUID = re.compile(r"[0-9a-fA-F-]{36}")
_FINGERPRINT = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){15}")
_TOKEN = re.compile(r"[!-~]{1,512}")  # today's have 71 characters; what is sent as a header has no spaces
_YAML_VALUE = r"""\s*(["']?)([^\s"'#]+)\1\s*(?:#.*)?$"""


class AccountToken(NamedTuple):
    """`source` says where it was found, for who is told that it is not taken."""

    text: str
    source: str

    def __repr__(self) -> str:
        """Whatever prints it (a log, a trace) does not show the token."""
        return f"AccountToken(of {self.source})"


def find_token(environment: Mapping[str, str], kept: object, doctl: str, doctl_path: str) -> AccountToken:
    """Returns the token that counts: the environment's, docker-machine's that is `kept` with the machine,
    or that of doctl's config. Errors: `Denied` where there is none, `Invalid` where it cannot be one."""
    found = [(environment.get(each, ""), each) for each in VARIABLES]
    found.append((kept if isinstance(kept, str) else "", "the machine's config.json (AccessToken)"))
    found.append((_token_of_doctl(doctl), doctl_path))
    for text, source in found:
        if text.strip():
            if not _TOKEN.fullmatch(text.strip()):
                raise Invalid(f"what {source} has is no token of DigitalOcean's")
            return AccountToken(text.strip(), source)
    raise Denied(
        "digitalocean driver requires a token of your account in the environment: DIGITALOCEAN_ACCESS_TOKEN"
        " (no option has it, for command lines are seen by all)"
    )


def _token_of_doctl(text: str) -> str:
    """Returns the token of the context that doctl uses; empty where there is none."""
    context = re.search(r"^context:" + _YAML_VALUE, text, re.MULTILINE)
    if context is None or context[2] == "default":
        token = re.search(r"^access-token:" + _YAML_VALUE, text, re.MULTILINE)
    else:
        contexts = re.search(r"^auth-contexts:\s*\n((?:[ \t]+.*\n?)*)", text, re.MULTILINE)
        own = r"^[ \t]+" + re.escape(context[2]) + ":" + _YAML_VALUE
        token = re.search(own, contexts[1], re.MULTILINE) if contexts else None
    return token[2] if token else ""


def check_api_url(text: str) -> str:
    """Returns where the API is, without a slash at its end. Errors: `Invalid`: the token is sent there."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise Invalid(f"--digitalocean-api-url {text}: {error}") from error
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise Invalid(f"--digitalocean-api-url {text}: it begins with https://, for your token goes there")
    if not host or parts.query or parts.fragment or "@" in parts.netloc or not text.isprintable():
        raise Invalid(f"--digitalocean-api-url {text}: it has a host, and a path at most: {API_URL}")
    return text.rstrip("/").removesuffix("/v2")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_wish(wanted: DropletDetails) -> None:
    """Looks whether an order can be made of it. Errors: `Invalid`."""
    for option, value in (("size", wanted.size), ("region", wanted.region), ("image", wanted.image)):
        if not _SLUG.fullmatch(value):
            raise Invalid(f"--digitalocean-{option} {value}: it is a slug, like those that doctl lists")
    if wanted.vpc and not _UUID.fullmatch(wanted.vpc):
        raise Invalid(f"--digitalocean-vpc-uuid {wanted.vpc}: it is a UUID")
    if wanted.key_fingerprint and not _FINGERPRINT.fullmatch(wanted.key_fingerprint):
        raise Invalid(
            f"--digitalocean-ssh-key-fingerprint {wanted.key_fingerprint}: it is an MD5 fingerprint, as"
            " DigitalOcean and ssh-keygen -l -E md5 show it, without MD5:"
        )
    tags_of(wanted)


def tags_of(wanted: DropletDetails) -> list[str]:
    """Returns the tags of a new droplet. Errors: `Invalid`."""
    own = [each.strip() for each in wanted.tags.split(",") if each.strip()]
    for each in own:
        if not _TAG.fullmatch(each):
            raise Invalid(f"'{each}' is no tag: letters, digits, ':', '-' and '_' make one, 255 at most")
    if len(own) > TAGS_MAX:
        raise Invalid(f"{len(own)} tags are more than {TAGS_MAX}")
    return list(dict.fromkeys([*own, TAG, *([wanted.mark] if wanted.mark else [])]))


def order_of(name: str, wanted: DropletDetails, user_data: str) -> dict[str, Any]:
    """Returns what is sent to have a droplet made."""
    order: dict[str, Any] = {
        "name": name,
        "region": wanted.region,
        "size": wanted.size,
        "image": int(wanted.image) if wanted.image.isdecimal() else wanted.image,
        "ssh_keys": [wanted.key_id],
        "backups": wanted.backups,
        "ipv6": wanted.ipv6,
        "monitoring": wanted.monitoring,
        "tags": tags_of(wanted),
    }
    if user_data:
        order["user_data"] = user_data
    if wanted.vpc:
        order["vpc_uuid"] = wanted.vpc
    return order


def check_fits(
    wanted: DropletDetails,
    size: DropletSize | None,
    region: DropletRegion | None,
    image: DropletImage | None,
) -> None:
    """Looks whether the three are there, and go together. Errors: `Invalid`."""
    if region is None:
        raise Invalid(f"digitalocean requires a valid region: there is no {wanted.region}")
    if not region.available:
        raise Invalid(f"no droplets are made in {wanted.region} now")
    if size is None:
        raise Invalid(f"there is no size {wanted.size} for this account (doctl compute size list)")
    if not size.available or wanted.region not in size.regions:
        where = ", ".join(sorted(size.regions)) or "nowhere"
        raise Invalid(f"the size {wanted.size} cannot be had in {wanted.region} now; it can in: {where}")
    if image is None:
        raise Invalid(f"there is no image {wanted.image} (doctl compute image list --public)")
    if image.status and image.status != "available":
        raise Invalid(f"the image {wanted.image} is {image.status}")
    if wanted.region not in image.regions:
        where = ", ".join(sorted(image.regions)) or "nowhere"
        raise Invalid(f"the image {wanted.image} cannot be had in {wanted.region} now; it can in: {where}")
    if (image.min_disk_size or 0) > size.disk:
        raise Invalid(
            f"the image {wanted.image} needs a disk of {image.min_disk_size} GB, and {wanted.size} has"
            f" {size.disk}"
        )


def address_of(droplet: Droplet) -> str:
    """Returns its public address, empty where it has none yet. Errors: `Unavailable` for what is none."""
    for each in droplet.networks.v4:
        if each.type == "public" and each.ip_address:
            try:
                return check_address(str(ipaddress.IPv4Address(each.ip_address)))
            except ValueError as error:
                raise Unavailable(f"droplet {droplet.id} has an address that is none: {error}") from error
    return ""


def marked(droplets: tuple[Droplet, ...], name: str, mark: str) -> Droplet | None:
    """Returns the droplet that was made with the mark; whoever answers may not have looked for it. Errors:
    `Invalid` where there are several: somebody has given it to others."""
    found = [each for each in droplets if each.name == name and mark in (each.tags or ())]
    if len(found) > 1:
        ids = ", ".join(str(each.id) for each in found)
        raise Invalid(f"the droplets {ids} are all called {name} and tagged {mark}: remove all but one")
    return found[0] if found else None


def md5_fingerprint(public_key: str) -> str:
    """Returns what the account calls a key that is written as in authorized_keys. Errors: `Corrupt`."""
    try:
        key = base64.b64decode(public_key.split()[1], validate=True)
    except (IndexError, binascii.Error) as error:
        raise Corrupt(f"that is no public key of SSH: {error}") from error
    return hashlib.md5(key, usedforsecurity=False).digest().hex(":")


def next_page(link: str, page: int) -> int:
    """Returns the number of the next page, 0 after the last. Only that is taken of the link: the token goes
    nowhere else. Errors: `Unavailable` for what is no such link."""
    if not link:
        return 0
    try:
        number = int(parse_qs(urlsplit(link).query)["page"][-1][:9])
    except (ValueError, KeyError) as error:
        raise Unavailable("a list goes on at a page that is none") from error
    if number <= page:
        raise Unavailable(f"a list goes on at page {number} after page {page}")
    return number


def limited_s(headers: Mapping[str, str], now: float, attempt: int) -> float:
    """Returns how long to wait where there were too many requests. `now`: seconds since the epoch.

    Retry-After comes with the bound of a minute only; with that of an hour, when the oldest request is
    forgotten, which may be the only one.
    """
    for name, since in (("Retry-After", 0.0), ("RateLimit-Reset", now)):
        try:
            wait_s = float(headers.get(name, "")) - since
        except ValueError:
            continue
        if -86400.0 < wait_s < 86400.0:  # false for what is no number
            return max(1.0, wait_s)
    return float(2 ** min(attempt, 6))
