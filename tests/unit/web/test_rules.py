"""Whose requests are answered, and which of the swarm's paths a page may ask."""

from __future__ import annotations

import pytest

from skep.web.rules import is_endless, is_own_host, is_own_page, may_pass


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:1", "localhost", "[::1]:65535"])
def test_this_machine_is_meant(host: str) -> None:
    assert is_own_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost:1@evil.example",
        "127.0.0.2",
        "localhost:",
    ],
)
def test_another_name_that_leads_here_is_not(host: str) -> None:
    assert not is_own_host(host)


@pytest.mark.parametrize(
    ("origin", "site", "is_own"),
    [
        (None, None, True),  # no browser
        (None, "none", True),
        ("http://127.0.0.1:80", "same-origin", True),
        ("http://127.0.0.1:80", None, True),
        ("http://127.0.0.1:81", "same-site", False),
        ("https://127.0.0.1:80", None, False),
        ("null", None, False),
        (None, "cross-site", False),
        (None, "same-site", False),
    ],
)
def test_whose_page_asks(origin: str | None, site: str | None, is_own: bool) -> None:
    assert is_own_page("127.0.0.1:80", origin, site) == is_own


PASSED = [
    "/nodes",
    "/nodes/abc",
    "/services/web.a_b-c",
    "/tasks/x/logs",
    "/services/web/logs",
    "/events",
    "/info",
    "/skep/v1/services/web/explain",
    "/skep/v1/tasks/web.3/explain",
    "/skep/v1/nodes/usage",
    "/skep/v1/tasks/usage",
]
NOT_PASSED = [
    "",
    "/",
    "/swarm",  # it has the tokens
    "/swarm/unlockkey",
    "/nodes/",
    "/nodes/../swarm",
    "/nodes/%2e%2e",
    "/nodes/a/../../swarm",
    "/nodes/a%2Fb",
    "/containers/json",
    "/containers/x/logs",
    "/secrets/x",
    "/v1.41/nodes",
    "//nodes",
    "/skep/v1/backup",
    "/nodes\n",
]


@pytest.mark.parametrize("path", PASSED)
def test_what_a_page_reads(path: str) -> None:
    assert may_pass("GET", path)


@pytest.mark.parametrize("path", NOT_PASSED)
def test_what_it_does_not(path: str) -> None:
    assert not may_pass("GET", path)


def test_two_orders_pass_and_no_others() -> None:
    assert may_pass("POST", "/services/web/update")
    assert may_pass("POST", "/nodes/abc/update")
    for path in ("/services/create", "/swarm/update", "/services/web", "/nodes/a/b/update", *PASSED):
        assert not may_pass("POST", path)
    for method in ("DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "get"):
        assert not may_pass(method, "/nodes/abc")


def test_what_goes_on_until_it_is_ended() -> None:
    assert [path for path in PASSED if is_endless(path)] == ["/tasks/x/logs", "/services/web/logs", "/events"]
