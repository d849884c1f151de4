"""Droplets: what is asked for, and what answers are taken for."""

from __future__ import annotations

import pytest

from skep.machine.drivers.digitalocean_objects import (
    Droplet,
    DropletAddress,
    DropletAddresses,
    DropletDetails,
    read_details,
    with_details,
)
from skep.machine.drivers.digitalocean_rules import (
    AccountToken,
    address_of,
    check_api_url,
    check_wish,
    find_token,
    limited_s,
    marked,
    md5_fingerprint,
    next_page,
    order_of,
    tags_of,
)
from skep.runtime.errors import Corrupt, Denied, Invalid, Unavailable

WISH = DropletDetails(image="debian-13-x64", region="nyc3", size="s-1vcpu-1gb")
DOCTL = """access-token: dop_v1_first
api-url: ""
auth-contexts:
    default: true
    work: 'dop_v1_work'
context: {}
output: text
"""


def test_the_token_that_is_nearest_counts() -> None:
    both = {"DIGITALOCEAN_ACCESS_TOKEN": " a1\n", "DIGITALOCEAN_TOKEN": "b2"}
    for environment, kept, doctl, text, source in (
        (both, "c3", DOCTL, "a1", "DIGITALOCEAN_ACCESS_TOKEN"),
        ({"DIGITALOCEAN_TOKEN": "b2"}, "c3", DOCTL, "b2", "DIGITALOCEAN_TOKEN"),
        ({"DIGITALOCEAN_ACCESS_TOKEN": ""}, "c3", DOCTL, "c3", "the machine's config.json (AccessToken)"),
        ({}, None, DOCTL.format("default"), "dop_v1_first", "doctl.yaml"),
        ({}, 7, DOCTL.format("work"), "dop_v1_work", "doctl.yaml"),
        ({}, "", 'access-token: "dop_v1_x" # mine', "dop_v1_x", "doctl.yaml"),
    ):
        found = find_token(environment, kept, doctl, "doctl.yaml")
        assert found == (text, source)
        assert text not in repr(found)
    for doctl in ("", DOCTL.format("other"), "no: yaml: [", "access-token: \n"):
        with pytest.raises(Denied, match="DIGITALOCEAN_ACCESS_TOKEN"):
            find_token({}, None, doctl, "doctl.yaml")
    with pytest.raises(Invalid, match="what DIGITALOCEAN_TOKEN has is no token"):
        find_token({"DIGITALOCEAN_TOKEN": "a\r\nHost: evil"}, None, "", "")
    assert "s3" not in f"{AccountToken('s3', 'here')}"


def test_the_token_goes_to_an_api_by_tls_or_to_this_machine() -> None:
    for text, url in (
        ("https://api.digitalocean.com/", "https://api.digitalocean.com"),
        ("https://api.digitalocean.com/v2", "https://api.digitalocean.com"),
        ("https://proxy.example:8443/ocean/v2/", "https://proxy.example:8443/ocean"),
        ("http://127.0.0.1:80", "http://127.0.0.1:80"),
        ("http://[::1]:80", "http://[::1]:80"),
        ("http://localhost:1", "http://localhost:1"),
    ):
        assert check_api_url(text) == url
    for text in (
        *(
            "http://api.digitalocean.com",
            "http://127.0.0.1.evil.example",
            "http://10.0.0.1",
            "ftp://127.0.0.1",
        ),
        *(
            "https://",
            "https://a@b.example",
            "https://x?y=z",
            "https://x/#y",
            "",
            "x",
            "https://x:port",
            "http://[::1",
        ),
        "https://a\nb",
    ):
        with pytest.raises(Invalid, match="--digitalocean-api-url"):
            check_api_url(text)


def test_an_order_has_what_is_wanted_and_nothing_else() -> None:
    wanted = DropletDetails(
        image="4711", region="nyc3", size="s", key_id=9, tags="a,b,, a", mark="skep-1", ipv6=True
    )
    assert order_of("mg0", wanted, "") == {
        "name": "mg0",
        "region": "nyc3",
        "size": "s",
        "image": 4711,
        "ssh_keys": [9],
        "backups": False,
        "ipv6": True,
        "monitoring": False,
        "tags": ["a", "b", "skep", "skep-1"],
    }
    vpc = "760e09ef-dc84-11e8-981e-3cfdfeaae000"
    more = order_of("mg0", DropletDetails(image="x", vpc=vpc), "#!/bin/sh")
    assert (more["user_data"], more["vpc_uuid"], more["image"]) == ("#!/bin/sh", vpc, "x")
    with pytest.raises(Invalid, match="51 tags are more than 50"):
        tags_of(DropletDetails(tags=",".join(f"t{number}" for number in range(51))))
    with pytest.raises(Invalid, match="it is an MD5 fingerprint"):
        check_wish(DropletDetails(image="x", region="x", size="x", key_fingerprint="SHA256:abc"))
    check_wish(WISH)


