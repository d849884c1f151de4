"""Where InfluxDB's three APIs take points, and what is refused before anything is sent."""

from __future__ import annotations

import base64

import pytest

from skep.monitor.influx.target import v1_target, v2_target, v3_target
from skep.runtime.errors import Invalid

URL = "http://influx:8086"


def test_paths_and_the_word_for_seconds() -> None:
    assert v1_target(URL, "swarm 2k").write_url == f"{URL}/write?db=swarm%202k&precision=s"
    assert v2_target(URL, "my org/a/b").write_url == (
        f"{URL}/api/v2/write?org=my%20org&bucket=a%2Fb&precision=s"
    )
    assert v3_target(URL, "d&x=1").write_url == f"{URL}/api/v3/write_lp?db=d%26x%3D1&precision=second"


def test_a_path_of_a_proxy_stays() -> None:
    assert v1_target("https://[::1]:8/insert/0/influx/", "d").write_url == (
        "https://[::1]:8/insert/0/influx/write?db=d&precision=s"
    )


def test_secrets() -> None:
    basic = base64.b64encode("ada:p:ä".encode()).decode()
    assert v1_target(URL, "d").headers("ada:p:ä") == {"Authorization": f"Basic {basic}"}
    assert v1_target(URL, "d").headers("") == {}
    assert v2_target(URL, "o/b").headers("t") == {"Authorization": "Token t"}
    assert v3_target(URL, "d").headers("t") == {"Authorization": "Bearer t"}
    assert "ada" not in repr(v1_target(URL, "d"))


def test_a_database_is_quoted() -> None:
    assert v1_target(URL, 'a"; DROP DATABASE "b\\').create_query == (
        r'CREATE DATABASE "a\"; DROP DATABASE \"b\\"'
    )
    assert not v2_target(URL, "o/b").create_query


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("influx:8086", "must be http"),
        ("tcp://influx:8086", "must be http"),
        ("http://", "must be http"),
        ("http://ada:pw@influx", "SKEP_INFLUX_PASSWORD"),
        ("http://influx/write?db=x", "--v1"),
        ("http://influx:port", "--url"),
        ("http://influx:99999", "--url"),
    ],
)
def test_urls_that_are_none(url: str, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        v1_target(url, "d")


@pytest.mark.parametrize("name", ["", " ", "a\nb"])
def test_names_that_are_none(name: str) -> None:
    for make in (v1_target, v3_target):
        with pytest.raises(Invalid):
            make(URL, name)
    with pytest.raises(Invalid):
        v2_target(URL, f"org/{name}")


def test_an_organization_needs_a_bucket() -> None:
    with pytest.raises(Invalid, match="ORG/BUCKET"):
        v2_target(URL, "org")
