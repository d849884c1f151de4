"""The differential suite's own parts: what it takes for equal, and what not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.differential.accepted import Accepted
from tests.differential.compare import Outcome, differences
from tests.differential.normalise import normal_json, normal_text
from tests.differential.scenario import scenario

IDS = {"a" * 25: "<service web>", "a" * 12: "<service web>"}


def name(text: str) -> str:
    return IDS.get(text, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a" * 25, "<service web>"),
        ("aaaaaaaaaaaa   web", "<service web>  web"),
        ("unauthorized", "unauthorized"),
        ("2026-11-24T22:46:23.373881071Z", "<time>"),
        ("2026-11-24 22:46:23.373881071 +0000 utc", "<time>"),
        ("Running 8 seconds ago  ", "Running <while> ago"),
        ("Running less than a second ago", "Running <while> ago"),
        ("10.0.0.3/24", "<address>/24"),
        ("172.30.0.0/16", "172.30.0.0/16"),
        ("*:30001->80/tcp", "*:<port>->80/tcp"),
        (
            'docker: refused.\ntime="2026-11-28T22:20:01Z" level=error msg="error waiting for container:'
            ' context canceled"\n',
            "docker: refused.",
        ),
        ("SWMTKN-1-" + "0" * 50 + "-" + "1" * 25, "<token>"),
    ],
)
def test_what_two_swarms_cannot_share_has_a_name(text: str, expected: str) -> None:
    assert normal_text(text, name) == expected


def test_lists_of_objects_are_in_one_order_and_versions_do_not_count() -> None:
    one = [{"Spec": {"Name": "b"}, "Version": {"Index": 7}}, {"Spec": {"Name": "a"}}]
    other = [{"Spec": {"Name": "a"}}, {"Spec": {"Name": "b"}, "Version": {"Index": 9}}]
    assert normal_json(one, name) == normal_json(other, name)


def found(docker: Any, skep: Any) -> list[tuple[str, Any, Any]]:
    sides = [[Outcome("step", {"body": value})] for value in (docker, skep)]
    return [(each.where, each.docker, each.skep) for each in differences("name", *sides)]


def test_differences_say_where() -> None:
    assert found({"a": {"b": 1}}, {"a": {"b": 2}}) == [("body.a.b", 1, 2)]
    assert found({"a": 1}, {}) == [("body.a", 1, "(absent)")]
    assert found({}, {"a": None}) == [("body.a", "(absent)", None)]
    assert found([{"a": 1}], [{"a": 2}]) == [("body[0].a", 1, 2)]
    assert found(["x", "y"], ["x", "z"]) == [("body", "y", "z")]
    assert found(0, False) == [("body", 0, False)]
    assert found({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}) == []


def test_a_difference_is_accepted_only_where_all_of_it_fits() -> None:
    difference = differences("x", [Outcome("s", {"status": 500})], [Outcome("s", {"status": 400})])[0]
    assert Accepted("", "", where="status", docker="500", skep="400").matches(difference, "28.5")
    assert not Accepted("", "", where="status", docker="50", skep="400").matches(difference, "28.5")
    assert not Accepted("", "", where="exit").matches(difference, "28.5")
    assert not Accepted("", "", where="status", engines=r"20\.10").matches(difference, "28.5")


def test_a_plain_step_is_the_docker_client_s() -> None:
    assert scenario("x", "node ls").steps[0].label == "docker node ls"