def test_only_a_droplet_with_the_mark_is_ours() -> None:
    """Somebody else's has the same name; whoever answers may have looked for nothing."""
    theirs = Droplet(1, "mg0", "active", tags=("skep", "skep-other"))
    ours = Droplet(2, "mg0", "active", tags=("skep", "skep-1"))
    renamed = Droplet(3, "web", "active", tags=("skep-1",))
    bare = Droplet(4, "mg0", "active", tags=None)
    assert marked((theirs, bare, renamed, ours), "mg0", "skep-1") == ours
    assert marked((theirs, bare, renamed), "mg0", "skep-1") is None
    with pytest.raises(Invalid, match="the droplets 2, 2 are all called mg0"):
        marked((ours, ours), "mg0", "skep-1")


def test_the_public_address_counts() -> None:
    def droplet(*addresses: tuple[str, str]) -> Droplet:
        v4 = tuple(DropletAddress(address, kind) for address, kind in addresses)
        return Droplet(1, "mg0", "active", networks=DropletAddresses(v4))

    assert address_of(droplet(("10.0.0.2", "private"), ("203.0.113.7", "public"))) == "203.0.113.7"
    assert address_of(droplet(("10.0.0.2", "private"))) == ""
    assert address_of(droplet()) == ""
    with pytest.raises(Unavailable, match="an address that is none"):
        address_of(droplet(("-oProxyCommand=x", "public")))


def test_of_a_link_only_the_number_of_the_page_is_taken() -> None:
    assert next_page("", 1) == 0
    assert next_page("https://api.digitalocean.com/v2/droplets?page=2&per_page=200", 1) == 2
    assert next_page("https://evil.example/?page=3", 2) == 3
    for link in (
        "https://x/?page=1",
        "https://x/?page=-9",
        "https://x/",
        "https://x/?page=two",
        "http://[",
        "?page=",
    ):
        with pytest.raises(Unavailable, match="a list goes on at"):
            next_page(link, 1)


def test_limits_say_how_long() -> None:
    now = 1_800_000_000.0
    reset = str(int(now) + 90)
    for headers, attempt, wait_s in (
        ({"Retry-After": "17", "RateLimit-Reset": reset}, 1, 17.0),
        ({"RateLimit-Reset": reset}, 1, 90.0),
        ({"RateLimit-Reset": str(int(now) - 5)}, 1, 1.0),
        ({"Retry-After": "Mon, 30 Nov 2026 18:00:00 GMT", "RateLimit-Reset": reset}, 1, 90.0),
        ({"Retry-After": "nan"}, 3, 8.0),
        ({"Retry-After": "1e300"}, 2, 4.0),
        ({}, 1, 2.0),
        ({}, 99, 64.0),
    ):
        assert limited_s(headers, now, attempt) == wait_s, headers


def test_a_config_that_was_meddled_with_is_refused() -> None:
    members = {"DropletID": 7, "Tags": "a", "AccessToken": "secret", "Future": [1]}
    details = read_details(members, "mg0")
    assert (details.id, details.tags) == (7, "a")
    kept = with_details(members, details)
    assert (kept["AccessToken"], kept["Future"], kept["SSHKeyID"]) == ("secret", [1], 0)
    with pytest.raises(Corrupt, match=r"machine mg0 says of its droplet: Expected `int`.*DropletID"):
        read_details({"DropletID": "7/../../account"}, "mg0")


def test_keys_are_named_as_ssh_keygen_names_them() -> None:
    known = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIOS6Rovy3vigGERwANLlaZPRN/rICmaSqolCGi0KwUG mg0"
    assert md5_fingerprint(known) == "2a:3e:04:80:a0:a7:0a:c1:c9:31:47:85:cc:2a:44:ac"
    for bad in ("ssh-rsa", "ssh-rsa !!!"):
        with pytest.raises(Corrupt):
            md5_fingerprint(bad)
